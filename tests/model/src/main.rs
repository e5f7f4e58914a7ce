//! The pieces that take no lock on a request's way, under every order in which the steps of a few threads can come, memory that
//! shows a write later than its writer did it included (loom explores both).
//!
//! What is compiled here is Postern's own code, file by file, with another `primitives` and stand-ins for the plain values that
//! it carries. `cargo run --manifest-path tests/model/Cargo.toml` explores all models within some seconds, with at most so many
//! preemptions as each says; `POSTERN_MODEL_PREEMPTIONS=4` allows more, which can take very long. `… -- NAME` explores one.

#![allow(dead_code, unreachable_pub, unused_imports, reason = "of the code that is checked a part is used")]

mod directory;
mod models;
mod policy;
mod primitives;

use source::slab;

#[path = "../../../src"]
mod source {
    pub(crate) mod slab;
}

#[path = "../../../src/token"]
mod token {
    pub mod cache;
    pub mod usage;

    pub use cache::{TokenCache, TokenEntry, TokenIndex};

    /// A digest that a model can choose.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct TokenDigest(pub [u64; 4]);

    impl TokenDigest {
        pub(super) fn words(&self) -> [u64; 4] {
            self.0
        }
    }

    /// As the real one's, in its order.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum TokenKind {
        Application,
        Personal,
        Session,
    }

    impl TokenKind {
        pub const ALL: [Self; 3] = [Self::Application, Self::Personal, Self::Session];
    }
}

#[path = "../../../src/limit"]
mod limit {
    pub(crate) mod bucket;

    #[path = "../../tests/model/src/models/limits.rs"]
    pub(crate) mod models;
}

#[path = "../../../src/worker"]
mod worker {
    pub(crate) mod in_force;
}

fn main() {
    let wanted = std::env::args().nth(1);
    let mut explored = 0;
    for (name, preemptions, model) in models::ALL {
        if wanted.as_ref().is_none_or(|wanted| name.contains(wanted.as_str())) {
            models::explore(name, preemptions, model);
            explored += 1;
        }
    }
    assert!(explored > 0, "there is no such model");
}
