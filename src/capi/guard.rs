//! What every function of the C interface ends with: [`guarded`] turns a failure into its status and keeps its text for
//! `genvm_last_error`, and lets no panic through.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::genvm_status;
use crate::error::{AcceptError, ConnectError, ListenError};

/// Why a call failed: what C is told, and what `genvm_last_error` says.
#[derive(Debug)]
pub(super) struct Failure {
    status: genvm_status,
    text: String,
}

impl Failure {
    pub(super) fn new(status: genvm_status, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }

    pub(super) fn null() -> Self {
        Self::new(genvm_status::GENVM_NULL, "a pointer is null")
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let status = match error.kind() {
            ErrorKind::TimedOut => genvm_status::GENVM_TIMED_OUT,
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => {
                genvm_status::GENVM_CLOSED
            }
            ErrorKind::InvalidData => genvm_status::GENVM_INVALID_DATA,
            _ => genvm_status::GENVM_IO,
        };
        Self::new(status, error.to_string())
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let status = match &error {
            ConnectError::Address(_) | ConnectError::Transport(_) => genvm_status::GENVM_ARGUMENT,
            _ => genvm_status::GENVM_FAILED,
        };
        Self::new(status, error.to_string())
    }
}

impl From<ListenError> for Failure {
    fn from(error: ListenError) -> Self {
        let status = match &error {
            ListenError::Address(_) | ListenError::Transport(_) => genvm_status::GENVM_ARGUMENT,
            _ => genvm_status::GENVM_FAILED,
        };
        Self::new(status, error.to_string())
    }
}

impl From<AcceptError> for Failure {
    fn from(error: AcceptError) -> Self {
        let status = match &error {
            AcceptError::Closed => genvm_status::GENVM_CLOSED,
            error if error.is_fatal() => genvm_status::GENVM_IO,
            _ => genvm_status::GENVM_FAILED,
        };
        Self::new(status, error.to_string())
    }
}

thread_local! {
    static LAST_ERROR: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs `body`. A panic in it ends here; who has something that a panic can leave half done looks after it himself.
pub(super) fn guarded(body: impl FnOnce() -> Result<(), Failure>) -> genvm_status {
    let failure = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return genvm_status::GENVM_OK,
        Ok(Err(failure)) => failure,
        Err(panic) => {
            let said = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
            let failure = Failure::new(genvm_status::GENVM_PANIC, format!("a panic: {}", said.unwrap_or("of no text")));
            // What was thrown may throw again when it is dropped.
            std::mem::forget(panic);
            failure
        }
    };
    // A thread that is ending has no place for a text any more.
    let _ = LAST_ERROR.try_with(|text| *text.borrow_mut() = failure.text);
    failure.status
}

/// Shows `look` this thread's last failure, an empty text if there was none.
pub(super) fn last_error(look: impl Fn(&str)) {
    if LAST_ERROR.try_with(|text| look(&text.borrow())).is_err() {
        look("");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last() -> String {
        let text = RefCell::new(String::new());
        last_error(|error| error.clone_into(&mut text.borrow_mut()));
        text.into_inner()
    }

    #[test]
    fn a_panic_is_a_status_and_a_text() {
        assert_eq!(last(), "");
        assert_eq!(guarded(|| panic!("number {}", 7)), genvm_status::GENVM_PANIC);
        assert_eq!(last(), "a panic: number 7");
        assert_eq!(guarded(|| std::panic::panic_any(7)), genvm_status::GENVM_PANIC);
        assert_eq!(last(), "a panic: of no text");
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("once more");
            }
        }
        assert_eq!(guarded(|| std::panic::panic_any(Bomb)), genvm_status::GENVM_PANIC);
    }

    #[test]
    fn a_text_stays_until_the_next_failure_and_is_its_threads_own() {
        assert_eq!(guarded(|| Err(Failure::null())), genvm_status::GENVM_NULL);
        assert_eq!(guarded(|| Ok(())), genvm_status::GENVM_OK);
        assert_eq!(last(), "a pointer is null");
        assert_eq!(std::thread::spawn(last).join().unwrap(), "");
    }
}
