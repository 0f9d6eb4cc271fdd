//! Methods and the revisions that number them.
//!
//! [`Method`] is the union over all revisions; a [`Revision`] is a table from ids to methods. Nothing else in the
//! protocol knows an id, and what differs between revisions beyond the ids (the width of a number) asks the revision.

use std::fmt;

use super::types::{Status, UnknownByte};

/// A call that GenVM makes to its host, whatever its id on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Method {
    /// `get_calldata`
    GetCalldata,
    /// `storage_read`
    StorageRead,
    /// `storage_write`
    StorageWrite,
    /// `consume_result`
    ConsumeResult,
    /// `get_leader_nondet_result`
    GetLeaderNondetResult,
    /// `post_nondet_result`
    PostNondetResult,
    /// `post_message`
    PostMessage,
    /// `post_event`
    PostEvent,
    /// `consume_fuel`
    ConsumeFuel,
    /// `deploy_contract`
    DeployContract,
    /// `eth_call`
    EthCall,
    /// `eth_send`
    EthSend,
    /// `get_balance`
    GetBalance,
    /// `remaining_fuel_as_gen`
    RemainingFuelAsGen,
    /// `notify_nondet_disagreement`
    NotifyNondetDisagreement,
    /// `resolve_callcontract_executor`
    ResolveCallcontractExecutor,
    /// `run_nested`
    RunNested,
}

impl Method {
    /// Its name in the protocol.
    pub const fn name(self) -> &'static str {
        match self {
            Self::GetCalldata => "get_calldata",
            Self::StorageRead => "storage_read",
            Self::StorageWrite => "storage_write",
            Self::ConsumeResult => "consume_result",
            Self::GetLeaderNondetResult => "get_leader_nondet_result",
            Self::PostNondetResult => "post_nondet_result",
            Self::PostMessage => "post_message",
            Self::PostEvent => "post_event",
            Self::ConsumeFuel => "consume_fuel",
            Self::DeployContract => "deploy_contract",
            Self::EthCall => "eth_call",
            Self::EthSend => "eth_send",
            Self::GetBalance => "get_balance",
            Self::RemainingFuelAsGen => "remaining_fuel_as_gen",
            Self::NotifyNondetDisagreement => "notify_nondet_disagreement",
            Self::ResolveCallcontractExecutor => "resolve_callcontract_executor",
            Self::RunNested => "run_nested",
        }
    }

    /// Whether the host answers it at all.
    pub const fn is_answered(self) -> bool {
        !matches!(self, Self::ConsumeFuel | Self::NotifyNondetDisagreement)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A revision of the protocol: which methods there are and which byte names each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Revision {
    /// The 14 methods that GenVM and its hosts speak today.
    #[default]
    One,
    /// The 9 methods of GenVM's current release line: writes, messages and events are GenVM's own, and come with the result.
    Two,
}

impl Revision {
    /// Its methods; the place of each is its id.
    #[inline]
    pub const fn methods(self) -> &'static [Method] {
        match self {
            Self::One => &[
                Method::GetCalldata,
                Method::StorageRead,
                Method::StorageWrite,
                Method::ConsumeResult,
                Method::GetLeaderNondetResult,
                Method::PostNondetResult,
                Method::PostMessage,
                Method::PostEvent,
                Method::ConsumeFuel,
                Method::DeployContract,
                Method::EthCall,
                Method::EthSend,
                Method::GetBalance,
                Method::RemainingFuelAsGen,
            ],
            Self::Two => &[
                Method::StorageRead,
                Method::ConsumeFuel,
                Method::EthCall,
                Method::GetBalance,
                Method::RemainingFuelAsGen,
                Method::NotifyNondetDisagreement,
                Method::ConsumeResult,
                Method::ResolveCallcontractExecutor,
                Method::RunNested,
            ],
        }
    }

    /// Its statuses; the place of each is its byte.
    pub const fn statuses(self) -> &'static [Status] {
        match self {
            Self::One => &[Status::Ok, Status::Absent, Status::Forbidden, Status::IAmLeader, Status::OutOfStorageGas],
            Self::Two => &[Status::Ok, Status::EvmReverted, Status::Forbidden],
        }
    }

    /// The status that `byte` stands for.
    ///
    /// # Errors
    /// The revision has none for it.
    #[inline]
    pub fn status(self, byte: u8) -> Result<Status, UnknownByte> {
        let expected = match self {
            Self::One => "0 ok, 1 absent, 2 forbidden, 3 i_am_leader, 4 out_of_storage_gas",
            Self::Two => "0 ok, 1 evm_reverted, 2 forbidden",
        };
        let status = self.statuses().get(usize::from(byte)).copied();
        status.ok_or(UnknownByte { byte, what: "status", expected })
    }

    /// The byte that stands for `status`, if this revision has it.
    pub fn status_byte(self, status: Status) -> Option<u8> {
        self.statuses().iter().position(|known| *known == status).map(|byte| byte as u8)
    }

    /// The method that `id` names, if any.
    #[inline]
    pub fn method(self, id: u8) -> Option<Method> {
        self.methods().get(usize::from(id)).copied()
    }

    /// The id of `method`, if this revision has it.
    #[inline]
    pub const fn id(self, method: Method) -> Option<u8> {
        // A loop, so that the answer for a constant method is a constant.
        let methods = self.methods();
        let mut id = 0;
        while id < methods.len() {
            if methods[id] as u8 == method as u8 {
                return Some(id as u8);
            }
            id += 1;
        }
        None
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::One => "1",
            Self::Two => "2",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_methods_map_both_ways() {
        for (revision, methods) in [(Revision::One, 14), (Revision::Two, 9)] {
            for id in 0..=u8::MAX {
                match revision.method(id) {
                    Some(method) => assert_eq!(revision.id(method), Some(id)),
                    None => assert!(id >= methods),
                }
            }
        }
        assert_eq!(Revision::Two.id(Method::StorageWrite), None);
    }

    #[test]
    fn statuses_and_bytes_map_both_ways() {
        for (revision, statuses) in [(Revision::One, 5), (Revision::Two, 3)] {
            for byte in 0..=u8::MAX {
                let back = revision.status(byte).ok().and_then(|status| revision.status_byte(status));
                assert_eq!(back, (byte < statuses).then_some(byte));
            }
        }
        assert_eq!(Revision::Two.status_byte(Status::Absent), None);
        assert_eq!(
            Revision::Two.status(9).unwrap_err().to_string(),
            "9 is no status (expected 0 ok, 1 evm_reverted, 2 forbidden)"
        );
    }
}
