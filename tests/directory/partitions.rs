//! Two sidecars and one store between which links are cut, break amid an answer and come back, in an order that one number
//! decides: synchronizers, views, operations and store are the real ones, only the links are not.
//!
//! It must hold that no token which a sidecar has refused as revoked is ever let in by it again, over restarts too; that a
//! sidecar which cannot reach the store decides as before; that what was changed through a sidecar is in force there before
//! it is acknowledged; and that, once everything is mended, both see what the store says.
//!
//! Ids are random, so the same number leads to the same steps, not to the same ids. `POSTERN_SIMULATION_SEEDS=500` simulates
//! so many, `POSTERN_SIMULATION_SEED=7` that one.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use parking_lot::Mutex;
use postern::config::StoreConfig;
use postern::directory::model::{Timestamp, Token};
use postern::directory::operations::{self as op, Revocation};
use postern::directory::sqlite::SqliteStore;
use postern::directory::{DirectoryView, Store, Synchronizer};
use postern::token::TokenDigest;
use tempfile::TempDir;

use super::link::Link;
use super::world::{Random, World};
use super::{NOW, ORGANIZATION, OTHER_ORGANIZATION, PROJECTS};

/// Simulations of a usual run.
const SEEDS: u64 = 4;

/// Steps of one simulation; everything is mended and compared after each part.
const PARTS: usize = 6;
const STEPS: usize = 40;

#[test]
fn sidecars_that_lose_the_store_now_and_then_revive_no_token_and_come_to_see_what_it_says() {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    let seeds = match number("POSTERN_SIMULATION_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=number("POSTERN_SIMULATION_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        let simulated = panic::catch_unwind(AssertUnwindSafe(|| Simulation::new(seed).run()));
        if let Err(panic) = simulated {
            eprintln!("this was with POSTERN_SIMULATION_SEED={seed}");
            panic::resume_unwind(panic);
        }
    }
}

/// Whoever changes the directory directly.
struct Operator {
    world: World,
    store: SqliteStore,
}

struct Simulation {
    random: Random,
    operator: Arc<Mutex<Operator>>,
    sidecars: [Sidecar; 2],
    _folder: TempDir,
}

struct Sidecar {
    link: Arc<Link>,
    /// `None`: it could not start yet.
    running: Option<(Synchronizer, Arc<DirectoryView>)>,
    /// Prefixes of the tokens that it has refused as revoked.
    revoked: BTreeSet<String>,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let folder = TempDir::new().unwrap();
        let config = StoreConfig {
            path: folder.path().join("directory.sqlite"),
            create_if_missing: true,
            stale_after: None,
        };
        let store = SqliteStore::open(&config).unwrap();
        for organization in [ORGANIZATION, OTHER_ORGANIZATION] {
            op::ensure_organization(&store, organization, "Example", NOW).unwrap();
        }
        for project in PROJECTS {
            op::ensure_project(&store, project, ORGANIZATION, NOW).unwrap();
        }
        let operator = Arc::new(Mutex::new(Operator { world: World::new(seed), store }));
        let sidecar = || {
            let elsewhere = Arc::clone(&operator);
            let elsewhere = Arc::new(move || elsewhere.lock().step());
            let link = Arc::new(Link::new(SqliteStore::open(&config).unwrap(), elsewhere));
            let mut sidecar = Sidecar { link, running: None, revoked: BTreeSet::new() };
            sidecar.start();
            sidecar
        };
        let sidecars = [sidecar(), sidecar()];
        Self { random: Random::new(!seed), operator, sidecars, _folder: folder }
    }

    fn run(mut self) {
        for part in 0..PARTS {
            for _ in 0..STEPS {
                self.step();
                let (tokens, _) = self.tokens();
                self.sidecars.iter_mut().for_each(|sidecar| sidecar.check(&tokens));
            }
            self.compare(part);
        }
        let (tokens, _) = self.tokens();
        let revoked = self.sidecars.iter().map(|sidecar| sidecar.revoked.len()).min().unwrap();
        assert!(tokens.len() > 10 && revoked > 0, "the steps make sense too rarely");
    }

    /// All tokens that were ever made, and the time.
    fn tokens(&self) -> (Vec<Token>, Timestamp) {
        let operator = self.operator.lock();
        (operator.world.tokens.clone(), operator.world.now)
    }

    fn step(&mut self) {
        let looks = self.random.below(40) as u32;
        let sidecar = self.random.below(2);
        match self.random.below(20) {
            0..=6 => {
                let operations = 1 + self.random.below(6);
                (0..operations).for_each(|_| self.operator.lock().step());
            }
            7..=10 => self.sidecars[sidecar].follow(),
            11 => self.sidecars[sidecar].link.cut(),
            12 => self.mend(sidecar),
            13 => self.sidecars[sidecar].link.cut_after(looks),
            14 => {
                self.sidecars[sidecar].link.cut_after(looks);
                self.sidecars[sidecar].follow();
                self.mend(sidecar);
            }
            15 => self.sidecars[sidecar].link.elsewhere_after(looks),
            16 => self.sidecars[sidecar].link.delay_versions(looks / 8),
            17 => self.sidecars[sidecar].start(),
            18 => self.sidecars[sidecar].link.lose_answers(),
            _ => self.revoke_through(sidecar),
        }
    }

    /// A sidecar reaches the store again: it has all that it missed at the next look.
    fn mend(&mut self, sidecar: usize) {
        let sidecar = &mut self.sidecars[sidecar];
        sidecar.link.mend();
        let Some((synchronizer, _)) = &sidecar.running else { return };
        let store: &dyn Store = &self.operator.lock().store;
        let last = store.read(|records| records.sequence()).unwrap();
        assert_eq!(synchronizer.apply_pending().unwrap(), last, "a change is missed for good");
    }

    /// Somebody revokes a token through a sidecar.
    fn revoke_through(&mut self, sidecar: usize) {
        let (tokens, now) = self.tokens();
        let Some(token) = tokens.get(self.random.below(tokens.len())) else { return };
        let Sidecar { link, running, .. } = &self.sidecars[sidecar];
        let Some((synchronizer, view)) = running else { return };
        let Ok(revoked) = op::revoke_token(&**link, &token.token_prefix, now) else { return };
        if synchronizer.apply_through(revoked.sequence).is_err() {
            return;
        }
        assert!(matches!(revoked.value, Revocation::Revoked(_) | Revocation::AlreadyRevoked(_)));
        assert!(synchronizer.sequence() >= revoked.sequence);
        assert!(is_revoked(view, &token.digest), "acknowledged, and not in force");
    }

    /// With everything mended, both sidecars see what the store says.
    fn compare(&mut self, part: usize) {
        for sidecar in &mut self.sidecars {
            sidecar.link.mend();
            if sidecar.running.is_none() {
                sidecar.start();
            }
        }
        let operator = self.operator.lock();
        // Of the very directory that the sidecars follow, by a connection of its own.
        let config = StoreConfig {
            path: operator.store.location().into(),
            create_if_missing: false,
            stale_after: None,
        };
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&config).unwrap());
        let last = store.read(|records| records.sequence()).unwrap();
        let (_, afresh) = Synchronizer::start(store, Default::default()).unwrap();
        let expected = operator.world.seen(&afresh);
        for (number, sidecar) in self.sidecars.iter().enumerate() {
            let (synchronizer, view) = sidecar.running.as_ref().unwrap();
            let sequence = synchronizer.apply_pending().unwrap();
            assert_eq!(sequence, last, "sidecar {number} after part {part}");
            assert_eq!(operator.world.seen(view), expected, "sidecar {number} after part {part}");
        }
    }
}

impl Operator {
    fn step(&mut self) {
        self.world.pass_time();
        let Self { world, store } = self;
        world.step(store);
    }
}

impl Sidecar {
    /// Starts, or starts again from what the store has.
    fn start(&mut self) {
        self.running = None;
        let store: Arc<dyn Store> = Arc::clone(&self.link) as Arc<dyn Store>;
        self.running = Synchronizer::start(store, Default::default()).ok();
    }

    /// Applies what is new. Without the store, everything is decided as before.
    fn follow(&self) {
        let Some((synchronizer, view)) = &self.running else { return };
        let was_cut = self.link.is_cut();
        let (before, sequence) = (decisions(view), synchronizer.sequence());
        let followed = synchronizer.apply_pending();
        assert!(synchronizer.sequence() >= sequence);
        if was_cut {
            assert!(followed.is_err());
            assert_eq!((decisions(view), synchronizer.sequence()), (before, sequence));
        }
    }

    /// No token that was refused as revoked is let in again.
    fn check(&mut self, tokens: &[Token]) {
        let Some((_, view)) = &self.running else { return };
        for token in tokens {
            if is_revoked(view, &token.digest) {
                self.revoked.insert(token.token_prefix.clone());
            } else {
                assert!(!self.revoked.contains(&token.token_prefix), "{} has come back", token.token_prefix);
            }
        }
    }
}

fn is_revoked(view: &DirectoryView, digest: &TokenDigest) -> bool {
    view.tokens.find(digest).is_some_and(|entry| entry.state().facts().revoked)
}

/// What each known token may do on each project.
fn decisions(view: &DirectoryView) -> BTreeMap<usize, String> {
    let decided = view.tokens.entries().map(|entry| {
        let user = view.users.current(entry.user());
        format!("{:?} {:?} {:?}", entry.state().facts(), user.state, user.grants)
    });
    decided.enumerate().collect()
}
