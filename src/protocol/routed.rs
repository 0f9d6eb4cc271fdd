//! [`RoutedClient`]: several hosts, each for some of the methods.
//!
//! It holds connections and picks one for each call. It does not connect, share, or copy a call to several hosts.

use std::io::{Read, Write};

use super::client::HostClient;
use super::codec::Request;
use super::error::CallError;
use super::method::Method;
use super::reply::Reply;

/// Connections to several hosts, with each method routed to one of them, as GenVM's `method_hosts` has it.
///
/// Each host sees an execution of its own in which only its methods are called. `consume_result` goes where it is routed, by
/// default to the main host; the others see their connections closed when this is dropped, which is how an execution ends for
/// them.
///
/// ```
/// # use std::{os::unix::net::UnixStream, thread};
/// # use genvm_transport::protocol::*;
/// # let (main, mut node) = UnixStream::pair()?;
/// # let mut execution = HostState::new().begin(Environment { fuel: 7, ..Environment::default() });
/// # thread::spawn(move || serve_blocking(&mut node, &mut execution, &Protocol::ONE));
/// # let (evm, mut node) = UnixStream::pair()?;
/// # let replies = EthReplies::InOrder([b"seen".to_vec()].into());
/// # let mut execution = HostState::new().begin(Environment { eth_replies: replies, ..Environment::default() });
/// # thread::spawn(move || serve_blocking(&mut node, &mut execution, &Protocol::ONE));
/// let mut hosts = RoutedClient::new(HostClient::new(main));
/// hosts.route([Method::EthCall, Method::EthSend], HostClient::new(evm));
///
/// let reply = hosts.call(&Request::EthCall { account: Account([1; 20]), calldata: b"" })?; // the second host's
/// assert_eq!(reply, Reply::Bytes(b"seen".into()));
/// assert_eq!(hosts.host(Method::RemainingFuelAsGen).remaining_fuel_as_gen()?, 7.into()); // the main one's
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct RoutedClient<S> {
    /// The main host first.
    hosts: Vec<HostClient<S>>,
    /// Which of them; the main one where a method is not mentioned, the last mention where it is more than once.
    routes: Vec<(Method, usize)>,
}

impl<S: Read + Write> RoutedClient<S> {
    /// All methods go to `main`, until they are [routed](Self::route).
    pub fn new(main: HostClient<S>) -> Self {
        Self { hosts: vec![main], routes: Vec::new() }
    }

    /// From now on `methods` go to `host`.
    pub fn route(&mut self, methods: impl IntoIterator<Item = Method>, host: HostClient<S>) {
        let place = self.hosts.len();
        self.hosts.push(host);
        self.routes.extend(methods.into_iter().map(|method| (method, place)));
    }

    /// The host that `method` is routed to, for that method's call, or for a [`Batch`](super::Batch) of such calls.
    pub fn host(&mut self, method: Method) -> &mut HostClient<S> {
        let place = self.routes.iter().rfind(|(routed, _)| *routed == method).map_or(0, |&(_, place)| place);
        &mut self.hosts[place]
    }

    /// Makes a call, wherever its method is routed to.
    ///
    /// # Errors
    /// Those of [`HostClient::call`].
    pub fn call(&mut self, request: &Request<'_>) -> Result<Reply, CallError> {
        self.host(request.method()).call(request)
    }
}
