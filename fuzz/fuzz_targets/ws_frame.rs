//! libFuzzer around [`checks::ws_frame`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::ws_frame(data));
