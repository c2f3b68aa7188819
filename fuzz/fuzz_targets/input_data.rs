//! libFuzzer around [`checks::input_data`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::input_data(data));
