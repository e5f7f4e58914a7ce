//! File descriptors: as many as the system allows this process, since each connection takes two.
//!
//! What must not live here: the limit on connections, which is the configuration's.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit on open files to the hard one, and returns what holds then; `None`: no limit.
///
/// Distributions keep the soft limit low for the sake of programs that use `select`; this one does not.
pub fn raise_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return limit.current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(error = %error, "the limit on open files stays as it is");
            limit.current
        }
    }
}

/// The limit on connections that so many open files allow: each takes one for the client and one for the upstream.
pub fn connections_allowed(open_files: u64) -> u64 {
    const KEPT_FOR_OTHERS: u64 = 64;
    open_files.saturating_sub(KEPT_FOR_OTHERS) / 2
}

#[cfg(test)]
mod tests {
    //! The limit is raised, and told in connections.

    use super::{connections_allowed, raise_limit};

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let raised = raise_limit();
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        assert_eq!((limit.current, limit.current), (raised, limit.maximum));
    }

    #[test]
    fn connections_take_two_each() {
        assert_eq!(connections_allowed(1064), 500);
        assert_eq!(connections_allowed(10), 0);
    }
}
