//! Methods and the revisions that number them.
//!
//! [`Method`] is the union over all revisions; a [`Revision`] is a table from ids to methods. Nothing else in the
//! protocol knows an id, and what differs between revisions beyond the ids (the width of a number) asks the revision.

use std::fmt;

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
        }
    }

    /// Whether the host answers it at all.
    pub const fn is_answered(self) -> bool {
        !matches!(self, Self::ConsumeFuel)
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
        }
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
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_methods_map_both_ways() {
        for id in 0..=u8::MAX {
            match Revision::One.method(id) {
                Some(method) => assert_eq!(Revision::One.id(method), Some(id)),
                None => assert!(id >= 14),
            }
        }
    }
}
