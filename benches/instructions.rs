//! Instructions and allocations of what a request goes through, function by function, then of whole requests, and
//! whether they are more than the committed baseline. `benches/instructions/check` runs this; its README says how to read it.
//!
//! The program runs itself under valgrind's callgrind. There it does each thing several times; callgrind counts while
//! [`toggled`] runs and writes down its count when [`sample_ends`] does. Back outside, the medians are compared.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a benchmark, for people")]

#[path = "instructions/allocations.rs"]
mod allocations;
#[path = "instructions/baseline.rs"]
mod baseline;
mod support;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use allocations::Counting;
use baseline::{Baseline, Figures};
use support::work::{self, Setting};

#[global_allocator]
static ALLOCATOR: Counting<mimalloc::MiMalloc> = Counting(mimalloc::MiMalloc);

/// Tells this program that it runs under callgrind.
const INSIDE: &str = "POSTERN_BENCH_UNDER_CALLGRIND";

/// Of an odd number of samples the median is one of them.
const SAMPLES: usize = 15;

/// Operations of a sample: a multiple of the inputs that any function but the look-ups goes through.
const OPERATIONS: usize = 256;

/// Requests of a sample: what depends on how long one took (a histogram's bucket, say) evens out.
const REQUESTS: usize = 16;

fn main() -> ExitCode {
    if std::env::var_os(INSIDE).is_some() {
        run_inside();
        return ExitCode::SUCCESS;
    }
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => baseline::compare(&Baseline::read(), &measure(None)),
        ["--update"] => measure(None).write(),
        ["--show"] => {
            print!("{}", measure(None));
            ExitCode::SUCCESS
        }
        ["--profile", name, file] => {
            let measured = measure(Some(Profile { name, file: file.as_ref() }));
            if !measured.figures.contains_key(name) {
                eprintln!("there is no function `{name}`; `--show` lists them");
                return ExitCode::from(2);
            }
            println!("look at it with: callgrind_annotate --inclusive=yes {file}");
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("usage: benches/instructions/check [--update | --show | --profile FUNCTION FILE]");
            ExitCode::from(2)
        }
    }
}

/// Where a function's instructions went, for callgrind's own tools.
#[derive(Clone, Copy)]
struct Profile<'a> {
    name: &'a str,
    file: &'a Path,
}

/// Runs everything under callgrind; the medians, and one sample of the wanted profile.
fn measure(profile: Option<Profile<'_>>) -> Baseline {
    let folder = tempfile::tempdir().unwrap();
    let dump = folder.path().join("dump");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--collect-atstart=no"])
        .args(["--toggle-collect=*toggled*", "--dump-after=*sample_ends*"])
        .arg(format!("--callgrind-out-file={}", dump.display()))
        .arg(std::env::current_exe().unwrap())
        // The environment lies on the stack: its length moves what is behind it.
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .env(INSIDE, "1")
        .stderr(Stdio::inherit())
        .output()
        .expect("valgrind runs; it is Debian's package `valgrind`");
    assert!(output.status.success(), "{}", output.status);

    let mut samples: BTreeMap<String, Vec<Figures>> = BTreeMap::new();
    for (index, line) in String::from_utf8(output.stdout).unwrap().lines().enumerate() {
        let [name, operations, allocations] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("not a sample: {line}");
        };
        let dump = dump.with_extension((index + 1).to_string());
        if let Some(Profile { file, .. }) = profile.filter(|profile| profile.name == name) {
            std::fs::copy(&dump, file).unwrap();
        }
        let instructions = counted(&dump);
        let operations: f64 = operations.parse().unwrap();
        let allocations: f64 = allocations.parse().unwrap();
        samples.entry(name.to_owned()).or_default().push(Figures {
            instructions: instructions as f64 / operations,
            allocations: allocations / operations,
        });
    }
    let medians = samples.into_iter().filter(|(name, _)| name != WARM);
    let figures = medians.map(|(name, samples)| (name, median(&samples))).collect();
    Baseline { environment: baseline::environment(), figures }
}

/// What a dump of callgrind says in all.
fn counted(dump: &Path) -> u64 {
    let text = std::fs::read_to_string(dump).unwrap();
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ")).expect("a dump has its total");
    total.trim().parse().unwrap()
}

fn median(samples: &[Figures]) -> Figures {
    let middle = |of: fn(&Figures) -> f64| {
        let mut values: Vec<f64> = samples.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Figures {
        instructions: middle(|sample| sample.instructions),
        allocations: middle(|sample| sample.allocations),
    }
}

/// Stands for what callgrind counts and nobody wants.
const WARM: &str = "-";

fn run_inside() {
    let setting = Setting::new(count);
    macro_rules! sample {
        ($name:ident) => {
            let name = stringify!($name);
            let mut operation = work::$name(&setting);
            if name.starts_with("request_") && name != "request_ids" {
                sample_request(name, operation);
            } else if name.starts_with("look_up") {
                sample_function(name, (3, work::LOOK_UPS), &mut operation);
            } else {
                sample_function(name, (SAMPLES, OPERATIONS), &mut operation);
            }
        };
    }
    support::every_work!(sample);
}

/// A function is too short to be counted once.
fn sample_function(name: &str, (samples, operations): (usize, usize), operation: &mut impl FnMut()) {
    let mut batch = || (0..operations).for_each(|_| operation());
    batch();
    for _ in 0..samples {
        count(&mut batch);
        end_sample(name, operations);
    }
}

/// Of a request only the polls of the worker's task are counted, by [`count`] as its watch.
fn sample_request(name: &str, mut operation: impl FnMut()) {
    (0..REQUESTS).for_each(|_| operation());
    end_sample(WARM, REQUESTS);
    for _ in 0..SAMPLES {
        (0..REQUESTS).for_each(|_| operation());
        end_sample(name, REQUESTS);
    }
}

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// Counts instructions and allocations of `work`.
fn count(work: &mut dyn FnMut()) {
    let before = allocations::so_far();
    toggled(work);
    ALLOCATIONS.set(ALLOCATIONS.get() + allocations::so_far() - before);
}

fn end_sample(name: &str, operations: usize) {
    sample_ends();
    println!("{name} {operations} {}", ALLOCATIONS.take());
}

/// While this runs, callgrind counts.
#[inline(never)]
fn toggled(work: &mut dyn FnMut()) {
    work();
    // Without anything after it, the call could become a jump, which callgrind does not see return.
    black_box(());
}

/// When this returns, callgrind writes down its count and starts from zero.
#[inline(never)]
fn sample_ends() {
    black_box(());
}
