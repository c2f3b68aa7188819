//! libFuzzer around [`checks::terminal_text`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::terminal_text(data));
