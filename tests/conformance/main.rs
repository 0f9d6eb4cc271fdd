//! Every built-in transport keeps the twelve promises of `genvm_transport::transport`.
#![cfg(all(unix, any(feature = "uds", feature = "shm", feature = "tcp")))]

mod body;

#[cfg(any(feature = "uds", feature = "shm"))]
use body::socket;

body::conformance! {
    #[cfg(feature = "uds")]
    unix => genvm_transport::uds::UnixTransport, socket("unix");
    #[cfg(feature = "shm")]
    shm => genvm_transport::shm::ShmTransport::sealed(), socket("shm");
    #[cfg(feature = "shm-named")]
    shm_named => genvm_transport::shm::ShmTransport::named(), socket("shm-named");
    #[cfg(feature = "tcp")]
    tcp => genvm_transport::tcp::TcpTransport, || "tcp://127.0.0.1:0".parse().expect("an address");
}
