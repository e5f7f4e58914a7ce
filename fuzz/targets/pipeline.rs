//! libFuzzer's entry to the target of the same name; nothing else belongs here.

#![no_main]

#[path = "../../tests/fuzz/targets/pipeline.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| target::check(bytes));
