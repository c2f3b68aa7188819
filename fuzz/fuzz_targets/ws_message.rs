//! libFuzzer around [`checks::ws_message`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::ws_message(data));
