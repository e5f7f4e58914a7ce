//! Times of what a request goes through, function by function, then of whole requests; with the allocations of each.
//! Run with `cargo bench --bench micro -- [NAME]`.
//!
//! Times swing with whoever else uses the machine; `instructions.rs` counts the same functions' instructions.

#![allow(clippy::unwrap_used, reason = "a benchmark")]

mod support;

use std::cell::OnceCell;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use divan::{AllocProfiler, Bencher};
use mimalloc::MiMalloc;
use support::pipeline::unwatched;
use support::work::{self, Setting};

/// The allocator of production, counted.
#[global_allocator]
static ALLOCATOR: AllocProfiler<MiMalloc> = AllocProfiler::new(MiMalloc);

/// Operations before any is timed.
const WARM_UP: usize = 500;

thread_local! {
    static SETTING: OnceCell<Setting> = const { OnceCell::new() };
}

fn main() {
    divan::main();
}

macro_rules! benchmark {
    ($name:ident) => {
        #[divan::bench]
        fn $name(bencher: Bencher<'_, '_>) {
            let setting = SETTING.with(|setting| setting.get_or_init(|| Setting::new(unwatched)).clone());
            let mut operation = work::$name(&setting);
            // Else divan takes the first, cold one for a measure of how many it has to take at a time.
            (0..WARM_UP).for_each(|_| operation());
            bencher.bench_local(operation);
        }
    };
}
support::every_work!(benchmark);

/// The bytes of `request_permitted` through two pairs of sockets and nothing in between: what of its time no proxy can
/// save.
#[divan::bench]
fn sockets_alone(bencher: Bencher<'_, '_>) {
    let (client, downstream) = connected();
    let (upstream, service) = connected();
    let mut buffer = [0; 1024];
    bencher.bench_local(|| {
        for (mut from, mut to, bytes) in [
            (&client, &downstream, 250),
            (&upstream, &service, 750),
            (&service, &upstream, 150),
            (&downstream, &client, 220),
        ] {
            from.write_all(&buffer[..bytes]).unwrap();
            to.read_exact(&mut buffer[..bytes]).unwrap();
        }
    });
}

fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (other, _) = listener.accept().unwrap();
    one.set_nodelay(true).unwrap();
    other.set_nodelay(true).unwrap();
    (one, other)
}
