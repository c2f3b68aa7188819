//! libFuzzer around [`checks::terminal_screen`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::terminal_screen(data));
