//! libFuzzer around [`checks::entry_json`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::entry_json(data));
