//! Runs one target: on its seeds as they are, then on mutations of them until the time is over. What fails is made
//! shorter, kept, and told with what is needed to see it again.

use std::any::Any;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, Instant, SystemTime};

use crate::mutate::{Mutator, Random};

/// How long each target runs unless the environment says otherwise.
const SHORT: Duration = Duration::from_secs(2);

/// Where the short run begins.
const SHORT_SEED: u64 = 1;

/// How long a failing input may take to be made shorter.
const SHORTENING: Duration = Duration::from_secs(10);

/// A target's function.
type Check = fn(&[u8]);

/// How long, and from which beginning.
struct Plan {
    time: Duration,
    seed: u64,
}

impl Plan {
    fn of_environment() -> Self {
        let number = |name: &str| {
            let value = std::env::var(name).ok()?;
            Some(value.parse::<u64>().unwrap_or_else(|_| panic!("{name}={value} is no number")))
        };
        let seconds = number("POSTERN_FUZZ_SECONDS");
        let seed = number("POSTERN_FUZZ_SEED").unwrap_or_else(|| match seconds {
            None => SHORT_SEED,
            Some(_) => SystemTime::UNIX_EPOCH.elapsed().map_or(SHORT_SEED, |time| time.as_nanos() as u64),
        });
        Self { time: seconds.map_or(SHORT, Duration::from_secs), seed }
    }
}

/// Runs a target. `words` is what its inputs are made of, for the mutator.
pub(crate) fn run(name: &str, words: &[&[u8]], check: Check) {
    let plan = Plan::of_environment();
    let seeds = seeds(name);
    assert!(!seeds.is_empty(), "tests/fuzz/seeds/{name} has no seeds");
    for (path, seed) in &seeds {
        if let Err(panic) = attempt(check, seed) {
            panic!("the seed {} fails: {}", path.display(), message(&*panic));
        }
    }
    let inputs: Vec<Vec<u8>> = seeds.into_iter().map(|(_, seed)| seed).collect();
    let mut mutator = Mutator::new(Random::new(plan.seed), words, &inputs);
    let started = Instant::now();
    let mut executions = inputs.len() as u64;
    while started.elapsed() < plan.time {
        let input = mutator.next_input();
        executions += 1;
        if let Err(panic) = attempt(check, &input) {
            let short = shorten(check, input);
            let kept = keep(name, &short);
            panic!(
                "{name} fails with seed {} after {executions} executions: {}\n{} bytes are in {}: {:?}",
                plan.seed,
                message(&*panic),
                short.len(),
                kept.display(),
                String::from_utf8_lossy(&short)
            );
        }
    }
    println!("{name}: {executions} executions in {:.1?} from seed {}", started.elapsed(), plan.seed);
}

/// The target's seeds, in the order of their names.
fn seeds(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

thread_local! {
    static IS_ATTEMPTING: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Runs the target once. Its panic is told only once it is known what is to be told.
fn attempt(check: Check, input: &[u8]) -> Result<(), Box<dyn Any + Send>> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !IS_ATTEMPTING.get() {
                before(info);
            }
        }));
    });
    IS_ATTEMPTING.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(|| check(input)));
    IS_ATTEMPTING.set(false);
    result
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned())).unwrap_or_default()
}

/// Takes pieces out for as long as it goes on failing, large ones first.
fn shorten(check: Check, mut input: Vec<u8>) -> Vec<u8> {
    let started = Instant::now();
    let mut piece = input.len() / 2;
    while piece > 0 {
        let mut at = 0;
        while at < input.len() && started.elapsed() < SHORTENING {
            let end = (at + piece).min(input.len());
            let mut shorter = input.clone();
            shorter.drain(at..end);
            if attempt(check, &shorter).is_err() {
                input = shorter;
            } else {
                at = end;
            }
        }
        piece /= 2;
    }
    input
}

/// Where the input is kept.
fn keep(name: &str, input: &[u8]) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/fuzz");
    let path = folder.join(format!("{name}-{:016x}", hasher.finish()));
    fs::create_dir_all(&folder).and_then(|()| fs::write(&path, input)).unwrap();
    path
}
