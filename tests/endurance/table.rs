//! What an endurance run says at its end.

use std::fmt::Write as _;

use crate::endurance::ledger::Finding;
use crate::endurance::world::World;

/// Memory and descriptors at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub memory_bytes: u64,
    pub descriptors: usize,
}

/// The medians of the run's second fifth, when everything has been done once, and of its last.
pub fn ends(samples: &[Sample]) -> [Sample; 2] {
    let fifth = (samples.len() / 5).max(1);
    assert!(samples.len() >= 5, "a run of some seconds at least");
    [median(&samples[fifth..2 * fifth]), median(&samples[samples.len() - fifth..])]
}

fn median(samples: &[Sample]) -> Sample {
    let middle = samples.len() / 2;
    let mut memory: Vec<_> = samples.iter().map(|sample| sample.memory_bytes).collect();
    let mut descriptors: Vec<_> = samples.iter().map(|sample| sample.descriptors).collect();
    memory.sort_unstable();
    descriptors.sort_unstable();
    Sample { memory_bytes: memory[middle], descriptors: descriptors[middle] }
}

pub fn table(seconds: u64, world: &World, [first, last]: [Sample; 2]) -> String {
    let ledger = &world.ledger;
    let mebibytes = |sample: Sample| sample.memory_bytes as f64 / f64::from(1 << 20);
    let mut text = format!("\n{seconds} seconds\n\n| what | came of it | how often |\n| --- | --- | --- |\n");
    for (kind, how, count) in ledger.answers() {
        let _string = writeln!(text, "| {kind} | {how} | {count} |");
    }
    text.push_str("\n| | |\n| --- | --- |\n");
    for (words, finding) in [
        ("requests lost", Finding::Lost),
        ("wrongly allowed", Finding::WronglyAllowed),
        ("wrongly refused", Finding::WronglyRefused),
        ("answered with a wrong status", Finding::WrongStatus),
        ("taken for another's", Finding::MixedUp),
        ("streams that outlived their token by more than 5 s", Finding::EndedLate),
        ("tokens whose use was miscounted", Finding::MiscountedUse),
    ] {
        let _string = writeln!(text, "| {words} | {} |", ledger.found(finding));
    }
    let arrived = world.arrived.load(std::sync::atomic::Ordering::SeqCst);
    let [half, most] = [0.5, 0.99].map(|share| ledger.time_of(share).as_secs_f64() * 1e3);
    let _string = writeln!(text, "| attacks that reached a service | {arrived} |");
    let _string = writeln!(
        text,
        "| longest from a token's end to its stream's | {:.2} s |",
        ledger.longest_end().as_secs_f64()
    );
    let _string = writeln!(text, "| time of an answer, p50 / p99 | {half:.1} / {most:.1} ms |");
    let _string = writeln!(
        text,
        "| memory, early / at the end | {:.1} / {:.1} MiB |",
        mebibytes(first),
        mebibytes(last)
    );
    let _string =
        writeln!(text, "| descriptors, early / at the end | {} / {} |", first.descriptors, last.descriptors);
    text
}
