//! Core dumps: off, since a dump holds the requests that were under way, and with them tokens and passwords.
//!
//! What must not live here: what of memory is wiped after use, which is its owner's.

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// From now on nothing of this process' memory is written to a file when it crashes, and other processes of the same user cannot
/// read it (`prctl(2)`, `PR_SET_DUMPABLE`). The limit alone would not do: it does not bind a system that pipes dumps to a program
/// (`core(5)`). What fails is logged; the process goes on.
pub fn switch_off() {
    let limit = getrlimit(Resource::Core);
    let limited = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: limit.maximum });
    for failure in [limited, set_dumpable_behavior(DumpableBehavior::NotDumpable)] {
        if let Err(error) = failure {
            tracing::warn!(error = %error, "core dumps stay possible; forbid them from outside (LimitCORE=0)");
        }
    }
}

#[cfg(test)]
mod tests {
    //! What the system says of this process afterwards. (Of the whole process: no other test looks at it.)

    use rustix::process::{DumpableBehavior, Resource, dumpable_behavior, getrlimit};

    #[test]
    fn nothing_is_dumped() {
        super::switch_off();
        assert_eq!(getrlimit(Resource::Core).current, Some(0));
        assert_eq!(dumpable_behavior().ok(), Some(DumpableBehavior::NotDumpable));
    }
}
