//! Floods of HTTP/2 frames. Each ends its connection within so many of them, whatever h2 or Postern ends it by.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::alone;
use crate::others::{Bound, LONG, Measure, Others, Over, SHORT};
use crate::service::{KEPT, Service};
use crate::support::frames::{
    ACKNOWLEDGED, CONTINUATION, DATA, END_HEADERS, END_STREAM, FrameClient, GOAWAY, HEADERS,
    INITIAL_WINDOW_SIZE, PADDED, PING, PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE, block, encode,
    encode_head, encode_settings,
};
use crate::support::sidecar::HOST;
use crate::support::{Sidecar, until};

/// `ENHANCE_YOUR_CALM`.
const CALM: u32 = 11;

const MIB: u64 = 1024 * 1024;
/// What an attack may cost in memory.
const MOST_MEMORY: u64 = 10 * MIB;
/// Connections that attack at the same time when memory is looked at.
const TOGETHER: usize = 8;

/// What the others' 99th percentile may become in the long form, in so many times.
const MOST_SLOWER: f64 = 2.0;

/// A flood.
struct Attack {
    name: &'static str,
    /// Offending frames within which the connection has to end.
    most: u32,
    /// Whether pings may stand between them: not within a block of headers.
    can_ask: bool,
    settings: &'static [(u16, u32)],
    /// What goes before.
    begin: fn(&mut FrameClient, &str),
    /// Sends the offending frame of this number, and what it needs; whether it was taken.
    offend: fn(&mut FrameClient, &str, u32) -> bool,
}

/// Any attack; for the rest of one.
const FLOOD: Attack =
    Attack { name: "", most: 1_000, can_ask: true, settings: &[], begin: |_, _| {}, offend: |_, _, _| true };

/// The client's stream of this number.
fn stream(number: u32) -> u32 {
    number * 2 + 1
}

/// A permitted request.
fn request(stream: u32, flags: u8, authorization: &str, method: &str, path: &str) -> Vec<u8> {
    encode_head(stream, flags, &fields(authorization, method, path))
}

fn fields<'a>(authorization: &'a str, method: &'a str, path: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        (":method", method),
        (":scheme", "http"),
        (":authority", HOST),
        (":path", path),
        ("authorization", authorization),
    ]
}

/// A request that the service never answers, and what makes the sidecar itself reset its stream.
fn made_to_reset(
    client: &mut FrameClient,
    number: u32,
    authorization: &str,
    method: &str,
    flags: u8,
    then: &[u8],
) -> bool {
    let mut bytes = request(stream(number), flags, authorization, method, "/silent");
    bytes.extend_from_slice(then);
    client.send_bytes(&bytes)
}

fn window_update(stream: u32, by: u32) -> Vec<u8> {
    encode(WINDOW_UPDATE, 0, stream, &by.to_be_bytes())
}

fn begin_silent(client: &mut FrameClient, authorization: &str) {
    client.send_bytes(&request(1, 0, authorization, "POST", "/silent"));
}

fn begin_many_silent(client: &mut FrameClient, authorization: &str) {
    for number in 0..100 {
        client.send_bytes(&request(stream(number), END_STREAM, authorization, "GET", "/silent"));
    }
}

/// A block of a few kilobytes that is tens of megabytes when it is decoded: one field, named again and again by its place in
/// the table.
fn bomb(authorization: &str) -> Vec<u8> {
    let mut bytes = block(&fields(authorization, "GET", "/"));
    // A literal that is kept (RFC 7541, section 6.2.1), of 3,000 bytes.
    bytes.extend([0x40, 1, b'x', 127]);
    let rest = 3_000 - 127;
    bytes.extend([(rest % 128) as u8 | 128, (rest / 128) as u8]);
    bytes.extend([b'a'; 3_000]);
    bytes.extend(vec![0x80 | 62; 12_000]);
    bytes
}

fn attacks() -> Vec<Attack> {
    vec![
        Attack {
            name: "requests given up at once",
            offend: |client, authorization, number| {
                let reset = encode(RST_STREAM, 0, stream(number), &8_u32.to_be_bytes());
                made_to_reset(client, number, authorization, "GET", END_STREAM, &reset)
            },
            ..FLOOD
        },
        Attack {
            name: "requests given up once they run",
            offend: |client, authorization, number| {
                client.send_bytes(&request(stream(number), END_STREAM, authorization, "GET", "/silent"))
                    && client.is_in_step()
                    && client.send_bytes(&encode(RST_STREAM, 0, stream(number), &8_u32.to_be_bytes()))
            },
            ..FLOOD
        },
        Attack {
            name: "more requests than may run",
            offend: |client, authorization, number| {
                client.send_bytes(&request(stream(number), END_STREAM, authorization, "GET", "/silent"))
            },
            ..FLOOD
        },
        Attack {
            name: "made to reset: window opened by 0",
            offend: |client, authorization, number| {
                let zero = window_update(stream(number), 0);
                made_to_reset(client, number, authorization, "GET", END_STREAM, &zero)
            },
            ..FLOOD
        },
        Attack {
            name: "made to reset: window overflow",
            offend: |client, authorization, number| {
                let most = window_update(stream(number), 0x7fff_ffff);
                made_to_reset(client, number, authorization, "GET", END_STREAM, &most)
            },
            ..FLOOD
        },
        Attack {
            name: "made to reset: DATA after the end",
            offend: |client, authorization, number| {
                let data = encode(DATA, 0, stream(number), b"more");
                made_to_reset(client, number, authorization, "POST", END_STREAM, &data)
            },
            ..FLOOD
        },
        Attack {
            name: "made to reset: PRIORITY on itself",
            offend: |client, authorization, number| {
                let mut payload = stream(number).to_be_bytes().to_vec();
                payload.push(16);
                let priority = encode(PRIORITY, 0, stream(number), &payload);
                made_to_reset(client, number, authorization, "GET", END_STREAM, &priority)
            },
            ..FLOOD
        },
        Attack {
            name: "made to reset: PRIORITY of a wrong length",
            offend: |client, authorization, number| {
                let priority = encode(PRIORITY, 0, stream(number), &[0; 4]);
                made_to_reset(client, number, authorization, "GET", END_STREAM, &priority)
            },
            ..FLOOD
        },
        Attack {
            name: "made to reset: trailers that end nothing",
            offend: |client, authorization, number| {
                let trailers = encode_head(stream(number), 0, &[("x-a", "b")]);
                made_to_reset(client, number, authorization, "POST", 0, &trailers)
            },
            ..FLOOD
        },
        Attack {
            name: "made to reset: malformed heads",
            offend: |client, authorization, number| {
                let mut fields = fields(authorization, "GET", "/silent");
                fields.push(("X-Upper", "1"));
                client.send_bytes(&encode_head(stream(number), END_STREAM, &fields))
            },
            ..FLOOD
        },
        Attack {
            name: "made to reset: less DATA than announced",
            offend: |client, authorization, number| {
                let mut fields = fields(authorization, "POST", "/silent");
                fields.push(("content-length", "5"));
                let mut bytes = encode_head(stream(number), 0, &fields);
                bytes.extend(encode(DATA, END_STREAM, stream(number), b"1"));
                client.send_bytes(&bytes)
            },
            ..FLOOD
        },
        Attack {
            name: "CONTINUATION without end",
            can_ask: false,
            offend: |client, _, number| {
                let kind = if number == 0 { HEADERS } else { CONTINUATION };
                client.send_bytes(&encode(kind, 0, 1, &block(&[("x-a", &"a".repeat(1_000))])))
            },
            ..FLOOD
        },
        Attack {
            name: "empty CONTINUATION without end",
            can_ask: false,
            offend: |client, _, number| {
                let kind = if number == 0 { HEADERS } else { CONTINUATION };
                client.send_bytes(&encode(kind, 0, 1, &[]))
            },
            ..FLOOD
        },
        Attack {
            name: "HPACK bomb",
            offend: |client, authorization, number| {
                let flags = END_HEADERS | END_STREAM;
                client.send_bytes(&encode(HEADERS, flags, stream(number), &bomb(authorization)))
            },
            ..FLOOD
        },
        Attack {
            name: "empty DATA",
            begin: begin_silent,
            offend: |client, _, _| client.send_bytes(&encode(DATA, 0, 1, &[])),
            ..FLOOD
        },
        Attack {
            name: "DATA of padding only",
            begin: begin_silent,
            offend: |client, _, _| client.send_bytes(&encode(DATA, PADDED, 1, &[200; 201])),
            ..FLOOD
        },
        Attack {
            name: "PING",
            most: 10_000,
            offend: |client, _, _| client.send_bytes(&encode(PING, 0, 0, b"12345678")),
            ..FLOOD
        },
        Attack {
            name: "answers to no PING",
            offend: |client, _, _| client.send_bytes(&encode(PING, ACKNOWLEDGED, 0, b"12345678")),
            ..FLOOD
        },
        Attack {
            name: "SETTINGS",
            most: 10_000,
            offend: |client, _, _| client.send_bytes(&encode(SETTINGS, 0, 0, &[])),
            ..FLOOD
        },
        Attack {
            name: "SETTINGS that change all streams' windows",
            most: 10_000,
            begin: begin_many_silent,
            offend: |client, _, number| {
                let settings = encode_settings(&[(INITIAL_WINDOW_SIZE, number % 2 * 1_000)]);
                client.send_bytes(&encode(SETTINGS, 0, 0, &settings))
            },
            ..FLOOD
        },
        Attack {
            name: "SETTINGS full of changes",
            most: 10_000,
            offend: |client, _, _| {
                let settings = encode_settings(&[(INITIAL_WINDOW_SIZE, 1_000); 2_700]);
                client.send_bytes(&encode(SETTINGS, 0, 0, &settings))
            },
            ..FLOOD
        },
        Attack {
            name: "PRIORITY",
            offend: |client, _, _| client.send_bytes(&encode(PRIORITY, 0, 3, &[0, 0, 0, 1, 16])),
            ..FLOOD
        },
        Attack {
            name: "frames of no known kind",
            offend: |client, _, _| client.send_bytes(&encode(77, 0, 0, b"12345678")),
            ..FLOOD
        },
        Attack {
            name: "GOAWAY",
            offend: |client, _, _| client.send_bytes(&encode(GOAWAY, 0, 0, &[0; 8])),
            ..FLOOD
        },
        Attack {
            name: "RST_STREAM on one stream",
            begin: begin_silent,
            offend: |client, _, _| client.send_bytes(&encode(RST_STREAM, 0, 1, &8_u32.to_be_bytes())),
            ..FLOOD
        },
        Attack {
            name: "the connection's window, by 1",
            offend: |client, _, _| client.send_bytes(&window_update(0, 1)),
            ..FLOOD
        },
        Attack {
            name: "an answer fetched byte by byte",
            settings: &[(INITIAL_WINDOW_SIZE, 0)],
            begin: |client, authorization| {
                client.send_bytes(&request(1, END_STREAM, authorization, "GET", "/pour"));
            },
            offend: |client, _, _| client.send_bytes(&window_update(1, 1)),
            ..FLOOD
        },
    ]
}

impl Attack {
    fn connect(&self, sidecar: &Sidecar, authorization: &str) -> FrameClient {
        let mut client = FrameClient::with_settings(sidecar.address(), self.settings);
        (self.begin)(&mut client, authorization);
        client
    }

    /// Offending frames that were sent when the sidecar had ended the connection, and the number of the error it gave. Asks now
    /// and then whether everything was read, so that it is known how many it took.
    #[track_caller]
    fn count(&self, sidecar: &Sidecar, authorization: &str) -> (u32, Option<u32>) {
        let mut client = self.connect(sidecar, authorization);
        for number in 0..self.most {
            let is_taken = (self.offend)(&mut client, authorization, number);
            let is_asked = self.can_ask && number % 10 == 9;
            if !is_taken || is_asked && !client.is_in_step() {
                while client.read().is_some() {}
                return (number + 1, client.goodbye());
            }
        }
        // Fails if the sidecar waits for more.
        while client.read().is_some() {}
        (self.most, client.goodbye())
    }

    /// The same as fast as it goes.
    fn run(&self, sidecar: &Sidecar, authorization: &str) {
        let mut client = self.connect(sidecar, authorization);
        let mut numbers = 0..self.most * 2;
        while numbers.next().is_some_and(|number| (self.offend)(&mut client, authorization, number)) {}
        while client.read().is_some() {}
    }
}

/// By how much the sidecar's memory was larger, at most, while something went on.
pub(crate) fn grown(sidecar: &Sidecar, what: impl FnOnce()) -> u64 {
    let before = sidecar.resident_bytes();
    let (most, over) = (AtomicU64::new(before), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let _is_over = Over(&over);
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                most.fetch_max(sidecar.resident_bytes(), Ordering::SeqCst);
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        what();
        most.fetch_max(sidecar.resident_bytes(), Ordering::SeqCst);
    });
    most.load(Ordering::SeqCst) - before
}

/// Makes an attack, and says what came of it as a row of a table.
#[track_caller]
fn check(
    attack: &Attack,
    sidecar: &Sidecar,
    (others, elsewhere): (&Others, &Others),
    measure: Measure,
    bound: Bound,
) {
    let authorization = format!("Bearer {}", sidecar.permitted.token);
    let Attack { name, most, .. } = attack;
    let mut frames = 0;
    let mut goodbye = None;
    let memory = grown(sidecar, || {
        (frames, goodbye) = attack.count(sidecar, &authorization);
        std::thread::scope(|scope| {
            for _ in 0..TOGETHER {
                scope.spawn(|| attack.run(sidecar, &authorization));
            }
        });
    });
    let noticed = others.beside(elsewhere, measure, || attack.run(sidecar, &authorization));
    let ended = match goodbye {
        Some(CALM) => "ENHANCE_YOUR_CALM".to_owned(),
        Some(code) => format!("error {code}"),
        None => "closed".to_owned(),
    };
    println!(
        "| {name} | {frames} | {ended} | {:.1} MiB | {:.2} ms | {:.2} ms | {:.2} |",
        memory as f64 / MIB as f64,
        noticed.quiet.as_secs_f64() * 1e3,
        noticed.attacked.as_secs_f64() * 1e3,
        noticed.ratio,
    );
    assert!(frames <= *most, "{name}: {frames} frames");
    assert!(goodbye.is_some(), "{name}: the client is told");
    assert!(memory < MOST_MEMORY, "{name}: {memory} bytes of memory");
    bound.check(name, noticed);
}

const HEAD_OF_TABLE: &str = "| flood | frames | ended by | memory | quiet | attacked | ratio |\n| --- | --- | --- | --- | --- | --- | --- |";

#[test]
fn floods_end_soon_and_cost_little() {
    let _alone = alone();
    let service = Service::start();
    let sidecar = Sidecar::with_endpoint(service.address).one_worker().start();
    let beside = Sidecar::with_endpoint(service.address).one_worker().start();
    let (others, elsewhere) = (Others::of(&sidecar), Others::of(&beside));
    println!("{HEAD_OF_TABLE}");
    for attack in attacks() {
        check(&attack, &sidecar, (&others, &elsewhere), SHORT, Bound::Served);
    }
    // Who attacks leaves nothing behind.
    until("no connection to be left", || sidecar.metric("postern_connections{listener=\"main\"}") < 0.5);
    until("the service to be left alone", || service.open() <= KEPT);
    let ended = |reason: &str| {
        sidecar.metric(&format!("postern_http2_go_aways_total{{listener=\"main\",reason=\"{reason}\"}}"))
    };
    let attacks = attacks().len() as f64;
    assert!(ended("flood") + ended("error") >= attacks, "{}", sidecar.metrics());
    assert!(sidecar.output().contains("makes work without end"), "the log tells");
}

#[test]
#[ignore = "the long form: minutes, and strict about 99th percentiles; alone on an idle machine"]
fn floods_one_by_one_held_to_the_strict_figures() {
    let _alone = alone();
    println!("{HEAD_OF_TABLE}");
    let service = Service::start();
    let beside = Sidecar::with_endpoint(service.address).one_worker().start();
    let elsewhere = Others::of(&beside);
    for attack in attacks() {
        let sidecar = Sidecar::with_endpoint(service.address).one_worker().start();
        let others = Others::of(&sidecar);
        check(&attack, &sidecar, (&others, &elsewhere), LONG, Bound::Ratio(MOST_SLOWER));
    }
}
