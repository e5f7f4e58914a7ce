//! Attacks byte by byte, row by row of the list of what Postern has to withstand: what a client sends, what it is told, and what
//! a recording service behind sees. Each is tried with a permitted token and without one, in the clear and over TLS.
//!
//! To add an attack, add a line to a table: `wire/row_….rs`, one file for each row. What the words in a table mean is in
//! `wire/case.rs`, how a case is tried and what must hold for all of them in `wire/place.rs`. What does not fit a table is a
//! test beside it.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests; figures are shown")]

mod support;

#[path = "wire/case.rs"]
mod case;
#[path = "wire/place.rs"]
mod place;
#[path = "wire/rows.rs"]
mod rows;
#[path = "wire/vectors.rs"]
mod vectors;
