//! Nothing: only what `Cargo.toml` beside it names is of use.
