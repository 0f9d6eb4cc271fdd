//! The GenVM host protocol, both ends of it.
