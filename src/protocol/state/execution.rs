//! The handler of one connection to a [`HostState`].

use std::sync::Arc;

use async_trait::async_trait;

use super::delta::{Delta, Overlay};
use super::world::{State, Storage, read};
use super::{
    Deployment, Environment, EthReplies, EthSend, Event, HostState, Message, NondetResult, Outcome, Role,
    assert_in_slot,
};
use crate::protocol::codec::MAX_FUEL_AS_GEN;
use crate::protocol::error::{Answer, HandlerError};
use crate::protocol::handler::{BlockingHostHandler, HostHandler};
use crate::protocol::types::{Account, LeaderResult, ResultCode, SlotId, Status, StorageMode, U256};

/// One execution on a [`HostState`], and its handler on either face. Never waits, except for the lock of the state when
/// it reads the latest or final one and when it commits.
///
/// Dropped before `consume_result`, its writes are gone. Afterwards it has no state any more: at revision 2, where the connection
/// goes on, storage, balances and another result fail, which ends it; all else is answered as before.
#[derive(Debug)]
pub struct Execution {
    host: HostState,
    environment: Environment,
    /// The state it started from; let go of at the end, so that later commits need not copy it.
    base: Arc<State>,
    /// The running contract's part of `base`.
    own: Option<Arc<Storage>>,
    overlay: Overlay,
    outcome: Outcome,
}

impl Execution {
    pub(super) fn new(host: HostState, base: Arc<State>, environment: Environment) -> Self {
        let own = base.storage(&environment.account).cloned();
        Self { host, environment, base, own, overlay: Overlay::default(), outcome: Outcome::default() }
    }

    /// What it has done so far.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// What it has written so far, sorted by slot and index, neighbouring writes joined; committed or not.
    pub fn deltas(&self) -> Vec<Delta> {
        self.overlay.deltas()
    }

    fn read(&mut self, mode: StorageMode, account: &Account, slot: &SlotId, index: u32, out: &mut [u8]) -> Answer<()> {
        self.running()?;
        if self.environment.account_from_first_read {
            self.environment.account_from_first_read = false;
            self.environment.account = *account;
            self.own = self.base.storage(account).cloned();
        }
        match mode {
            StorageMode::Default if *account == self.environment.account => {
                assert_in_slot(index, out.len());
                let written = self.overlay.slot(slot);
                read(written.or_else(|| self.own.as_ref()?.slot(slot)), index, out);
            }
            StorageMode::Default => {
                assert_in_slot(index, out.len());
                self.base.read(account, slot, index, out);
            }
            StorageMode::LatestFinal | StorageMode::LatestNonFinal => self.host.read(mode, account, slot, index, out),
        }
        Ok(())
    }

    fn write(&mut self, slot: &SlotId, index: u32, data: &[u8]) -> Answer<()> {
        self.running()?;
        assert_in_slot(index, data.len());
        if self.environment.locked_slots.contains(slot) {
            return Err(Status::Forbidden.into());
        }
        if let Some(gas) = &mut self.environment.storage_gas {
            *gas = gas.checked_sub(data.len() as u64).ok_or(Status::OutOfStorageGas)?;
        }
        self.overlay.write(self.own.as_deref(), slot, index, data);
        Ok(())
    }

    fn finish(&mut self, code: ResultCode, data: &[u8]) -> Answer<()> {
        self.running()?;
        self.own = None;
        self.base = Arc::default();
        if code == ResultCode::Return || self.environment.keep_failed {
            let deltas = self.overlay.deltas();
            self.host.world.lock().commit(&self.environment.account, &deltas);
            self.outcome.committed = true;
        }
        self.outcome.result = Some((code, data.to_vec()));
        Ok(())
    }

    /// After the result there is no state to answer from: without this check `base` would answer zeros.
    #[inline]
    fn running(&self) -> Answer<()> {
        if self.outcome.result.is_none() { Ok(()) } else { Err(HandlerError::failed("the execution has ended")) }
    }
}

macro_rules! implement {
    ($(#[$attribute:meta])? $trait:ident { $($async:tt)? } $({ $($more:tt)* })?) => {
        $(#[$attribute])?
        impl $trait for Execution {
            $($async)? fn get_calldata(&mut self) -> Answer<Vec<u8>> {
                Ok(self.environment.calldata.clone())
            }

            #[inline] // one that only passes its arguments on passes them through memory
            $($async)? fn storage_read(
                &mut self,
                mode: StorageMode,
                account: &Account,
                slot: &SlotId,
                index: u32,
                out: &mut [u8],
            ) -> Answer<()> {
                self.read(mode, account, slot, index, out)
            }

            $($async)? fn storage_write(&mut self, slot: &SlotId, index: u32, data: &[u8]) -> Answer<()> {
                self.write(slot, index, data)
            }

            $($async)? fn consume_result(&mut self, code: ResultCode, data: &[u8]) -> Answer<()> {
                self.finish(code, data)
            }

            $($async)? fn get_leader_nondet_result(&mut self, call_no: u32) -> Answer<LeaderResult> {
                Ok(match &self.environment.role {
                    Role::Leader => LeaderResult::IAmLeader,
                    Role::Validator(results) => match results.get(&call_no) {
                        Some((code, data)) => LeaderResult::Result { code: *code, data: data.clone() },
                        None => LeaderResult::Absent,
                    },
                })
            }

            $($async)? fn post_nondet_result(&mut self, call_no: u32, result: &[u8]) -> Answer<()> {
                if self.environment.role != Role::Leader {
                    return Err(Status::Forbidden.into());
                }
                self.outcome.nondet_results.push(NondetResult { call_no, result: result.to_vec() });
                Ok(())
            }

            $($async)? fn post_message(&mut self, account: &Account, calldata: &[u8], data: &str) -> Answer<()> {
                let message = Message { account: *account, calldata: calldata.to_vec(), data: data.to_owned() };
                self.outcome.messages.push(message);
                Ok(())
            }

            $($async)? fn post_event(&mut self, topics: &[[u8; 32]], blob: &[u8]) -> Answer<()> {
                self.outcome.events.push(Event { topics: topics.to_vec(), blob: blob.to_vec() });
                Ok(())
            }

            $($async)? fn consume_fuel(&mut self, gas: U256) -> Answer<()> {
                let gas = gas.to_u64().unwrap_or(u64::MAX);
                self.outcome.fuel_used = self.outcome.fuel_used.saturating_add(gas);
                Ok(())
            }

            $($async)? fn deploy_contract(&mut self, calldata: &[u8], code: &[u8], data: &str) -> Answer<()> {
                let deployment =
                    Deployment { calldata: calldata.to_vec(), code: code.to_vec(), data: data.to_owned() };
                self.outcome.deployments.push(deployment);
                Ok(())
            }

            $($async)? fn eth_call(&mut self, account: &Account, _calldata: &[u8]) -> Answer<Vec<u8>> {
                match &mut self.environment.eth_replies {
                    EthReplies::InOrder(replies) => replies.pop_front(),
                    EthReplies::ByAccount(replies) => replies.get(account).cloned(),
                }
                .ok_or(self.environment.no_eth_reply.into())
            }

            $($async)? fn eth_send(&mut self, account: &Account, calldata: &[u8], data: &str) -> Answer<()> {
                let send = EthSend { account: *account, calldata: calldata.to_vec(), data: data.to_owned() };
                self.outcome.eth_sends.push(send);
                Ok(())
            }

            $($async)? fn get_balance(&mut self, account: &Account) -> Answer<U256> {
                self.running()?;
                Ok(self.base.balance(account))
            }

            $($async)? fn remaining_fuel_as_gen(&mut self) -> Answer<U256> {
                Ok(self.environment.fuel.saturating_sub(self.outcome.fuel_used).min(MAX_FUEL_AS_GEN).into())
            }

            $($async)? fn notify_nondet_disagreement(&mut self, call_no: u32) -> Answer<()> {
                self.outcome.disagreements.push(call_no);
                Ok(())
            }

            $($async)? fn resolve_callcontract_executor(
                &mut self,
                account: &Account,
                _mode: StorageMode,
                _advisory_major: u8,
            ) -> Answer<Vec<u8>> {
                self.environment.executors.get(account).cloned().ok_or(Status::Forbidden.into())
            }

            $($async)? fn run_nested(&mut self, data: &[u8]) -> Answer<Vec<u8>> {
                self.outcome.nested.push(data.to_vec());
                let result = self.environment.nested_results.pop_front();
                result.ok_or_else(|| HandlerError::failed("there is no further result of a nested execution"))
            }

            $($($more)*)?
        }
    };
}

implement!(BlockingHostHandler {});
implement!(#[async_trait] HostHandler { async } {
    #[inline]
    fn storage_read_now(
        &mut self,
        mode: StorageMode,
        account: &Account,
        slot: &SlotId,
        index: u32,
        out: &mut [u8],
    ) -> Option<Answer<()>> {
        Some(self.read(mode, account, slot, index, out))
    }
});
