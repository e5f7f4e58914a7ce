//! One function for each thing that is measured. Each makes its inputs ready and returns what does one operation, on
//! the next of several inputs, so that no input is measured alone.
//!
//! Only public interfaces are used, each in one place: where one changes, one function here follows.

use std::cell::Cell;
use std::hint::black_box;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use http::{HeaderMap, HeaderName, HeaderValue};
use postern::directory::gather::{Gathered, Question};
use postern::directory::model::Timestamp;
use postern::directory::view::{DirectoryView, UserIndex};
use postern::headers::forwarded::{self, Scheme};
use postern::headers::trace::IdGenerator;
use postern::headers::{self, Additions, Identity};
use postern::policy::{self, permission};
use postern::route::pattern::Pattern;
use postern::route::{Choice, RouteTable};
use postern::serve::http2_floods::Counted;
use postern::serve::target;
use postern::telemetry::metrics::Metrics;
use postern::token::cache::TokenAttributes;
use postern::token::{TokenCache, TokenDigest, TokenEntry, TokenKind, credential, format};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::directory::{CLIENT, Directory, REQUIRED};
use super::pipeline::{Pipeline, Request};

/// Paths of routes and of requests.
const PATHS: [&str; 4] =
    ["/", "/api/v1/write", "/_bulk?refresh=true", "/db/measurements/_search?q=cpu&size=100"];

/// Tables of routes, each with hash keys of its own: over this many, what the keys bring about evens out.
const TABLES: usize = 64;

/// Tables of the configuration, without and with an access log.
const UNLOGGED: &str = "[logging.access_log]\noutput = \"off\"";
const LOGGED: &str = "[logging.access_log]\noutput = \"/dev/null\"";

/// Tokens of the cache in which look-ups are counted, each of which is looked up: its hash keys are random, and over this
/// many what they bring about evens out.
pub const LOOK_UPS: usize = 1 << 18;

/// Routes in each table.
const ROUTES: usize = 100;

/// Where the measurements' shared inputs come from.
#[derive(Clone)]
pub struct Setting {
    pub directory: Rc<Directory>,
    /// What each poll of a whole request's task goes through.
    pub watch: super::pipeline::Watch,
}

impl Setting {
    pub fn new(watch: super::pipeline::Watch) -> Self {
        Self { directory: Rc::new(Directory::new()), watch }
    }
}

/// Hands out positions of a list, one after another, over and over.
fn turns(length: usize) -> impl Fn() -> usize {
    let next = Cell::new(0);
    move || {
        let turn = next.get();
        next.set(if turn + 1 == length { 0 } else { turn + 1 });
        turn
    }
}

/// Cycles through values.
fn each<T>(values: Vec<T>, mut operation: impl FnMut(&T)) -> impl FnMut() {
    let turn = turns(values.len());
    move || operation(black_box(&values[turn()]))
}

pub fn path_normalization(_: &Setting) -> impl FnMut() + use<> {
    each(PATHS.to_vec(), |path| {
        black_box(target::normalize(path)).unwrap();
    })
}

pub fn path_normalization_encoded(_: &Setting) -> impl FnMut() + use<> {
    each(vec!["/%61pi/v1/na%C3%AFve%20name", "/index/_doc/a%3Ab"], |path| {
        black_box(target::normalize(path)).unwrap();
    })
}

pub fn route_match(_: &Setting) -> impl FnMut() + use<> {
    routes("service-{}.example.com", "service-{}.example.com")
}

pub fn route_match_wildcard(_: &Setting) -> impl FnMut() + use<> {
    routes("*.service-{}.example.com", "node-1.service-{}.example.com")
}

fn routes(pattern: &str, asked: &str) -> impl FnMut() + use<> {
    let named = |text: &str, n: usize| text.replace("{}", &n.to_string());
    let table = || {
        let mut table = RouteTable::default();
        for n in 0..ROUTES {
            let prefix = Pattern::below(if n % 2 == 0 { "/" } else { "/api/v1" });
            table.add(&[named(pattern, n)], &prefix, n, Choice::Always);
        }
        table
    };
    let tables: Vec<_> = (0..TABLES).map(|_| table()).collect();
    let questions: Vec<_> = (0..TABLES).map(|n| (n, named(asked, n))).collect();
    each(questions, move |(n, host)| {
        black_box(tables[*n].find(host, "/api/v1/write")).first().unwrap();
    })
}

pub fn request_ids(_: &Setting) -> impl FnMut() + use<> {
    let ids = IdGenerator::seeded().unwrap();
    move || {
        black_box(ids.request(None));
    }
}

/// The frames of a request and its answer over HTTP/2, as they are counted.
pub fn http2_frames(_: &Setting) -> impl FnMut() + use<> {
    const HEAD: [u8; 9 + 120] = frame(1, 5);
    const ANSWER: [u8; 9 + 60] = frame(1, 4);
    const BODY: [u8; 9 + 113] = frame(0, 1);
    let mut counted = Counted::new(Repeated(&HEAD), Metrics::new(1).listener("main"), 0);
    // The client's preface.
    let mut preface = [0; 24];
    let mut context = Context::from_waker(Waker::noop());
    drop(Pin::new(&mut counted).poll_read(&mut context, &mut ReadBuf::new(&mut preface)));
    move || {
        let mut context = Context::from_waker(Waker::noop());
        let mut read = [0; 1024];
        let mut read = ReadBuf::new(&mut read);
        let polled = Pin::new(&mut counted).poll_read(&mut context, &mut read);
        assert!(polled.is_ready() && read.filled().len() == HEAD.len());
        let slices = [IoSlice::new(&ANSWER), IoSlice::new(&BODY)];
        assert!(Pin::new(&mut counted).poll_write_vectored(&mut context, &slices).is_ready());
    }
}

/// A frame of this kind whose payload says nothing.
const fn frame<const BYTES: usize>(kind: u8, flags: u8) -> [u8; BYTES] {
    let mut frame = [0; BYTES];
    frame[2] = (BYTES - 9) as u8;
    frame[3] = kind;
    frame[4] = flags;
    frame[8] = 1;
    frame
}

/// A stream on which the same comes again and again, at most as much as fits, and which takes everything.
struct Repeated(&'static [u8]);

impl AsyncRead for Repeated {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let length = self.0.len().min(buffer.remaining());
        buffer.put_slice(&self.0[..length]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Repeated {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

pub fn token_format(setting: &Setting) -> impl FnMut() + use<> {
    each(setting.directory.tokens.clone(), |token| {
        black_box(format::inspect(token.as_bytes()));
    })
}

pub fn digest(setting: &Setting) -> impl FnMut() + use<> {
    each(setting.directory.tokens.clone(), |token| {
        black_box(TokenDigest::of(token.as_bytes()));
    })
}

/// Format and digest are parts of it.
pub fn credential_parse(setting: &Setting) -> impl FnMut() + use<> {
    let heads = setting.directory.tokens.iter().map(|token| client_headers(token)).collect();
    each(heads, |headers| {
        black_box(credential::from_headers(headers)).unwrap();
    })
}

/// The last character is another one, and with it the checksum wrong.
pub fn credential_parse_malformed(setting: &Setting) -> impl FnMut() + use<> {
    let heads = setting.directory.tokens.iter().map(|token| client_headers(&spoil(token))).collect();
    each(heads, |headers| {
        black_box(credential::from_headers(headers)).unwrap_err();
    })
}

pub fn look_up(_: &Setting) -> impl FnMut() + use<> {
    let tokens = filled_cache();
    each((0..LOOK_UPS).map(any_digest).collect(), move |digest| {
        black_box(tokens.find(digest)).unwrap();
    })
}

pub fn look_up_unknown(_: &Setting) -> impl FnMut() + use<> {
    let tokens = filled_cache();
    each((LOOK_UPS..2 * LOOK_UPS).map(any_digest).collect(), move |digest| {
        assert!(black_box(tokens.find(digest)).is_none());
    })
}

/// As many tokens as there are look-ups, with room made for them as at a start.
fn filled_cache() -> TokenCache {
    let tokens = TokenCache::default();
    tokens.reserve(LOOK_UPS);
    for number in 0..LOOK_UPS {
        tokens.put(TokenAttributes {
            digest: any_digest(number),
            number: number as u32,
            user: UserIndex(0),
            kind: TokenKind::Application,
            created_at: 0,
            max_age_seconds: None,
            extend_when_used: false,
            end_time: None,
            revoked: false,
            binding: None,
            restrictions: None,
            imported_prefix: None,
            last_used_at: 0,
            last_address: None,
            last_user_agent: None,
        });
    }
    tokens
}

/// What the number alone decides, as little ordered as a digest.
fn any_digest(number: usize) -> TokenDigest {
    let mut state = number as u64;
    let mut word = || {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).to_le_bytes()
    };
    let mut bytes = [0; 32];
    bytes.as_chunks_mut::<8>().0.iter_mut().for_each(|eight| *eight = word());
    TokenDigest::from_bytes(bytes)
}

/// The entry is known: cells to facts to permit.
pub fn decision(setting: &Setting) -> impl FnMut() + use<> {
    let directory = setting.directory.clone();
    let (view, entries) = entries(&directory);
    let now = Timestamp::now().0;
    each(entries, move |entry| {
        let question = Question { now, client_address: CLIENT, required: REQUIRED };
        let gathered = Gathered::new(view, *entry, Some(&directory.project), question);
        let _permit = black_box(policy::decide(&gathered.facts())).unwrap();
    })
}

pub fn usage_noted_already(setting: &Setting) -> impl FnMut() + use<> {
    usage(setting, |now, _use| now)
}

pub fn usage_first_in_a_second(setting: &Setting) -> impl FnMut() + use<> {
    usage(setting, |now, number| now + number)
}

/// A use of one token after another, in the second that `second` makes of a start and the use's number.
fn usage<S: Fn(u32, u32) -> u32>(setting: &Setting, second: S) -> impl FnMut() + use<S> {
    let (view, entries) = entries(&setting.directory);
    // No other use of these tokens is later, so that none is taken for noted already.
    let start = entries.iter().filter_map(|entry| entry.last_used_at()).max().unwrap_or(0);
    let start = start.max(Timestamp::now().0) + 1;
    let mut number = 0;
    each(entries, move |entry| {
        number += 1;
        view.usage.touch(*entry, second(start, number), CLIENT, Some(b"bench/1.0"));
    })
}

/// A directory's view and its tokens' entries, which live as long as the process: entries borrow the view.
fn entries(directory: &Directory) -> (&'static DirectoryView, Vec<TokenEntry<'static>>) {
    let view: &'static DirectoryView = Box::leak(Box::new(directory.view.clone()));
    let find = |token: &String| view.tokens.find(&TokenDigest::of(token.as_bytes())).unwrap();
    (view, directory.tokens.iter().map(find).collect())
}

/// Everything between a head and the decision: credential, look-up, cells, policy, and usage that is noted already.
pub fn token_to_decision(setting: &Setting) -> impl FnMut() + use<> {
    let directory = setting.directory.clone();
    let heads = directory.tokens.iter().map(|token| client_headers(token)).collect();
    let now = Timestamp::now().0;
    each(heads, move |headers: &HeaderMap| {
        let credential = credential::from_headers(headers).unwrap();
        let entry = directory.view.tokens.find(&credential.digest).unwrap();
        let question = Question { now, client_address: CLIENT, required: REQUIRED };
        let gathered = Gathered::new(&directory.view, entry, Some(&directory.project), question);
        let _permit = black_box(policy::decide(&gathered.facts())).unwrap();
        directory.view.usage.touch(entry, now, CLIENT, Some(b"bench/1.0"));
    })
}

/// Names to a set, as at a directory change: never on a request's way.
pub fn permission_expansion(_: &Setting) -> impl FnMut() + use<> {
    let lists = vec![
        vec!["developer"],
        vec!["service:data:write", "service:logs:read"],
        vec!["service:data:write"],
        vec!["read_only", "project:services:write", "service:metrics:read"],
    ];
    each(lists, |names| {
        black_box(permission::expand(names)).unwrap();
    })
}

/// The upstream's header lines, written from a client's.
pub fn header_rewrite(setting: &Setting) -> impl FnMut() + use<> {
    let heads = setting.directory.tokens.iter().map(|token| client_headers(token)).collect();
    let value = HeaderValue::from_static;
    let identity = Identity {
        user_id: value("u2f3a9c0d1e4b"),
        user_kind: value("application"),
        organization_id: value("org1a2b3c4d5e6"),
        project: value("example-project"),
        token_prefix: value("psta_AbCdEfGhIjKl"),
        token: None,
    };
    let host = value("service-1.example.com");
    let forwarding = forwarded::start(CLIENT, Scheme::Https, &host);
    let ids = IdGenerator::seeded().unwrap().request(None);
    let mut written = Vec::with_capacity(4096);
    each(heads, move |headers| {
        written.clear();
        let additions = Additions {
            host: &host,
            identity: Some(&identity),
            ids: &ids,
            authorization: None,
            forwarding: &forwarding,
            changes: None,
        };
        headers::write_upstream_request(headers, additions, &mut written);
        black_box(&written);
    })
}

/// A GET that is permitted, and its small response.
pub fn request_permitted(setting: &Setting) -> impl FnMut() + use<> {
    requests(setting, UNLOGGED, |directory| Request::get(&directory.tokens[1]).passed_on())
}

/// The same, with a line in the access log; the thread that writes lines out is not seen.
pub fn request_permitted_logged(setting: &Setting) -> impl FnMut() + use<> {
    requests(setting, LOGGED, |directory| Request::get(&directory.tokens[1]).passed_on())
}

/// A POST of one KiB, which leaves with its head.
pub fn request_with_body(setting: &Setting) -> impl FnMut() + use<> {
    requests(setting, UNLOGGED, |directory| Request::post(&directory.tokens[1], &[b'x'; 1024]).passed_on())
}

/// Refused with 401 after a digest and a look-up.
pub fn request_unknown_token(setting: &Setting) -> impl FnMut() + use<> {
    requests(setting, UNLOGGED, |directory| Request::get(&directory.unknown).answered(401))
}

/// Refused with 401 before the digest.
pub fn request_malformed_token(setting: &Setting) -> impl FnMut() + use<> {
    requests(setting, UNLOGGED, |directory| Request::get(&spoil(&directory.tokens[1])).answered(401))
}

/// Refused with 403 by the last check.
pub fn request_denied(setting: &Setting) -> impl FnMut() + use<> {
    requests(setting, UNLOGGED, |directory| Request::post(&directory.reader, b"x").answered(403))
}

fn requests<R: Fn(&Directory) -> Request>(
    setting: &Setting,
    more_config: &str,
    request: R,
) -> impl FnMut() + use<R> {
    let request = request(&setting.directory);
    let mut pipeline = Pipeline::new(setting, more_config);
    move || pipeline.exchange(&request)
}

/// Headers as an HTTP library sends them.
fn client_headers(token: &str) -> HeaderMap {
    let authorization = format!("Bearer {token}");
    let lines = [
        ("host", "service-1.example.com"),
        ("user-agent", "python-requests/2.32.3"),
        ("accept-encoding", "gzip, deflate"),
        ("accept", "*/*"),
        ("connection", "keep-alive"),
        ("content-length", "128"),
        ("content-type", "application/json"),
        ("authorization", &authorization),
    ];
    lines
        .into_iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
        .collect()
}

/// A token with another last character.
fn spoil(token: &str) -> String {
    let (kept, last) = token.split_at(token.len() - 1);
    format!("{kept}{}", if last == "x" { "y" } else { "x" })
}
