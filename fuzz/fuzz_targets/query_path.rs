//! libFuzzer around [`checks::query_path`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::query_path(data));
