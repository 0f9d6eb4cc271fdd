//! The methods, and which byte means which in which [`Revision`].

use std::fmt;

/// What GenVM asks of its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the names are the protocol's; `HostClient` documents what each does")]
pub enum Method {
    GetCalldata,
    StorageRead,
    StorageWrite,
    ConsumeResult,
    GetLeaderNondetResult,
    PostNondetResult,
    PostMessage,
    PostEvent,
    ConsumeFuel,
    DeployContract,
    EthCall,
    EthSend,
    GetBalance,
    RemainingFuelAsGen,
}

impl Method {
    /// The protocol's name, such as `storage_read`.
    pub fn name(self) -> &'static str {
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
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A revision of the protocol: a table from ids to methods. Both ends have to choose the same; the wire does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Revision {
    /// 14 methods: what the hosts in the field speak.
    #[default]
    One,
}

impl Revision {
    /// The methods of this revision; the place is the id.
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

    /// The method with this id.
    pub fn method(self, id: u8) -> Option<Method> {
        self.methods().get(usize::from(id)).copied()
    }

    /// The id of a method, if this revision has it.
    pub fn id(self, method: Method) -> Option<u8> {
        self.methods().iter().position(|known| *known == method).map(|id| id as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_the_protocol() {
        assert_eq!(Revision::One.id(Method::StorageRead), Some(1));
        assert_eq!(Revision::One.id(Method::ConsumeFuel), Some(8));
        assert_eq!(Revision::One.id(Method::RemainingFuelAsGen), Some(13));
        for id in 0..=u8::MAX {
            let method = Revision::One.method(id);
            assert_eq!(method.is_some(), id < 14);
            assert!(method.is_none_or(|method| Revision::One.id(method) == Some(id)));
        }
    }
}
