//! A case of the wire tests: what a client sends, and what must become of it. Only data, and the few words that tables are
//! written in; how a case is run is in `place.rs`.
//!
//! Three words in a case's text stand for something else: `<usual>` for the lines that name the usual host and a permitted token,
//! `<auth>` for the line with the token alone (its end included), `<token>` for the token. In the hands of a stranger, `<usual>` has no
//! token, `<auth>` is nothing, and `<token>` is a token that nobody has made. Two other words must never be seen upstream, by
//! which a case says what must not get through: `forged` and `smuggled`.

use crate::support::sidecar::HOST;

/// One attack, or what looks like one and is none.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) sent: Sent,
    /// What must become of its requests, in their order; there is one on a stream of HTTP/2.
    pub(crate) outcomes: Vec<Outcome>,
}

/// What a client sends.
#[derive(Clone, Debug)]
pub(crate) enum Sent {
    /// Over HTTP/1.1, exactly these bytes.
    Bytes {
        bytes: Vec<u8>,
        /// Not all at once: only when the service has seen this does the rest come, behind the first so many bytes.
        pause: Option<(usize, &'static str)>,
    },
    /// Over HTTP/2, one stream, which ends with the last of these.
    Frames(Vec<Part>),
}

/// A part of a stream.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    /// A head or trailers, in the order of their fields.
    Fields(Vec<(String, String)>),
    Data(Vec<u8>),
}

/// What must become of a request.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// Refused whoever asks, and the service sees nothing: over HTTP/1.1 with this status and the end of the connection, over HTTP/2
    /// with this status or the end of the stream or connection.
    Refused(u16),
    /// Answered so whoever asks, and the service sees nothing.
    Answered(u16),
    /// Refused so to who holds a token, and the service sees nothing.
    Denied(u16),
    /// Refused amid its body: the service may have seen its beginning, never all of it.
    BrokenOff(u16),
    /// The service sees it, and so it is.
    Forwarded(Seen),
    /// The same whoever asks: its route is declared open.
    Open(Seen),
    /// It carries no token, whoever asks.
    Unauthenticated,
}

/// What a service sees of a request, beside what must hold for all of them (see `place.rs`).
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// What the client is answered.
    pub(crate) status: u16,
    pub(crate) target: String,
    pub(crate) host: String,
    /// All values of these headers, in order.
    pub(crate) fields: Vec<(String, Vec<String>)>,
    pub(crate) body: String,
    /// All of them, names in lower case.
    pub(crate) trailers: Vec<(String, String)>,
}

/// Over HTTP/1.1, exactly these bytes.
pub(crate) fn http1(bytes: impl AsRef<[u8]>, outcome: Outcome) -> Case {
    let bytes = bytes.as_ref().to_vec();
    Case { name: shown(&bytes), sent: Sent::Bytes { bytes, pause: None }, outcomes: vec![outcome] }
}

/// Over HTTP/2, the usual head without a body, and further fields in it; pseudo-fields take the places of the usual ones.
pub(crate) fn http2(fields: &[(&str, &str)], outcome: Outcome) -> Case {
    stream(vec![head(fields)], outcome)
}

/// Over HTTP/2, these parts of one stream.
pub(crate) fn stream(parts: Vec<Part>, outcome: Outcome) -> Case {
    let name = parts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Case { name: shown(name.as_bytes()), sent: Sent::Frames(parts), outcomes: vec![outcome] }
}

/// Over both, one request: `GET /path`, further fields, a body. A `host` or an `authorization` among the fields takes the place of
/// the usual one.
pub(crate) fn both(request: &str, fields: &[(&str, &str)], body: &str, outcome: Outcome) -> [Case; 2] {
    let (method, target) = request.split_once(' ').expect("a method and a target");
    let is_own = |wanted: &str| fields.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted));

    let mut bytes = format!("{method} {target} HTTP/1.1\r\n");
    if !is_own("host") {
        bytes += &format!("Host: {HOST}\r\n");
    }
    if !is_own("authorization") {
        bytes += "<auth>";
    }
    for (name, value) in fields {
        bytes += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() {
        bytes += &format!("Content-Length: {}\r\n", body.len());
    }
    bytes += &format!("\r\n{body}");

    let mut own = vec![(":method", method), (":path", target)];
    let lower_case: Vec<_> = fields.iter().map(|(name, value)| (name.to_lowercase(), *value)).collect();
    own.extend(lower_case.iter().map(|(name, value)| match name.as_str() {
        "host" => (":authority", *value),
        name => (name, *value),
    }));
    let mut parts = vec![head(&own)];
    if !body.is_empty() {
        parts.push(data(body));
    }
    [http1(bytes, outcome.clone()), stream(parts, outcome)]
}

/// The usual head over HTTP/2, and further fields behind it; pseudo-fields take the places of the usual ones, `authorization` too.
pub(crate) fn head(fields: &[(&str, &str)]) -> Part {
    let mut head = vec![
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", HOST),
        (":path", "/items"),
        ("authorization", "<auth>"),
    ];
    if fields.iter().any(|(name, _)| *name == "authorization") {
        head.pop();
    }
    for (name, value) in fields {
        match head.iter_mut().find(|(own, _)| own == name && name.starts_with(':')) {
            Some(field) => field.1 = value,
            // Pseudo-fields come first.
            None if name.starts_with(':') => head.insert(0, (name, value)),
            None => head.push((name, value)),
        }
    }
    exactly(&head)
}

/// Exactly these fields: a head with something missing or out of place, or trailers.
pub(crate) fn exactly(fields: &[(&str, &str)]) -> Part {
    Part::Fields(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}

pub(crate) fn data(bytes: impl AsRef<[u8]>) -> Part {
    Part::Data(bytes.as_ref().to_vec())
}

pub(crate) fn refused(status: u16) -> Outcome {
    Outcome::Refused(status)
}

/// The service sees this target, and answers 200.
pub(crate) fn forwarded(target: &str) -> Outcome {
    Outcome::Forwarded(Seen::of(target))
}

impl Case {
    /// Says in words what it is.
    pub(crate) fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// A further request of its bytes, and what must become of that.
    pub(crate) fn and(mut self, outcome: Outcome) -> Self {
        self.outcomes.push(outcome);
        self
    }

    /// Its bytes from `rest` on come only when the service has seen `awaited`. A stranger does not wait.
    pub(crate) fn with_pause(mut self, rest: &str, awaited: &'static str) -> Self {
        let Sent::Bytes { bytes, pause } = &mut self.sent else { panic!("only bytes can wait") };
        let at = bytes.windows(rest.len()).position(|window| window == rest.as_bytes());
        *pause = Some((at.expect("the rest is a part of the bytes"), awaited));
        self.name = format!("{} (the rest later)", self.name);
        self
    }

    pub(crate) fn is_over_http2(&self) -> bool {
        matches!(self.sent, Sent::Frames(_))
    }
}

impl Outcome {
    /// What becomes of the same request without a token.
    pub(crate) fn for_stranger(self) -> Self {
        match self {
            Self::Refused(_) | Self::Answered(_) | Self::Open(_) | Self::Unauthenticated => self,
            Self::Denied(_) | Self::BrokenOff(_) | Self::Forwarded(_) => Self::Unauthenticated,
        }
    }

    /// The status that the client gets.
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Refused(status)
            | Self::Answered(status)
            | Self::Denied(status)
            | Self::BrokenOff(status) => *status,
            Self::Forwarded(seen) | Self::Open(seen) => seen.status,
            Self::Unauthenticated => 401,
        }
    }

    /// What the service sees of it, if it sees it.
    pub(crate) fn seen(&self) -> Option<&Seen> {
        match self {
            Self::Forwarded(seen) | Self::Open(seen) => Some(seen),
            Self::Refused(_)
            | Self::Answered(_)
            | Self::Denied(_)
            | Self::BrokenOff(_)
            | Self::Unauthenticated => None,
        }
    }

    /// A header whose values the service sees, and no others of that name.
    pub(crate) fn with(self, name: &str, values: &[&str]) -> Self {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        self.changed(|seen| seen.fields.push((name.to_owned(), values)))
    }

    /// Headers that it does not see.
    pub(crate) fn without(self, names: &[&str]) -> Self {
        names.iter().fold(self, |outcome, name| outcome.with(name, &[]))
    }

    pub(crate) fn with_body(self, body: &str) -> Self {
        self.changed(|seen| body.clone_into(&mut seen.body))
    }

    /// The trailers that it sees.
    pub(crate) fn with_trailers(self, trailers: &[(&str, &str)]) -> Self {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.changed(|seen| seen.trailers = trailers.iter().map(own).collect())
    }

    /// The host that it sees instead of the usual one.
    pub(crate) fn at(self, host: &str) -> Self {
        self.changed(|seen| host.clone_into(&mut seen.host))
    }

    /// What it answers.
    pub(crate) fn answering(self, status: u16) -> Self {
        self.changed(|seen| seen.status = status)
    }

    /// Whoever asks: the route is declared open.
    pub(crate) fn for_anybody(self) -> Self {
        match self {
            Self::Forwarded(seen) => Self::Open(seen),
            other => panic!("{other:?} is not forwarded"),
        }
    }

    fn changed(mut self, change: impl FnOnce(&mut Seen)) -> Self {
        match &mut self {
            Self::Forwarded(seen) | Self::Open(seen) => change(seen),
            other => panic!("of {other:?} the service sees nothing"),
        }
        self
    }
}

impl Seen {
    fn of(target: &str) -> Self {
        Self {
            status: 200,
            target: target.to_owned(),
            host: HOST.to_owned(),
            fields: Vec::new(),
            body: String::new(),
            trailers: Vec::new(),
        }
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fields(fields) => f.debug_list().entries(fields).finish(),
            Self::Data(data) => write!(f, "{:?}", String::from_utf8_lossy(data)),
        }
    }
}

/// The beginning of what is sent, without line ends.
fn shown(bytes: &[u8]) -> String {
    let mut shown = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).escape_debug().to_string();
    if bytes.len() > 300 {
        shown += &format!("… ({} bytes)", bytes.len());
    }
    shown
}
