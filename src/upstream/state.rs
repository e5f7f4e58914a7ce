//! What is known of an upstream while it is served, by all workers together: where it is, and how that fares. It outlives
//! a reload that does not change the upstream.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::limits::Occupancy;
use super::resolve::Families;
use super::target::{Place, Target};
use crate::config::{EndpointConfig, UpstreamConfig};

/// What all workers and the control side know of one upstream.
#[derive(Debug)]
pub struct State {
    targets: ArcSwap<Vec<Arc<Target>>>,
    /// Where its clock begins.
    started: Instant,
    /// Requests under way; counted where that is limited.
    pub(super) requests: Arc<Occupancy>,
    /// Connections that are being opened; counted where that is limited.
    pub(super) connecting: Arc<Occupancy>,
    /// Held while targets are replaced: each endpoint's name is looked up by a task of its own.
    replacing: Mutex<()>,
    /// Held while an address is ejected.
    pub(super) ejecting: Mutex<()>,
}

/// How a name's addresses have changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// Those that are new.
    pub(crate) added: Vec<IpAddr>,
    /// Where requests went that go there no more.
    pub(crate) removed: Vec<String>,
}

impl State {
    /// As configured, with nothing known.
    pub(super) fn new(config: &UpstreamConfig) -> Self {
        Self::of(&config.endpoints)
    }

    fn of(endpoints: &[EndpointConfig]) -> Self {
        let places = endpoints.iter().map(Place::of).enumerate();
        let targets = places.map(|(endpoint, place)| Arc::new(Target::new(endpoint, place))).collect();
        Self {
            targets: ArcSwap::from_pointee(targets),
            started: Instant::now(),
            requests: Arc::default(),
            connecting: Arc::default(),
            replacing: Mutex::new(()),
            ejecting: Mutex::new(()),
        }
    }

    /// Where requests can go; at least one.
    pub fn targets(&self) -> Arc<Vec<Arc<Target>>> {
        self.targets.load_full()
    }

    /// The addresses that an endpoint's name has from now on; at least one. What is known of those that stay, stays known.
    /// What has changed, if anything has.
    ///
    /// Of a name with addresses of both families those are asked that take connections. Where only those of IPv4 do, or none
    /// does, an only one of these is tried at those of IPv6 when it takes no connection, as with `localhost`, where services listen
    /// on either; with several, nobody knows which of the others is the same host.
    pub(crate) fn resolved(
        &self,
        endpoint: usize,
        port: u16,
        addresses: &[IpAddr],
        taking: Families,
    ) -> Option<Change> {
        let (four, six): (Vec<&IpAddr>, Vec<&IpAddr>) =
            addresses.iter().partition(|address| address.is_ipv4());
        let (asked, others) = match (four.len(), taking) {
            (0, _) => (six, Vec::new()),
            (_, Families { four: false, six: true }) => (six, Vec::new()),
            (_, Families { four: true, six: true }) => (addresses.iter().collect(), Vec::new()),
            (1, Families { six: false, .. }) => (four, six),
            (_, Families { six: false, .. }) => (four, Vec::new()),
        };
        let others: Vec<_> = others.iter().map(|address| SocketAddr::new(**address, port)).collect();
        let others = Arc::new(others);
        let _one_at_a_time = self.replacing.lock();
        let before = self.targets();
        let of_endpoint = |target: &&Arc<Target>| target.endpoint == endpoint;
        let mut targets: Vec<_> = before.iter().filter(|target| !of_endpoint(target)).cloned().collect();
        let mut change = Change::default();
        for address in asked {
            let place = Place::Address(SocketAddr::new(*address, port));
            let known = before.iter().filter(of_endpoint).find(|target| target.place == place);
            let target = known.cloned().unwrap_or_else(|| {
                change.added.push(*address);
                Arc::new(Target::new(endpoint, place))
            });
            target.others.store(Arc::clone(&others));
            targets.push(target);
        }
        let is_gone = |target: &&Arc<Target>| !targets.iter().any(|stays| Arc::ptr_eq(stays, target));
        change.removed = before.iter().filter(is_gone).map(|target| target.place.to_string()).collect();
        if change == Change::default() {
            return None;
        }
        targets.sort_by_key(|target| target.endpoint);
        self.targets.store(Arc::new(targets));
        Some(change)
    }

    /// A moment on its clock, in milliseconds.
    pub(crate) fn milliseconds(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.started).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    //! Names whose addresses come and go.

    use super::*;

    fn state() -> State {
        let endpoint = |host: &str, port| EndpointConfig {
            address: crate::config::EndpointAddress::Host { host: host.into(), port },
            label: format!("{host}:{port}"),
        };
        let endpoints = [endpoint("192.0.2.9", 1), endpoint("name.test", 2), endpoint("192.0.2.9", 3)];
        State::of(&endpoints)
    }

    fn places(state: &State) -> Vec<String> {
        state.targets().iter().map(|target| target.place.to_string()).collect()
    }

    #[track_caller]
    fn resolve(state: &State, addresses: &[&str], expected: &[&str]) -> Option<Change> {
        resolve_taking(state, addresses, Families::default(), expected)
    }

    #[track_caller]
    fn resolve_taking(
        state: &State,
        addresses: &[&str],
        taking: Families,
        expected: &[&str],
    ) -> Option<Change> {
        let addresses: Vec<_> =
            addresses.iter().map(|address| address.parse().expect("an address")).collect();
        let change = state.resolved(1, 2, &addresses, taking);
        let expected = [&["192.0.2.9:1"], expected, &["192.0.2.9:3"]].concat();
        assert_eq!(places(state), expected);
        change
    }

    #[test]
    fn what_stays_stays_the_same() {
        let state = state();
        assert_eq!(places(&state), ["192.0.2.9:1", "name.test:2", "192.0.2.9:3"]);
        let change = resolve(&state, &["192.0.2.1", "192.0.2.2"], &["192.0.2.1:2", "192.0.2.2:2"]);
        assert_eq!(change.map(|change| change.removed), Some(vec!["name.test:2".to_owned()]));
        let second = Arc::clone(&state.targets()[2]);
        assert_eq!(resolve(&state, &["192.0.2.1", "192.0.2.2"], &["192.0.2.1:2", "192.0.2.2:2"]), None);
        let change = resolve(&state, &["192.0.2.2", "192.0.2.3"], &["192.0.2.2:2", "192.0.2.3:2"]);
        let added = change.map(|change| (change.added, change.removed));
        assert_eq!(
            added,
            Some((vec!["192.0.2.3".parse().expect("an address")], vec!["192.0.2.1:2".to_owned()]))
        );
        assert!(Arc::ptr_eq(&second, &state.targets()[1]), "what is known of it stays known");
    }

    #[test]
    fn of_two_families_those_are_asked_that_take_connections() {
        let state = state();
        let name = ["192.0.2.1", "192.0.2.2", "2001:db8::1"];
        let (four, six) = (["192.0.2.1:2", "192.0.2.2:2"], ["[2001:db8::1]:2"]);
        let taking = |four, six| Families { four, six };
        let both = [&four[..], &six].concat();
        resolve_taking(&state, &name, taking(true, true), &both);
        let kept = Arc::clone(&state.targets()[3]);
        assert_eq!(resolve_taking(&state, &name, taking(true, true), &both), None);
        resolve_taking(&state, &name, taking(false, true), &six);
        assert!(Arc::ptr_eq(&kept, &state.targets()[1]), "what is known of it stays known");
        resolve_taking(&state, &name, taking(true, false), &four);
        resolve_taking(&state, &name, taking(false, false), &four);
        // Without a choice nothing was tried.
        resolve_taking(&state, &["2001:db8::1"], taking(false, false), &six);
        resolve_taking(
            &state,
            &["192.0.2.1", "2001:db8::1"],
            taking(true, true),
            &["192.0.2.1:2", "[2001:db8::1]:2"],
        );
        assert_eq!(state.targets()[1].others.load().to_vec(), [], "it is asked itself");
    }

    #[test]
    fn of_two_families_one_is_asked_and_the_other_is_the_way_out() {
        let state = state();
        resolve(&state, &["192.0.2.1", "2001:db8::1"], &["192.0.2.1:2"]);
        let others = |position: usize| state.targets()[position].others.load().to_vec();
        assert_eq!(others(1), ["[2001:db8::1]:2".parse().expect("an address")]);
        assert_eq!(resolve(&state, &["192.0.2.1"], &["192.0.2.1:2"]), None);
        assert_eq!(others(1), []);
        resolve(&state, &["192.0.2.1", "192.0.2.2", "2001:db8::1"], &["192.0.2.1:2", "192.0.2.2:2"]);
        assert_eq!((others(1), others(2)), (vec![], vec![]), "nobody knows whose it is");
        resolve(&state, &["2001:db8::1", "2001:db8::2"], &["[2001:db8::1]:2", "[2001:db8::2]:2"]);
    }
}
