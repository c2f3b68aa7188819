//! libFuzzer around [`checks::chunked_body`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::chunked_body(data));
