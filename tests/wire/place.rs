//! Where cases are tried: a sidecar in front of a recording service, each case twice, with a token and without one. A request
//! with a token follows each on the same connection, so that whoever got out of step is found out.
//!
//! What must hold for everything that a service sees, whatever the case, is checked here ([`Place::check_seen`]).

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::version::TLS13;

use crate::case::{Case, Outcome, Part, Seen, Sent};
use crate::support::certificates::Authority;
use crate::support::client::{Broken, Response};
use crate::support::frames::{END_STREAM, Frame, FrameClient, GOAWAY, HEADERS, RST_STREAM, status};
use crate::support::sidecar::{HOST, SidecarBuilder};
use crate::support::upstream::{Peer, Request};
use crate::support::{Client, Sidecar, Upstream, until};

/// Routes beside the usual one. What each is for stands with the cases that take it.
const ROUTES: &str = r#"
[[routes]]
name = "admin"
hosts = ["service.test"]
path_prefix = "/admin"
project = "vault"
service = "service"
upstream = "service"

[[routes]]
name = "query"
hosts = ["query.test"]
project = "demo"
service = "service"
upstream = "service"
credentials = ["bearer", "query"]

[[routes]]
name = "passing"
hosts = ["passing.test"]
project = "demo"
service = "service"
upstream = "service"
pass_authorization = true

[[routes]]
name = "wild"
hosts = ["*.wild.test"]
upstream = "service"
authentication = "off"

[[routes]]
name = "version-1"
hosts = ["version.test"]
project = "demo"
service = "service"
upstream = "service"
match_headers = { x-version = "1" }
"#;

/// The same listener once more, over TLS.
const TLS_LISTENER: &str = r#"
[[listeners]]
name = "tls"
address = "127.0.0.1:0"

[listeners.tls]
certificates = [{ certificate_file = "a.crt", key_file = "a.key" }]
"#;

/// What follows each case on its connection.
const NEXT: &str = "/next-in-line";

/// What makes sure that nothing is under way any more.
const SETTLED: &str = "/settled";

/// A token that nobody has made.
const STRANGERS_TOKEN: &str = "a-token-of-somebody-else";

/// A sidecar and the service behind it.
pub(crate) struct Place {
    pub(crate) upstream: Upstream,
    pub(crate) sidecar: Sidecar,
    /// What clients over TLS speak.
    tls: Tls,
}

struct Tls {
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asker {
    Permitted,
    Stranger,
}

/// How the bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Clear,
    Tls,
}

/// What a client was told, and whether the request that followed on the same connection was served.
struct Told {
    answers: Vec<Answer>,
    next: Next,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Status(u16),
    /// The stream was reset, or the connection told to end.
    Reset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Served,
    Closed,
}

impl Place {
    pub(crate) fn start() -> Self {
        Self::with(|builder| builder)
    }

    /// With something else in its configuration.
    pub(crate) fn with(change: impl FnOnce(SidecarBuilder) -> SidecarBuilder) -> Self {
        let authority = Authority::new();
        let certificate = authority.certificate(&[HOST]);
        let upstream = Upstream::start(answer_as_asked);
        // One worker, so that whatever spoils a connection to the service spoils it for what comes next.
        let builder = Sidecar::in_front_of(&upstream)
            .one_worker()
            .more(ROUTES)
            .more_listeners(TLS_LISTENER)
            .file("a.crt", &certificate.pem)
            .file("a.key", &certificate.key_pem);
        let sidecar = change(builder).start();
        let tls = Tls {
            http1: authority.client(&[&TLS13], &["http/1.1"]),
            http2: authority.client(&[&TLS13], &["h2"]),
        };
        Self { upstream, sidecar, tls }
    }

    /// Tries all cases, and fails with all that went otherwise than expected.
    #[track_caller]
    pub(crate) fn try_all(&self, cases: &[Case], transport: Transport) {
        let mut wrong = Vec::new();
        for case in cases {
            for asker in [Asker::Permitted, Asker::Stranger] {
                if let Err(problem) = self.try_one(case, asker, transport) {
                    wrong.push(format!("{asker:?}, {}: {problem}", case.name));
                }
            }
        }
        assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
        self.assert_nothing_is_held_against_the_service();
    }

    fn try_one(&self, case: &Case, asker: Asker, transport: Transport) -> Result<(), String> {
        let outcomes = case.outcomes.iter().cloned().map(|outcome| match asker {
            Asker::Permitted => outcome,
            Asker::Stranger => outcome.for_stranger(),
        });
        let outcomes: Vec<_> = outcomes.collect();
        let mark = self.upstream.mark();
        let before = self.upstream.requests().len();
        let told = match &case.sent {
            Sent::Bytes { bytes, pause } => {
                self.tell_http1(bytes, *pause, outcomes.len(), asker, transport)?
            }
            Sent::Frames(parts) => self.tell_http2(parts, asker, transport)?,
        };
        check_told(case, &outcomes, &told)?;

        // One connection may wait for what comes next. Where a request may have begun, that one is made sure of: whatever else there
        // is has to end, and with it what the service sees of it.
        if outcomes.iter().any(|outcome| matches!(outcome, Outcome::BrokenOff(_))) {
            let settled = self.sidecar.request(self.sidecar.head(&format!("GET {SETTLED}"), ""));
            assert_eq!(settled.status, 200, "{}", settled.text());
        }
        until("broken off requests to end", || self.upstream.open_connections() <= 1);
        let received = self.upstream.received_since(&mark);
        let mut requests = self.upstream.requests().split_off(before);
        requests.retain(|request| request.target != SETTLED);
        self.check_received(&outcomes, &told, &received, &requests, transport)
    }

    /// Sends bytes, and a request behind them, and reads what comes back.
    fn tell_http1(
        &self,
        bytes: &[u8],
        pause: Option<(usize, &str)>,
        count: usize,
        asker: Asker,
        transport: Transport,
    ) -> Result<Told, String> {
        let mut client = match transport {
            Transport::Clear => self.sidecar.connect(),
            Transport::Tls => {
                Client::connect_tls(self.sidecar.listeners[1], HOST, Arc::clone(&self.tls.http1)).unwrap()
            }
        };
        let next = self.sidecar.head(&format!("GET {NEXT}"), "");
        let (first, rest) = bytes.split_at(pause.map_or(0, |(at, _)| at));
        if let Some((_, awaited)) = pause.filter(|_| asker == Asker::Permitted) {
            let mark = self.upstream.mark();
            client.send(self.filled(first, asker));
            until("the service to see the beginning", || {
                String::from_utf8_lossy(&self.upstream.received_since(&mark)).contains(awaited)
            });
            let _closed = client.try_send([&self.filled(rest, asker)[..], next.as_bytes()].concat());
        } else {
            // The sidecar may close before it has taken all of it.
            let _closed = client.try_send([&self.filled(bytes, asker)[..], next.as_bytes()].concat());
        }
        let is_head = bytes.starts_with(b"HEAD ");
        let mut answers = Vec::new();
        let mut closes = false;
        while answers.len() < count && !closes {
            let read = if is_head && answers.is_empty() { client.read_head() } else { client.try_response() };
            let response = read.map_err(|broken| format!("answered {answers:?}, then {broken:?}"))?;
            closes = response.values("connection").iter().any(|value| value.eq_ignore_ascii_case("close"));
            answers.push(Answer::Status(response.status));
        }
        let next = match client.try_response() {
            Err(Broken::Closed) if closes => Next::Closed,
            Ok(response) if !closes && is_answer_to_next(&response) => Next::Served,
            other => return Err(format!("answered {answers:?}, closes: {closes}, then {other:?}")),
        };
        Ok(Told { answers, next })
    }

    /// Sends a stream, and a request on another, and reads what comes back.
    fn tell_http2(&self, parts: &[Part], asker: Asker, transport: Transport) -> Result<Told, String> {
        let mut client = match transport {
            Transport::Clear => FrameClient::connect(self.sidecar.address()),
            Transport::Tls => {
                FrameClient::connect_tls(self.sidecar.listeners[1], HOST, Arc::clone(&self.tls.http2))
            }
        };
        for (number, part) in parts.iter().enumerate() {
            let flags = if number + 1 == parts.len() { END_STREAM } else { 0 };
            match part {
                Part::Fields(fields) => {
                    let fields = self.filled_fields(fields, asker);
                    let fields: Vec<_> =
                        fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                    client.send_head(1, flags, &fields);
                }
                Part::Data(bytes) => client.send_data(1, flags, &self.filled(bytes, asker)),
            }
        }
        let frames = client.read_stream(1);
        let answer = answer(&frames)?;
        if frames.last().is_none_or(|frame| frame.kind == GOAWAY) {
            return Ok(Told { answers: vec![answer], next: Next::Closed });
        }
        let authorization = format!("Bearer {}", self.sidecar.permitted.token);
        let next = [
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", HOST),
            (":path", NEXT),
            ("authorization", &authorization),
        ];
        client.send_head(3, END_STREAM, &next);
        let next = client.read_stream(3);
        match next.first().map(|frame| (frame.kind, status(&frame.payload))) {
            Some((HEADERS, Some(200))) => Ok(Told { answers: vec![answer], next: Next::Served }),
            Some((GOAWAY, _)) | None => Ok(Told { answers: vec![answer], next: Next::Closed }),
            _ => Err(format!("answered {answer:?}, then {next:?}")),
        }
    }

    /// What the service received, against what it was to see.
    fn check_received(
        &self,
        outcomes: &[Outcome],
        told: &Told,
        received: &[u8],
        requests: &[Request],
        transport: Transport,
    ) -> Result<(), String> {
        let text = String::from_utf8_lossy(received);
        if let Some(word) = ["forged", "smuggled"].into_iter().find(|word| text.contains(word)) {
            return Err(format!("{word:?} reached the service: {text}"));
        }
        let mut expected: Vec<(Option<&Seen>, &str)> = Vec::new();
        for outcome in outcomes {
            if let Some(seen) = outcome.seen() {
                expected.push((Some(seen), &seen.target));
            }
        }
        if told.next == Next::Served {
            expected.push((None, NEXT));
        }
        let targets: Vec<_> = requests.iter().map(|request| request.target.as_str()).collect();
        let expected_targets: Vec<_> = expected.iter().map(|(_, target)| *target).collect();
        if targets != expected_targets {
            return Err(format!("the service saw {targets:?}, not {expected_targets:?}"));
        }
        for (request, (seen, _)) in requests.iter().zip(&expected) {
            let is_open =
                outcomes.iter().any(|outcome| matches!(outcome, Outcome::Open(_))) && seen.is_some();
            self.check_seen(request, *seen, is_open, transport)?;
        }
        // Where nothing but what follows may be seen, not a byte of the case itself is.
        let may_have_begun = outcomes.iter().any(|outcome| matches!(outcome, Outcome::BrokenOff(_)));
        let is_only_next = text.is_empty()
            || (text.starts_with(&format!("GET {NEXT} ")) && text.find("\r\n\r\n") == Some(text.len() - 4));
        if outcomes.iter().all(|outcome| outcome.seen().is_none()) && !may_have_begun && !is_only_next {
            return Err(format!("the service saw {text:?}"));
        }
        Ok(())
    }

    /// What holds for everything that a service sees, and what a case says beside it.
    fn check_seen(
        &self,
        request: &Request,
        seen: Option<&Seen>,
        is_open: bool,
        transport: Transport,
    ) -> Result<(), String> {
        let host = seen.map_or(HOST, |seen| seen.host.as_str());
        let scheme = match transport {
            Transport::Clear => "http",
            Transport::Tls => "https",
        };
        let permitted = &self.sidecar.permitted;
        let identity = [
            ("x-postern-user-id", permitted.user_id.as_str()),
            ("x-postern-user-kind", "application"),
            ("x-postern-organization-id", "org1a2b3c4d5e6"),
            ("x-postern-project", "demo"),
            ("x-postern-token-prefix", permitted.prefix.as_str()),
        ];
        let forwarded = format!("for=127.0.0.1;host={host};proto={scheme}");
        let mut expected: Vec<(&str, Vec<&str>)> = vec![
            ("host", vec![host]),
            ("x-forwarded-for", vec!["127.0.0.1"]),
            ("x-forwarded-proto", vec![scheme]),
            ("x-forwarded-host", vec![host]),
        ];
        expected.push(("forwarded", vec![&forwarded]));
        expected.extend(identity.map(|(name, value)| (name, if is_open { Vec::new() } else { vec![value] })));
        let never = [
            "authorization",
            "proxy-authorization",
            "connection",
            "proxy-connection",
            "keep-alive",
            "upgrade",
            "http2-settings",
            "te",
            "expect",
            "x-original-url",
            "x-rewrite-url",
            "x-http-method-override",
        ];
        expected.extend(never.map(|name| (name, Vec::new())));
        // What a case says itself goes for it.
        let own: Vec<(&str, Vec<String>)> = seen
            .iter()
            .flat_map(|seen| &seen.fields)
            .map(|(name, values)| {
                (
                    name.as_str(),
                    values.iter().map(|value| self.filled_text(value, Asker::Permitted)).collect(),
                )
            })
            .collect();
        expected.retain(|(name, _)| own.iter().all(|(own, _)| own != name));
        for (name, values) in expected
            .iter()
            .map(|(name, values)| (*name, values.clone()))
            .chain(own.iter().map(|(name, values)| (*name, values.iter().map(String::as_str).collect())))
        {
            if request.values(name) != values {
                return Err(format!("{name} is {:?}, not {values:?}, in {request}", request.values(name)));
            }
        }
        // In no other spelling either: servers that turn headers into variables cannot tell most characters apart.
        let spelled = |name: &String| {
            name.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-").contains("x-postern-")
        };
        let ours = request.names().iter().filter(|name| spelled(name)).count();
        if ours != if is_open { 1 } else { 6 } {
            return Err(format!("{ours} headers are like Postern's in {request}"));
        }
        if request.values("content-length").len() + request.values("transfer-encoding").len() > 1 {
            return Err(format!("there is more than one framing in {request}"));
        }
        let carries_token = own.iter().any(|(name, _)| *name == "authorization");
        if !carries_token && format!("{request}").contains(&permitted.token) {
            return Err(format!("there is the token in {request}"));
        }
        let Some(seen) = seen else { return Ok(()) };
        if request.body != seen.body.as_bytes() {
            return Err(format!("the body is {:?}", String::from_utf8_lossy(&request.body)));
        }
        let trailers =
            request.trailers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone()));
        let trailers: Vec<_> = trailers.collect();
        if trailers != seen.trailers {
            return Err(format!("the trailers are {trailers:?}"));
        }
        Ok(())
    }

    /// Whatever clients did, the service did nothing wrong.
    #[track_caller]
    fn assert_nothing_is_held_against_the_service(&self) {
        let metrics = self.sidecar.metrics();
        let series = metrics.lines().filter(|line| line.starts_with("postern_upstream_requests_total{"));
        for outcome in ["failed", "timeout", "unreachable"] {
            let own = format!("outcome=\"{outcome}\"");
            let mut counted = series.clone().filter(|line| line.contains(&own)).peekable();
            assert!(counted.peek().is_some(), "there is a series of {outcome}:\n{metrics}");
            counted.for_each(|line| assert!(line.ends_with(" 0"), "held against the service: {line}"));
        }
    }

    fn filled_fields(&self, fields: &[(String, String)], asker: Asker) -> Vec<(String, String)> {
        let filled = fields.iter().filter_map(|(name, value)| match (value.as_str(), asker) {
            ("<auth>", Asker::Stranger) => None,
            ("<auth>", Asker::Permitted) => {
                Some((name.clone(), format!("Bearer {}", self.sidecar.permitted.token)))
            }
            _ => Some((name.clone(), self.filled_text(value, asker))),
        });
        filled.collect()
    }

    fn filled_text(&self, text: &str, asker: Asker) -> String {
        String::from_utf8(self.filled(text.as_bytes(), asker)).unwrap()
    }

    /// A case's text with what its words stand for.
    fn filled(&self, text: &[u8], asker: Asker) -> Vec<u8> {
        let token = match asker {
            Asker::Permitted => self.sidecar.permitted.token.as_str(),
            Asker::Stranger => STRANGERS_TOKEN,
        };
        let line = match asker {
            Asker::Permitted => format!("Authorization: Bearer {token}\r\n"),
            Asker::Stranger => String::new(),
        };
        let usual = format!("Host: {HOST}\r\n{line}");
        let filled = replaced(text, b"<usual>", usual.trim_end().as_bytes());
        let filled = replaced(&filled, b"<auth>", line.as_bytes());
        replaced(&filled, b"<token>", token.as_bytes())
    }
}

/// Answers with what was asked, and with another status where the target says so: `/answer/426`.
fn answer_as_asked(peer: &mut Peer) {
    while let Some(request) = peer.read_request() {
        let status = request.target.strip_prefix("/answer/").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.unwrap_or(200);
        if request.method == "HEAD" {
            peer.respond(status, &[], b"");
        } else {
            // No more than an HTTP/2 client takes before it gives more room.
            let asked: String = request.to_string().chars().take(1000).collect();
            peer.respond(status, &[("content-type", "text/plain")], asked.as_bytes());
        }
    }
}

fn is_answer_to_next(response: &Response) -> bool {
    response.status == 200 && response.text().starts_with(&format!("GET {NEXT}\n"))
}

/// What the frames of a stream say.
fn answer(frames: &[Frame]) -> Result<Answer, String> {
    let first = frames.iter().find(|frame| matches!(frame.kind, HEADERS | RST_STREAM | GOAWAY));
    match first {
        Some(frame) if frame.kind == HEADERS => match status(&frame.payload) {
            Some(status) => Ok(Answer::Status(status)),
            None => Err(format!("a status cannot be read: {frame:?}")),
        },
        _ => Ok(Answer::Reset),
    }
}

fn check_told(case: &Case, outcomes: &[Outcome], told: &Told) -> Result<(), String> {
    for (number, outcome) in outcomes.iter().enumerate() {
        let answer = told.answers.get(number);
        let may_be_reset = case.is_over_http2()
            // A body that breaks the rules may be noticed before the lack of a token.
            && case.outcomes.iter().any(|own| matches!(own, Outcome::Refused(_) | Outcome::BrokenOff(_)));
        let is_right = match answer {
            Some(Answer::Status(status)) => *status == outcome.status(),
            Some(Answer::Reset) => may_be_reset,
            None => false,
        };
        if !is_right {
            return Err(format!("answered {answer:?}, not {}", outcome.status()));
        }
        let must_close = matches!(outcome, Outcome::Refused(_) | Outcome::BrokenOff(_));
        if must_close && !case.is_over_http2() && told.next != Next::Closed {
            return Err("the connection goes on".to_owned());
        }
    }
    Ok(())
}

fn replaced(text: &[u8], word: &[u8], by: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memmem::find(rest, word) {
        replaced.extend_from_slice(&rest[..at]);
        replaced.extend_from_slice(by);
        rest = &rest[at + word.len()..];
    }
    replaced.extend_from_slice(rest);
    replaced
}
