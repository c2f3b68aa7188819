//! libFuzzer around [`checks::terminal_queries`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::terminal_queries(data));
