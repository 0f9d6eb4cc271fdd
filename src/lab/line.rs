//! [`Line`]: how GenVM reaches its host, and what passes beside its calls.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::data;
use super::matrix::Transport;
use super::process::thread_time;
use super::rival::{self, genvm::GenvmStream};
use super::stats::Latencies;
use crate::protocol::HostClient;
use crate::storage::{CacheOptions, PageCache, PageSize, WriteMode};
use crate::{BlockingStream, ConnectOptions, TransportKind, connect};

/// What belongs to a step, but to no call.
#[derive(Debug, Clone, Default)]
pub(super) struct Beside {
    /// CPU time of thinking.
    pub(super) thinking: Duration,
    /// Time of connecting in front of an execution.
    pub(super) connecting: Duration,
    pub(super) executions: Vec<Executed>,
}

/// A whole execution.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Executed {
    /// By its place in the trace.
    pub(super) number: usize,
    /// Connecting included.
    pub(super) ns: f64,
    /// What came to the host, of however many that were made.
    pub(super) calls: u64,
}

/// How to reach the host, and how long to think between calls.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) transport: Transport,
    pub(super) address: String,
    pub(super) options: ConnectOptions,
    pub(super) think: Duration,
    /// Bytes of each ring between the two processes; 0 if they have none.
    pub(super) ring: usize,
    /// What executions have in front of their client.
    pub(super) cache: Option<CacheOptions>,
    pub(super) beside: Beside,
}

pub(super) type Stream = Box<dyn BlockingStream>;
pub(super) type Client = HostClient<Stream>;
pub(super) type Storage = PageCache<Stream>;

impl Line {
    pub(super) fn new(
        transport: Transport,
        address: String,
        options: ConnectOptions,
        think: Duration,
        ring: usize,
    ) -> Self {
        Self { transport, address, options, think, ring: ring.min(LAP), cache: None, beside: Beside::default() }
    }

    /// The same with a cache in front of the client of executions, of pages of so many bytes, if there is to be one.
    pub(super) fn cached(self, page: Option<u32>) -> Result<Self> {
        let options = |page| {
            let page = PageSize::new(page).context("no page has that size")?;
            Ok::<_, anyhow::Error>(CacheOptions::default().with_page_size(page).with_writes(WriteMode::Deferred))
        };
        Ok(Self { cache: page.map(options).transpose()?, ..self })
    }

    pub(super) fn stream(&self) -> Result<Stream> {
        Ok(match self.transport {
            Transport::Genvm => Box::new(GenvmStream::new(self.connect(TransportKind::Unix)?)),
            Transport::Uds => self.connect(TransportKind::Unix)?,
            Transport::Shm => self.connect(TransportKind::Shm)?,
            Transport::ShmNamed => self.connect(TransportKind::ShmNamed)?,
            Transport::Tcp => self.connect(TransportKind::Tcp)?,
            rival => rival::connect(rival, &self.address, &self.options.stream)?,
        })
    }

    /// A stream that is what its row will say.
    pub(super) fn connect(&self, expected: TransportKind) -> Result<Stream> {
        let stream = connect(&self.address, &self.options)?;
        ensure!(stream.kind() == expected, "{} was reached over {}", self.address, stream.kind());
        Ok(stream)
    }

    pub(super) fn client(&self) -> Result<Client> {
        Ok(HostClient::new(self.stream()?))
    }

    /// A client of the first account with the cache in front of it.
    pub(super) fn storage(&self) -> Result<Storage> {
        let options = self.cache.clone().context("no cache was asked for")?;
        Ok(PageCache::new(self.client()?, data::account(0), options))
    }

    /// GenVM computes.
    #[inline]
    pub(super) fn think(&mut self) {
        if !self.think.is_zero() {
            let (started, before) = (Instant::now(), thread_time());
            while started.elapsed() < self.think {
                std::hint::spin_loop();
            }
            self.beside.thinking += thread_time().saturating_sub(before);
        }
    }

    /// Thinks, then calls.
    #[inline]
    pub(super) fn call(
        &mut self,
        latencies: Option<&mut Latencies>,
        call: impl FnOnce(&Self) -> Result<()>,
    ) -> Result<u64> {
        self.think();
        match latencies {
            None => call(self)?,
            Some(latencies) => {
                let before = Instant::now();
                call(self)?;
                latencies.record(before.elapsed());
            }
        }
        Ok(1)
    }
}

/// Of larger rings only this much is touched beforehand.
const LAP: usize = 16 << 20;
