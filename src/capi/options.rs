//! The choices of a connection as a text, for `genvm_connect_with` and `genvm_listen_with`: a text can be written in any language, and
//! a new choice changes no layout. It knows no default of its own, and nothing that a program in C could not use.

use std::time::Duration;

use super::genvm_status::GENVM_ARGUMENT;
use super::guard::Failure;
use crate::options::{ConnectOptions, Fallback, ListenOptions, PeerPolicy, RingCapacity, StreamOptions};
use crate::wait::WaitStrategy;

pub(super) fn to_connect(text: &str) -> Result<ConnectOptions, Failure> {
    let mut options = ConnectOptions::default();
    for (name, value) in pairs(text)? {
        match name {
            "timeout-ms" => options.timeout = Duration::from_millis(number(name, value)?),
            "fallback" => {
                options.fallback = one_of(name, value, &[("fail", Fallback::Fail), ("plain", Fallback::Plain)])?
            }
            _ => {
                let both = Both(&mut options.stream, &mut options.allowed_peers, &mut options.upgrades);
                both.choose(name, value, "timeout-ms, fallback")?;
            }
        }
    }
    Ok(options)
}

pub(super) fn to_listen(text: &str) -> Result<ListenOptions, Failure> {
    let mut options = ListenOptions::default();
    for (name, value) in pairs(text)? {
        match name {
            "mode" => {
                let mode = u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o777);
                options.socket_mode = mode.ok_or_else(|| wrong(name, value, "octal permissions such as 0660"))?
            }
            _ => {
                let both = Both(&mut options.stream, &mut options.allowed_peers, &mut options.upgrades);
                both.choose(name, value, "mode")?;
            }
        }
    }
    Ok(options)
}

/// What either end may choose: of its stream, whom it lets be its peer, and whether it upgrades.
struct Both<'a>(&'a mut StreamOptions, &'a mut PeerPolicy, &'a mut bool);

impl Both<'_> {
    fn choose(self, name: &str, value: &str, others: &str) -> Result<(), Failure> {
        let Self(stream, peers, upgrades) = self;
        match name {
            "wait" => {
                let known =
                    [("park", WaitStrategy::Park), ("adaptive", WaitStrategy::ADAPTIVE), ("spin", WaitStrategy::Spin)];
                stream.wait = Some(one_of(name, value, &known)?);
            }
            "ring-kib" => {
                let bytes = number(name, value)?.checked_mul(1024).and_then(|bytes| bytes.try_into().ok());
                let capacity = bytes.and_then(RingCapacity::new);
                stream.ring_capacity =
                    capacity.ok_or_else(|| wrong(name, value, "a power of two from 4 to 1048576"))?;
            }
            "users" => *peers = users(value)?,
            "upgrades" => *upgrades = one_of(name, value, &[("yes", true), ("no", false)])?,
            _ => {
                let known = format!("no option `{name}`; known: wait, ring-kib, users, upgrades, {others}");
                return Err(Failure::new(GENVM_ARGUMENT, known));
            }
        }
        Ok(())
    }
}

/// `name=value`, separated by commas. Blanks around them do not count.
fn pairs(text: &str) -> Result<Vec<(&str, &str)>, Failure> {
    let texts = text.split(',').filter(|pair| !pair.trim().is_empty());
    texts
        .map(|text| {
            let no_pair = || Failure::new(GENVM_ARGUMENT, format!("option `{}`: expected name=value", text.trim()));
            text.split_once('=').map(|(name, value)| (name.trim(), value.trim())).ok_or_else(no_pair)
        })
        .collect()
}

fn users(value: &str) -> Result<PeerPolicy, Failure> {
    match value {
        "same" => Ok(PeerPolicy::SameUser),
        "any" => Ok(PeerPolicy::Any),
        ids => {
            let ids: Result<_, _> = ids.split('+').map(str::parse).collect();
            Ok(PeerPolicy::Users(ids.map_err(|_| wrong("users", value, "same, any, or user ids such as 1000+1001"))?))
        }
    }
}

fn one_of<T: Copy>(name: &str, value: &str, known: &[(&str, T)]) -> Result<T, Failure> {
    let found = known.iter().find(|(known, _)| *known == value);
    found.map(|(_, is)| *is).ok_or_else(|| {
        let known: Vec<_> = known.iter().map(|(known, _)| *known).collect();
        wrong(name, value, &known.join(" or "))
    })
}

fn number(name: &str, value: &str) -> Result<u64, Failure> {
    value.parse().map_err(|_| wrong(name, value, "a number"))
}

fn wrong(name: &str, value: &str, expected: &str) -> Failure {
    Failure::new(GENVM_ARGUMENT, format!("option {name}: `{value}` is not {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_is_taken() {
        let connect =
            to_connect("wait=adaptive, ring-kib=256 ,users=0+1000,upgrades=no,timeout-ms=250,fallback=plain,")
                .expect("options");
        assert_eq!(connect.stream.wait, Some(WaitStrategy::ADAPTIVE));
        assert_eq!(connect.stream.ring_capacity.bytes(), 256 << 10);
        assert_eq!(connect.allowed_peers, PeerPolicy::Users(vec![0, 1000]));
        assert_eq!((connect.upgrades, connect.timeout), (false, Duration::from_millis(250)));
        assert_eq!(connect.fallback, Fallback::Plain);
        let listen = to_listen("mode=0660,users=any,upgrades=yes,wait=park").expect("options");
        assert_eq!((listen.socket_mode, listen.upgrades), (0o660, true));
        assert_eq!((listen.allowed_peers, listen.stream.wait), (PeerPolicy::Any, Some(WaitStrategy::Park)));
        assert_eq!(to_listen("users=same").expect("options").allowed_peers, PeerPolicy::SameUser);
        assert_eq!(format!("{:?}", to_connect("").expect("none")), format!("{:?}", ConnectOptions::default()));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (text, says) in [
            ("wait", "option `wait`: expected name=value"),
            ("wait=never", "option wait: `never` is not park or adaptive or spin"),
            ("ring-kib=100", "option ring-kib: `100` is not a power of two from 4 to 1048576"),
            (
                "ring-kib=18446744073709551615",
                "option ring-kib: `18446744073709551615` is not a power of two from 4 to 1048576",
            ),
            ("users=", "option users: `` is not same, any, or user ids such as 1000+1001"),
            ("timeout-ms=-1", "option timeout-ms: `-1` is not a number"),
            ("mode=0660", "no option `mode`; known: wait, ring-kib, users, upgrades, timeout-ms, fallback"),
        ] {
            let failure = to_connect(text).expect_err(text);
            assert!(format!("{failure:?}").contains(says), "{failure:?}");
        }
        for text in ["mode=1000", "mode=9", "mode=", "fallback=plain", "upgrades=1"] {
            assert!(to_listen(text).is_err(), "{text}");
        }
    }
}
