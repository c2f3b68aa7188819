//! libFuzzer around [`checks::response_head`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::response_head(data));
