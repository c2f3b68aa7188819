//! libFuzzer around [`checks::json_body`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::json_body(data));
