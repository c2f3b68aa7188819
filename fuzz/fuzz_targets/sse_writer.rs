//! libFuzzer around [`checks::sse_writer`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::sse_writer(data));
