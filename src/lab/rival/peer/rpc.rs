//! tarpc over a Unix-domain socket, with bincode. It sleeps, as tokio does.

use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use futures::StreamExt;
use futures::future::ready;
use parking_lot::Mutex;
use serde_bytes::ByteBuf;
use tarpc::serde_transport::unix;
use tarpc::server::{BaseChannel, Channel};
use tarpc::tokio_serde::formats::Bincode;
use tarpc::{client, context};
use tokio::runtime::{Builder, Runtime};

use super::super::message::{Exchange, answer};
use crate::lab::serving::World;
use crate::protocol::Execution;

#[tarpc::service]
trait Calls {
    /// The answers to some requests.
    async fn call(requests: ByteBuf) -> Result<ByteBuf, String>;
}

pub(super) struct Caller {
    runtime: Runtime,
    client: CallsClient,
}

impl Caller {
    pub(super) fn connect(path: &Path) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let client = runtime.block_on(async {
            let transport = unix::connect(path, Bincode::default).await?;
            Ok::<_, io::Error>(CallsClient::new(client::Config::default(), transport).spawn())
        })?;
        Ok(Self { runtime, client })
    }
}

impl Exchange for Caller {
    const NAME: &'static str = "tarpc";

    fn exchange(&mut self, requests: &[u8], answers: &mut Vec<u8>) -> io::Result<usize> {
        let call = self.client.call(context::current(), ByteBuf::from(requests));
        let answer = self.runtime.block_on(call).map_err(io::Error::other)?.map_err(io::Error::other)?;
        answers.extend_from_slice(&answer);
        Ok(requests.len())
    }
}

#[derive(Clone)]
struct Host(Arc<Mutex<Execution>>);

impl Calls for Host {
    async fn call(self, _: context::Context, requests: ByteBuf) -> Result<ByteBuf, String> {
        answer(&mut self.0.lock(), &requests).map(ByteBuf::from).map_err(|error| error.to_string())
    }
}

pub(super) fn serve(path: &Path, world: Arc<World>) -> Result<()> {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let incoming = runtime.block_on(unix::listen(path, Bincode::default))?;
    runtime.spawn(incoming.filter_map(|stream| ready(stream.ok())).for_each(move |stream| {
        let host = Host(Arc::new(Mutex::new(world.execution())));
        // One call after another, in the task that reads them: nothing is handed to another thread.
        tokio::spawn(BaseChannel::with_defaults(stream).execute(host.serve()).for_each(|response| response));
        ready(())
    }));
    std::mem::forget(runtime); // it ends with the process
    Ok(())
}
