//! Arbitrary greetings and answers, whole handshakes with them, and arbitrary descriptors.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| genvm_transport::fuzzing::greeting(input));
