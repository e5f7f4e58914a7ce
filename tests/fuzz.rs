//! Fuzzing without a special toolchain: every target of `fuzz/` runs here on its seeds, and for a while on what a small
//! mutator makes of them.
//!
//! `cargo test --test fuzz` takes two seconds a target, from the same beginning every time. For longer:
//! `POSTERN_FUZZ_SECONDS=120 cargo test --test fuzz -- --nocapture`, which begins elsewhere each time and says where.
//! `POSTERN_FUZZ_SEED` begins there again. An input that fails is written to `target/fuzz/`, as short as it could be made;
//! once it is mended, the input goes to the target's seeds. `fuzz/README.md` says how to go on with coverage.

#![allow(clippy::unwrap_used, clippy::print_stdout, unreachable_pub, missing_docs, reason = "tests")]

#[path = "fuzz/harness.rs"]
mod harness;
#[path = "fuzz/mutate.rs"]
mod mutate;
/// The targets: of each one function from bytes to nothing, which panics if something is not as it must be. They are the
/// same for libFuzzer (`fuzz/`), and know neither it nor this harness.
#[path = "fuzz/targets"]
mod targets {
    pub mod config_file;
    pub mod credential;
    pub mod headers;
    pub mod path;
    pub mod pipeline;
    pub mod proxy_protocol;
    pub mod token_format;
}

use targets::{config_file, credential, headers, path, pipeline, proxy_protocol, token_format};

#[test]
fn credentials() {
    harness::run("credential", credential::WORDS, credential::check);
}

#[test]
fn the_token_format() {
    harness::run("token_format", token_format::WORDS, token_format::check);
}

#[test]
fn the_configuration_file() {
    harness::run("config_file", config_file::WORDS, config_file::check);
}

#[test]
fn paths() {
    harness::run("path", path::WORDS, path::check);
}

#[test]
fn header_hygiene() {
    harness::run("headers", headers::WORDS, headers::check);
}

#[test]
fn the_proxy_protocol() {
    harness::run("proxy_protocol", proxy_protocol::WORDS, proxy_protocol::check);
}

#[test]
fn the_request_pipeline() {
    harness::run("pipeline", pipeline::WORDS, pipeline::check);
}
