//! Connections that send bytes no server wants: garbage, or a TLS hello that nothing follows. One after the other on
//! each of some threads; what the server does about it is counted.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddrV4;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crate::{Options, Outcome, socket};

/// A server that says nothing for so long is counted as silent.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Default)]
struct Counts {
    attempts: AtomicUsize,
    answered: AtomicUsize,
    closed: AtomicUsize,
    silent: AtomicUsize,
    let_in: AtomicUsize,
    refused: AtomicUsize,
}

pub fn run(target: SocketAddrV4, options: &Options) -> Outcome {
    let samples: Vec<Vec<u8>> =
        std::fs::read_to_string(options.text("bytes")?)?.lines().map(decode).collect();
    if samples.is_empty() {
        return Err("the file of bytes, one attempt in hexadecimal digits a line, is empty".into());
    }
    let seconds = Duration::from_secs_f64(options.number("seconds")?);
    let parallel: usize = options.number("parallel")?;
    let counts = Counts::default();
    let next = AtomicUsize::new(0);
    let end = AtomicBool::new(false);
    let started = Instant::now();
    thread::scope(|scope| {
        for _ in 0..parallel {
            scope.spawn(|| {
                while !end.load(Relaxed) {
                    let number = next.fetch_add(1, Relaxed);
                    attempt(number, target, &samples[number % samples.len()], &counts);
                }
            });
        }
        thread::sleep(seconds);
        end.store(true, Relaxed);
    });
    let of = |count: &AtomicUsize| count.load(Relaxed);
    println!(
        r#"{{"attempts":{},"answered":{},"closed":{},"silent":{},"let_in":{},"not_connected":{},"seconds":{:.3}}}"#,
        of(&counts.attempts),
        of(&counts.answered),
        of(&counts.closed),
        of(&counts.silent),
        of(&counts.let_in),
        of(&counts.refused),
        started.elapsed().as_secs_f64(),
    );
    Ok(())
}

fn attempt(number: usize, target: SocketAddrV4, bytes: &[u8], counts: &Counts) {
    let Ok(mut stream) = socket::connect_from(number, target) else {
        counts.refused.fetch_add(1, Relaxed);
        thread::sleep(Duration::from_millis(1));
        return;
    };
    counts.attempts.fetch_add(1, Relaxed);
    let _ = stream.set_read_timeout(Some(PATIENCE));
    let _ = stream.write_all(bytes);
    let mut scratch = [0; 4096];
    // The first sign that the server has understood is the end: some wait for the client to close.
    let seen = match stream.read(&mut scratch) {
        Ok(count @ 1..) => {
            counts.let_in.fetch_add(usize::from(scratch[..count].starts_with(b"HTTP/1.1 2")), Relaxed);
            &counts.answered
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => &counts.silent,
        // An error is a reset: the server closed with bytes of ours unread.
        Ok(_) | Err(_) => &counts.closed,
    };
    seen.fetch_add(1, Relaxed);
}

fn decode(line: &str) -> Vec<u8> {
    line.as_bytes()
        .chunks(2)
        .filter_map(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok())
        .collect()
}
