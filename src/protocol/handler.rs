//! What a host has to answer: [`HostHandler`] on tokio, [`BlockingHostHandler`] on a thread of its own.
//!
//! One handler serves one connection, hence one execution, one request after another, in order.

use async_trait::async_trait;

use super::error::Answer;
use super::types::{Account, LeaderResult, ResultCode, SlotId, StorageMode, U256};

/// Both traits are this one list, with and without `async`.
macro_rules! handler {
    ($(#[$attribute:meta])* $name:ident $(, $async:ident)?) => {
        $(#[$attribute])*
        pub trait $name: Send {
            /// The message's calldata.
            $($async)? fn get_calldata(&mut self) -> Answer<Vec<u8>>;

            /// Fills `out` from `slot` of `account`, starting at byte `index`; bytes never written are zero.
            ///
            /// A long read is asked for in pieces of at most 64 KiB, in order, with nothing in between; only the first may
            /// answer with a status.
            $($async)? fn storage_read(
                &mut self,
                mode: StorageMode,
                account: &Account,
                slot: &SlotId,
                index: u32,
                out: &mut [u8],
            ) -> Answer<()>;

            /// Writes into `slot` of the running contract; `index` and the length together reach at most 2^32.
            $($async)? fn storage_write(&mut self, slot: &SlotId, index: u32, data: &[u8]) -> Answer<()>;

            /// Takes the result; the connection ends with the answer. An error keeps GenVM from getting one.
            $($async)? fn consume_result(&mut self, code: ResultCode, data: &[u8]) -> Answer<()>;

            /// The leader's result of block `call_no`.
            $($async)? fn get_leader_nondet_result(&mut self, call_no: u32) -> Answer<LeaderResult>;

            /// Takes this node's result of block `call_no`, as the leader.
            $($async)? fn post_nondet_result(&mut self, call_no: u32, result: &[u8]) -> Answer<()>;

            /// Takes a message to another contract; `data` is meant to be JSON.
            $($async)? fn post_message(&mut self, account: &Account, calldata: &[u8], data: &str) -> Answer<()>;

            /// Takes an event.
            $($async)? fn post_event(&mut self, topics: &[[u8; 32]], blob: &[u8]) -> Answer<()>;

            /// Charges gas. GenVM is not answered: a status is of no use here, only an error ends the connection.
            $($async)? fn consume_fuel(&mut self, gas: u64) -> Answer<()>;

            /// Takes a deployment; `data` is meant to be JSON.
            $($async)? fn deploy_contract(&mut self, calldata: &[u8], code: &[u8], data: &str) -> Answer<()>;

            /// Calls an EVM contract.
            $($async)? fn eth_call(&mut self, account: &Account, calldata: &[u8]) -> Answer<Vec<u8>>;

            /// Takes a message to an EVM contract; `data` is meant to be JSON.
            $($async)? fn eth_send(&mut self, account: &Account, calldata: &[u8], data: &str) -> Answer<()>;

            /// An account's balance.
            $($async)? fn get_balance(&mut self, account: &Account) -> Answer<U256>;

            /// How much fuel is left, in GEN; at most 2^53 − 1.
            $($async)? fn remaining_fuel_as_gen(&mut self) -> Answer<u64>;
        }
    };
}

handler! {
    /// A host's answers, where finding them may have to be awaited. Each call is one boxed future; a handler that has
    /// everything in memory is better off as a [`BlockingHostHandler`], in [`Immediate`] on tokio.
    #[async_trait]
    HostHandler, async
}

handler! {
    /// A host's answers, where finding them may block the thread.
    BlockingHostHandler
}

/// A [`BlockingHostHandler`] that never blocks for long, as a [`HostHandler`].
#[derive(Debug, Clone, Default)]
pub struct Immediate<H>(pub H);

#[async_trait]
impl<H: BlockingHostHandler> HostHandler for Immediate<H> {
    async fn get_calldata(&mut self) -> Answer<Vec<u8>> {
        self.0.get_calldata()
    }
    async fn storage_read(
        &mut self,
        mode: StorageMode,
        account: &Account,
        slot: &SlotId,
        index: u32,
        out: &mut [u8],
    ) -> Answer<()> {
        self.0.storage_read(mode, account, slot, index, out)
    }
    async fn storage_write(&mut self, slot: &SlotId, index: u32, data: &[u8]) -> Answer<()> {
        self.0.storage_write(slot, index, data)
    }
    async fn consume_result(&mut self, code: ResultCode, data: &[u8]) -> Answer<()> {
        self.0.consume_result(code, data)
    }
    async fn get_leader_nondet_result(&mut self, call_no: u32) -> Answer<LeaderResult> {
        self.0.get_leader_nondet_result(call_no)
    }
    async fn post_nondet_result(&mut self, call_no: u32, result: &[u8]) -> Answer<()> {
        self.0.post_nondet_result(call_no, result)
    }
    async fn post_message(&mut self, account: &Account, calldata: &[u8], data: &str) -> Answer<()> {
        self.0.post_message(account, calldata, data)
    }
    async fn post_event(&mut self, topics: &[[u8; 32]], blob: &[u8]) -> Answer<()> {
        self.0.post_event(topics, blob)
    }
    async fn consume_fuel(&mut self, gas: u64) -> Answer<()> {
        self.0.consume_fuel(gas)
    }
    async fn deploy_contract(&mut self, calldata: &[u8], code: &[u8], data: &str) -> Answer<()> {
        self.0.deploy_contract(calldata, code, data)
    }
    async fn eth_call(&mut self, account: &Account, calldata: &[u8]) -> Answer<Vec<u8>> {
        self.0.eth_call(account, calldata)
    }
    async fn eth_send(&mut self, account: &Account, calldata: &[u8], data: &str) -> Answer<()> {
        self.0.eth_send(account, calldata, data)
    }
    async fn get_balance(&mut self, account: &Account) -> Answer<U256> {
        self.0.get_balance(account)
    }
    async fn remaining_fuel_as_gen(&mut self) -> Answer<u64> {
        self.0.remaining_fuel_as_gen()
    }
}
