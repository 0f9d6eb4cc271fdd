//! Where a host is: [`Address`], parsed once, printed back in its full form.
//!
//! Parsing does not touch the file system and does not ask whether the transport is compiled in; that is
//! [`connection`](crate::connection)'s job, so that an address from a newer build still reads as what it is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The address of a host, in the form that GenVM's `--host` takes.
///
/// | text | meaning | feature |
/// | --- | --- | --- |
/// | `unix:///run/host.sock` | Unix-domain socket at that path | `uds` |
/// | `fd://3` | a connected stream socket inherited as descriptor 3 | `uds` |
/// | `shm:///run/host.sock` | shared memory, agreed on over the Unix socket at that path | `shm` |
/// | `shm-named:///run/host.sock` | the same with named segments, for peers that trust each other | `shm-named` |
/// | `tcp://127.0.0.1:7000`, or just `127.0.0.1:7000` | TCP | `tcp` |
/// | `NAME://REST` | a transport added by [`Transports::with`](crate::Transports::with) | – |
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// `unix://PATH`
    Unix(PathBuf),
    /// `fd://N`
    Fd(i32),
    /// `shm://PATH`
    Shm(PathBuf),
    /// `shm-named://PATH`
    ShmNamed(PathBuf),
    /// `tcp://HOST:PORT`; the host is resolved when connecting.
    Tcp(String),
    /// Anything else with a scheme: for transports that third parties add.
    Custom {
        /// The part before `://`: lower-case letters, digits, `+`, `-` and `.`.
        scheme: String,
        /// The part after it, verbatim.
        rest: String,
    },
}

impl Address {
    /// The part before `://`, by which a transport is chosen.
    pub fn scheme(&self) -> &str {
        match self {
            Self::Unix(_) => "unix",
            Self::Fd(_) => "fd",
            Self::Shm(_) => "shm",
            Self::ShmNamed(_) => "shm-named",
            Self::Tcp(_) => "tcp",
            Self::Custom { scheme, .. } => scheme,
        }
    }

    /// The socket's path, where the address has one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Unix(path) | Self::Shm(path) | Self::ShmNamed(path) => Some(path),
            Self::Fd(_) | Self::Tcp(_) | Self::Custom { .. } => None,
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let error = |reason| AddressError { text: text.to_owned(), reason };
        let Some((scheme, rest)) = text.split_once("://") else {
            return if host_and_port(text) { Ok(Self::Tcp(text.to_owned())) } else { Err(error(Reason::NoScheme)) };
        };
        let path = || match rest {
            "" => Err(error(Reason::EmptyPath)),
            // The kernel reads a path up to its first NUL: such a text would name another file.
            _ if rest.contains('\0') => Err(error(Reason::NulInPath)),
            _ => Ok(PathBuf::from(rest)),
        };
        match scheme {
            "unix" => Ok(Self::Unix(path()?)),
            "shm" => Ok(Self::Shm(path()?)),
            "shm-named" => Ok(Self::ShmNamed(path()?)),
            "fd" => match rest.parse() {
                Ok(fd) if fd >= 0 => Ok(Self::Fd(fd)),
                _ => Err(error(Reason::BadDescriptor)),
            },
            "tcp" if host_and_port(rest) => Ok(Self::Tcp(rest.to_owned())),
            "tcp" => Err(error(Reason::BadHostPort)),
            _ if is_scheme(scheme) => Ok(Self::Custom { scheme: scheme.to_owned(), rest: rest.to_owned() }),
            _ => Err(error(Reason::BadScheme)),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) | Self::Shm(path) | Self::ShmNamed(path) => {
                write!(f, "{}://{}", self.scheme(), path.display())
            }
            Self::Fd(fd) => write!(f, "fd://{fd}"),
            Self::Tcp(host_port) => write!(f, "tcp://{host_port}"),
            Self::Custom { scheme, rest } => write!(f, "{scheme}://{rest}"),
        }
    }
}

/// A text that is no [`Address`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no host address: {reason}")]
pub struct AddressError {
    text: String,
    reason: Reason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Reason {
    #[error("it has no scheme (write unix:///path, shm:///path, tcp://host:port or fd://number)")]
    NoScheme,
    #[error("the path is empty")]
    EmptyPath,
    #[error("the path contains a NUL byte")]
    NulInPath,
    #[error("after fd:// a descriptor number is expected, such as fd://3")]
    BadDescriptor,
    #[error("after tcp:// host:port is expected, such as tcp://127.0.0.1:7000")]
    BadHostPort,
    #[error("a scheme starts with a letter and has lower-case letters, digits, `+`, `-` and `.` only")]
    BadScheme,
}

fn host_and_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '+' | '-' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_reads_and_prints_back() {
        for text in [
            "unix:///run/h.sock",
            "unix://relative.sock",
            "shm:///a b",
            "shm-named:///x",
            "fd://0",
            "tcp://[::1]:80",
            "quic+x://y://z",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!("localhost:7000".parse(), Ok(Address::Tcp("localhost:7000".into())));
    }

    #[test]
    fn nonsense_is_refused_with_its_reason() {
        for (text, reason) in [
            ("", Reason::NoScheme),
            ("/run/h.sock", Reason::NoScheme),
            ("host:99999", Reason::NoScheme),
            ("unix://", Reason::EmptyPath),
            ("shm://", Reason::EmptyPath),
            ("unix:///a\0b", Reason::NulInPath),
            ("fd://-1", Reason::BadDescriptor),
            ("fd://x", Reason::BadDescriptor),
            ("tcp://host", Reason::BadHostPort),
            ("tcp://:80", Reason::BadHostPort),
            ("Unix:///x", Reason::BadScheme),
            ("://x", Reason::BadScheme),
        ] {
            assert_eq!(text.parse::<Address>(), Err(AddressError { text: text.to_owned(), reason }), "{text:?}");
        }
    }
}
