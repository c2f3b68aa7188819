//! libFuzzer around [`checks::json_lossy`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::json_lossy(data));
