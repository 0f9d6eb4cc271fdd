//! Arbitrary values in every shared word, between the steps of both ends of a connection.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| genvm_transport::fuzzing::ring(input));
