//! libFuzzer around [`checks::log_ops`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::log_ops(data));
