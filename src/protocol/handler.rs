//! What a host has to be able to do: [`HostHandler`] for a tokio task, [`BlockingHostHandler`] for a thread.
//!
//! One text defines both traits. A handler serves **one** connection, that is one execution.

use async_trait::async_trait;

use super::error::{Answer, HandlerError};
use super::types::{Account, LeaderResult, ResultCode, SlotId, Status, StorageMode, U256};

macro_rules! handler_trait {
    ($(#[$attribute:meta])* pub trait $name:ident $(: $bound:ident)? { $($async:tt)? } $({ $($more:tt)* })?) => {
        $(#[$attribute])*
        ///
        /// # Errors
        /// Each method returns the answer, a [`Status`](crate::protocol::Status) that GenVM is told
        /// ([`HandlerError::Status`](crate::protocol::HandlerError::Status)), or
        /// [`HandlerError::Failed`](crate::protocol::HandlerError::Failed), which ends the connection.
        #[allow(clippy::missing_errors_doc, reason = "the same for every call: the trait has them")]
        pub trait $name $(: $bound)? {
            /// The contract's input.
            $($async)? fn get_calldata(&mut self) -> Answer<Vec<u8>>;

            /// Fills `out`, which comes zeroed, with the bytes of a slot from `index` on. Never asked beyond the slot's
            /// 2^32 bytes. A read of more than 32 KiB comes as several calls with rising indices; only the first of
            /// them may answer a status.
            $($async)? fn storage_read(
                &mut self,
                mode: StorageMode,
                account: &Account,
                slot: &SlotId,
                index: u32,
                out: &mut [u8],
            ) -> Answer<()>;

            /// Writes to a slot of the running contract. Never asked beyond the slot's 2^32 bytes.
            $($async)? fn storage_write(&mut self, slot: &SlotId, index: u32, data: &[u8]) -> Answer<()>;

            /// The execution has ended; decides what becomes of its writes. The last call at revision 1. Cannot answer a status.
            $($async)? fn consume_result(&mut self, code: ResultCode, data: &[u8]) -> Answer<()>;

            /// The leader's result of a nondeterministic block.
            $($async)? fn get_leader_nondet_result(&mut self, call_no: u32) -> Answer<LeaderResult>;

            /// This node's own result of a nondeterministic block, which it ran as the leader.
            $($async)? fn post_nondet_result(&mut self, call_no: u32, result: &[u8]) -> Answer<()>;

            /// A message to another contract; `data` is JSON (checked to be UTF-8, no more).
            $($async)? fn post_message(&mut self, account: &Account, calldata: &[u8], data: &str) -> Answer<()>;

            /// An event.
            $($async)? fn post_event(&mut self, topics: &[[u8; 32]], blob: &[u8]) -> Answer<()>;

            /// Fuel was used. Has no answer on the wire, so it cannot answer a status.
            $($async)? fn consume_fuel(&mut self, gas: U256) -> Answer<()>;

            /// A contract to deploy; `data` is JSON.
            $($async)? fn deploy_contract(&mut self, calldata: &[u8], code: &[u8], data: &str) -> Answer<()>;

            /// A view call into an EVM contract.
            $($async)? fn eth_call(&mut self, account: &Account, calldata: &[u8]) -> Answer<Vec<u8>>;

            /// A message to an EVM contract; `data` is JSON.
            $($async)? fn eth_send(&mut self, account: &Account, calldata: &[u8], data: &str) -> Answer<()>;

            /// An account's balance.
            $($async)? fn get_balance(&mut self, account: &Account) -> Answer<U256>;

            /// Fuel that is left; at revision 1 at most [`MAX_FUEL_AS_GEN`](crate::protocol::MAX_FUEL_AS_GEN).
            $($async)? fn remaining_fuel_as_gen(&mut self) -> Answer<U256>;

            /// This node got another result for a nondeterministic block than the leader. Has no answer on the wire, so it cannot
            /// answer a status. Revision 2; does nothing unless a host cares.
            $($async)? fn notify_nondet_disagreement(&mut self, _call_no: u32) -> Answer<()> {
                Ok(())
            }

            /// Which executor is to run a call into another contract. Revision 2; forbidden unless a host knows more than one.
            $($async)? fn resolve_callcontract_executor(
                &mut self,
                _account: &Account,
                _mode: StorageMode,
                _advisory_major: u8,
            ) -> Answer<Vec<u8>> {
                Err(Status::Forbidden.into())
            }

            /// An execution inside this one. Its answer has no status on the wire. Revision 2; ends the connection unless a host
            /// can.
            $($async)? fn run_nested(&mut self, _data: &[u8]) -> Answer<Vec<u8>> {
                Err(HandlerError::failed("this host runs nothing nested"))
            }

            $($($more)*)?
        }
    };
}

handler_trait! {
    /// A host on a tokio runtime, for [`serve`](crate::protocol::serve()).
    ///
    /// Its futures are dropped where they stand when the connection's future is dropped.
    #[async_trait]
    pub trait HostHandler: Send { async } {
        /// Answers a `storage_read` if that needs no waiting; with `None`, the default, `storage_read` is awaited.
        ///
        /// Most calls are small reads that a host has in memory. This spares them the boxed future that an async
        /// method of a trait costs.
        fn storage_read_now(
            &mut self,
            _mode: StorageMode,
            _account: &Account,
            _slot: &SlotId,
            _index: u32,
            _out: &mut [u8],
        ) -> Option<Answer<()>> {
            None
        }
    }
}

handler_trait! {
    /// A host on a thread of its own, for [`serve_blocking`](crate::protocol::serve_blocking).
    ///
    /// A panic in it unwinds through the serve loop.
    pub trait BlockingHostHandler {}
}
