#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| providers::fuzzing::broken_fields(data));
