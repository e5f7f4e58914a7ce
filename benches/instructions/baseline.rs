//! The committed figures: reading, writing, and comparing with what was measured.

use std::collections::BTreeMap;
use std::fmt;
use std::process::{Command, ExitCode};

/// A function may take this much more than its baseline before it fails: thirty times what two runs differ by.
const TOLERANCE: f64 = 0.03;

/// What grows now and then, such as a queue, falls into one sample or another.
const ALLOCATIONS_TOLERANCE: f64 = 0.1;

/// Below one instruction an operation nothing is said: 3 % of a very short function is less.
const LEAST: f64 = 1.0;

/// Says that nothing could be compared, as test programs of other kinds do.
const SKIPPED: u8 = 77;

/// What one operation takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    pub(crate) instructions: f64,
    pub(crate) allocations: f64,
}

/// Figures by function, and what they depend on beside the code.
#[derive(Debug)]
pub(crate) struct Baseline {
    pub(crate) environment: String,
    pub(crate) figures: BTreeMap<String, Figures>,
}

/// What counts depend on beside the code.
pub(crate) fn environment() -> String {
    let versions = ["rustc", "valgrind", "ldd"].map(version);
    #[cfg(target_arch = "x86_64")]
    let vectors = if std::arch::is_x86_feature_detected!("avx2") { " with AVX2" } else { " without AVX2" };
    #[cfg(not(target_arch = "x86_64"))]
    let vectors = "";
    format!("{}, {}{vectors}", versions.join(", "), std::env::consts::ARCH)
}

/// The first line of what a program says of itself; `ldd` names the C library.
fn version(program: &str) -> String {
    let output = Command::new(program).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().map_or_else(|| format!("no {program}"), str::to_owned)
}

/// From the package's root, where `check` and `cargo bench` both start this program. Not a path of the machine that
/// compiled it: several checkouts may share what is compiled.
const PATH: &str = "benches/instructions/baseline.txt";

impl Baseline {
    /// The committed one.
    pub(crate) fn read() -> Self {
        let text = std::fs::read_to_string(PATH).expect("the baseline is there; make it with --update");
        let environment = text.lines().find_map(|line| line.strip_prefix(MEASURED_WITH));
        let rows = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let figures = rows.map(|row| {
            let [name, instructions, allocations] = row.split_whitespace().collect::<Vec<_>>()[..] else {
                panic!("not a row of the baseline: {row}");
            };
            let number = |text: &str| text.replace(',', "").parse().expect("a number in the baseline");
            let figures = Figures { instructions: number(instructions), allocations: number(allocations) };
            (name.to_owned(), figures)
        });
        Self { environment: environment.unwrap_or_default().to_owned(), figures: figures.collect() }
    }

    /// Puts this one in its place.
    pub(crate) fn write(&self) -> ExitCode {
        std::fs::write(PATH, self.to_string()).expect("the baseline can be written");
        println!("written: {PATH}");
        ExitCode::SUCCESS
    }
}

const MEASURED_WITH: &str = "# measured with: ";

impl fmt::Display for Baseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# Instructions and allocations of one operation; benches/instructions/README.md says how they are counted."
        )?;
        writeln!(f, "# Made by `benches/instructions/check --update`.")?;
        writeln!(f, "{MEASURED_WITH}{}", self.environment)?;
        writeln!(f, "#\n# {:<30}{:>14}{:>14}", "function", "instructions", "allocations")?;
        for (name, Figures { instructions, allocations }) in &self.figures {
            writeln!(f, "{name:<32}{instructions:>14.1}{allocations:>14.2}")?;
        }
        Ok(())
    }
}

/// Says how every function did, and last what is wrong, with both figures.
pub(crate) fn compare(baseline: &Baseline, measured: &Baseline) -> ExitCode {
    println!(
        "{:<32}{:>14}{:>14}{:>9}{:>13}{:>9}",
        "function", "instructions", "baseline", "", "allocations", "baseline"
    );
    let mut failures = Vec::new();
    for (name, now) in &measured.figures {
        let Some(before) = baseline.figures.get(name) else {
            println!("{name:<32}{:>14.1}{:>14}", now.instructions, "none");
            failures.push(format!("{name} is not in the baseline"));
            continue;
        };
        let change = now.instructions / before.instructions - 1.0;
        println!(
            "{name:<32}{:>14.1}{:>14.1}{:>+8.1}%{:>13.2}{:>9.2}",
            now.instructions,
            before.instructions,
            change * 100.0,
            now.allocations,
            before.allocations
        );
        if change > TOLERANCE && now.instructions - before.instructions > LEAST {
            failures.push(format!(
                "{name} takes {:.1} instructions, {:.1} % more than the baseline's {:.1}",
                now.instructions,
                change * 100.0,
                before.instructions
            ));
        }
        if now.allocations - before.allocations > ALLOCATIONS_TOLERANCE {
            failures.push(format!(
                "{name} allocates {:.2} times, the baseline says {:.2}",
                now.allocations, before.allocations
            ));
        }
    }
    for name in baseline.figures.keys().filter(|name| !measured.figures.contains_key(*name)) {
        failures.push(format!("{name} is in the baseline and is not measured any more"));
    }
    conclude(&failures, baseline, measured)
}

fn conclude(failures: &[String], baseline: &Baseline, measured: &Baseline) -> ExitCode {
    if failures.is_empty() {
        println!("\nnothing is more than {:.0} % above the baseline", TOLERANCE * 100.0);
        return ExitCode::SUCCESS;
    }
    println!();
    failures.iter().for_each(|failure| println!("{failure}"));
    if baseline.environment != measured.environment {
        println!(
            "not comparable: the baseline was measured with\n  {}\nand this with\n  {}",
            baseline.environment, measured.environment
        );
        return ExitCode::from(SKIPPED);
    }
    println!("If that is meant, refresh the baseline: benches/instructions/check --update");
    ExitCode::FAILURE
}
