//! Other people's cases of HTTP/1, those of http_desync_guardian and gunicorn, read from their packages: what they call invalid or
//! ambiguous never reaches the upstream as a request, what they call valid does, and without a token nothing does. Where
//! Postern answers differently on purpose, [`DIFFERENT`] says why.

use std::path::{Path, PathBuf};
use std::process::Command;

use data_encoding::BASE64;
use serde::Deserialize;

use crate::support::{Client, Sidecar, Upstream, peers};

/// Cases whose authors expect otherwise: the beginning of their names, and what is in them. Above each group stands why Postern
/// differs, and where that is written.
const DIFFERENT: &[(&str, &str)] = &[
    // Field names are tokens and values have no control characters (RFC 9110, sections 5.1 and 5.5); nothing stands between a
    // name and its colon, and folded lines are refused (RFC 9112, sections 5.1 and 5.2).
    ("http_desync_guardian acceptable 0:", "a space in front of the colon"),
    ("http_desync_guardian acceptable 1:", "a space in front of the colon"),
    ("http_desync_guardian acceptable 2:", "a control character in a name"),
    ("http_desync_guardian acceptable 3:", "a space in front of the colon"),
    ("http_desync_guardian bad-header-characters 11:", "a control character in a name"),
    ("http_desync_guardian bad-header-characters 12:", "a control character in a name"),
    ("http_desync_guardian bad-header-characters 13:", "a control character in a value"),
    ("http_desync_guardian bad-header-characters 14:", "a control character in a value"),
    ("gunicorn valid/028", "a space in front of the colon; an option of theirs"),
    ("gunicorn valid/compat_obs_fold", "a folded line; an option of theirs"),
    // Two versions are spoken (RFC 9110, section 15.6.6).
    ("http_desync_guardian acceptable 6:", "HTTP/0.9: 505"),
    ("http_desync_guardian acceptable 7:", "no version"),
    ("http_desync_guardian acceptable 8:", "HTTP/1.2: 505"),
    // Of transfer codings only `chunked` is understood, once and without parameters; 501 otherwise (RFC 9112, section 6.1).
    ("http_desync_guardian more-compliant-tests 5:", "gzip before chunked"),
    ("http_desync_guardian more-compliant-tests 7:", "identity before chunked"),
    ("http_desync_guardian more-compliant-tests 8:", "several codings"),
    ("http_desync_guardian more-compliant-tests 9:", "a parameter of chunked"),
    ("http_desync_guardian rfc-compliant 8:", "several codings"),
    ("http_desync_guardian rfc-compliant 9:", "several codings"),
    ("http_desync_guardian rfc-compliant 10:", "a parameter of chunked"),
    ("gunicorn valid/025", "gzip before chunked"),
    ("gunicorn valid/029", "identity before chunked"),
    ("gunicorn valid/030", "identity before chunked"),
    ("gunicorn valid/rfc9112_smuggle_gzip_chunked_01", "gzip before chunked"),
    ("gunicorn valid/rfc9112_smuggle_te_identity_chunked_01", "identity before chunked"),
    // What a target may consist of (RFC 3986, sections 3.3 and 3.4; RFC 9112, section 3.2: who receives another may refuse it). What is
    // encoded and would end a path for some servers has two readings (RFC 3986, section 7.3).
    ("http_desync_guardian rfc-compliant 11:", "quotes, a fragment, a backslash"),
    ("http_desync_guardian rfc-compliant 12:", "letters that are not encoded"),
    ("http_desync_guardian rfc-compliant 13:", "no target"),
    ("http_desync_guardian uri-specific-test-cases 3:", "a space in the target"),
    ("http_desync_guardian uri-specific-test-cases 10:", "an encoded control character in the path"),
    ("http_desync_guardian uri-specific-test-cases 12:", "an encoded control character in the path"),
    ("http_desync_guardian uri-specific-test-cases 13:", "an encoded control character in the path"),
    ("gunicorn valid/005", "a fragment, which no client sends (RFC 9112, section 3.2)"),
    ("gunicorn valid/014", "quotes that are not encoded"),
    ("gunicorn valid/100", "empty segments, which servers read in two ways"),
    // What a host may consist of: names as DNS has them and addresses, fewer than RFC 3986 (section 3.2.2) has room for.
    ("gunicorn valid/002", "`=` in a host"),
    ("gunicorn valid/003", "`=` in a host"),
    // Targets of other forms: user information is to be taken for an error; what concerns the proxy itself, and tunnels, which it
    // does not make, are answered by it (RFC 9110, sections 4.2.4, 9.3.6 and 9.3.7).
    ("gunicorn valid/rfc9112_target_absolute_userinfo_01", "user information"),
    ("gunicorn valid/rfc9112_target_asterisk_options_01", "`OPTIONS *` is answered by Postern itself"),
    ("gunicorn valid/rfc9112_target_authority_connect_01", "CONNECT: 405"),
    ("gunicorn valid/rfc9112_target_authority_ipv6_01", "CONNECT: 405"),
    // An option of theirs: the PROXY protocol on a listener that has not been told to expect it. To HTTP it is no request line (RFC
    // 9112, section 3).
    ("gunicorn valid/pp_", "the PROXY protocol"),
    // An option of theirs changes the method's letters, which tell methods apart (RFC 9110, section 9.1).
    ("gunicorn valid/031compat", "a method is forwarded in the letters it came in"),
    // A body with GET or HEAD has no meaning and no second reading (RFC 9110, section 9.3.1): it is framed anew.
    ("http_desync_guardian ambiguous 12:", "GET with a body"),
    ("http_desync_guardian ambiguous 13:", "GET with a body"),
    ("http_desync_guardian ambiguous 14:", "HEAD with a body"),
    ("http_desync_guardian ambiguous 15:", "HEAD with a body"),
    ("http_desync_guardian real-life-test-cases 0:", "GET with a body"),
    ("http_desync_guardian real-life-test-cases 1:", "GET with a body"),
    // Forwarded without the line: what servers that make variables of names (RFC 3875, section 4.1.18) cannot tell from a framing
    // header is not copied, in any spelling; what a peer that is not trusted says of others neither (RFC 7239, section 8.1).
    ("http_desync_guardian ambiguous 7:", "`Transfer_Encoding` is dropped"),
    ("http_desync_guardian ambiguous 8:", "`Content_Length` is dropped"),
    ("gunicorn invalid/040", "`Transfer_Encoding` and `Content_Length` are dropped"),
    ("gunicorn invalid/chunked_07", "`Transfer_Encoding` is dropped"),
    ("gunicorn invalid/019", "`X-Forwarded-*` of a peer that is not trusted is dropped"),
    ("gunicorn invalid/rfc9110_trailer_forbidden_", "such a trailer is dropped (RFC 9110, section 6.5.1)"),
    // Other names than those of framing headers to every server that we know of: names are compared whole (RFC 9110, section 5.1).
    ("http_desync_guardian ambiguous 30:", "`Transfer---Encoding`"),
    ("http_desync_guardian ambiguous 31:", "`Transfer___Encoding`"),
    // Limits and tastes of theirs: how long a line, a field or all of them may be is everybody's own to say (RFC 9112, section 3; RFC
    // 9110, section 5.4).
    (
        "gunicorn invalid/003c",
        "a method is any token (RFC 9110, section 9.1); theirs has three characters at least",
    ),
    ("gunicorn invalid/006", "their limit of a target's length"),
    ("gunicorn invalid/008", "their limit of the number of headers"),
    ("gunicorn invalid/010", "their limit of the number of headers"),
    ("gunicorn invalid/limit_header_default_01", "their limit of a header's length"),
    ("gunicorn invalid/007", "their limit of a header's length"),
    ("gunicorn invalid/017", "their limit of a header's length"),
    ("gunicorn invalid/041", "`Content-Type` twice frames nothing: the service judges it"),
];

/// A case as `tests/peers/vectors/cases.py` prints it.
#[derive(Deserialize)]
struct Printed {
    name: String,
    bytes: String,
    is_valid: bool,
    /// The bytes end amid a request.
    is_cut_short: bool,
    method: Option<String>,
    body: Option<String>,
}

/// Bytes, and what their authors expect to become of the first request in them.
struct Case {
    name: String,
    bytes: Vec<u8>,
    is_valid: bool,
    /// The bytes end amid a request.
    is_cut_short: bool,
    method: Option<String>,
    body: Option<Vec<u8>>,
}

impl Case {
    fn afterwards(&self) -> Afterwards {
        if self.is_cut_short { Afterwards::Close } else { Afterwards::Wait }
    }
}

#[test]
fn they_are_forwarded_or_refused_as_their_authors_say() {
    let Some(cases) = cases() else { return };
    assert!(cases.len() >= 300, "{} cases were found", cases.len());
    let place = Place::start();
    let mut used = vec![false; DIFFERENT.len()];
    let mut wrong = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let different = DIFFERENT.iter().position(|(name, _)| case.name.starts_with(name));
        match (place.judge(number, case), different) {
            (Ok(()), _) => {}
            (Err(_), Some(position)) => used[position] = true,
            (Err(problem), None) => wrong.push(format!("{}: {problem}", case.name)),
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    let idle: Vec<_> = DIFFERENT.iter().zip(used).filter(|(_, used)| !used).map(|(one, _)| one.0).collect();
    assert!(idle.is_empty(), "these are as their authors say by now: {idle:?}");
}

#[test]
fn without_a_token_none_is_forwarded() {
    let Some(cases) = cases() else { return };
    let place = Place::start();
    for case in &cases {
        place.send(&with_lines(&case.bytes, ""), case.afterwards());
        assert_eq!(place.upstream.received_text(), "", "{}", case.name);
    }
}

struct Place {
    upstream: Upstream,
    sidecar: Sidecar,
}

impl Place {
    fn start() -> Self {
        let upstream = Upstream::echo();
        // Whatever host a case names.
        let any_host =
            "[[routes]]\nname = \"any\"\nproject = \"demo\"\nservice = \"service\"\nupstream = \"service\"";
        let sidecar = Sidecar::in_front_of(&upstream).more(any_host).start();
        Self { upstream, sidecar }
    }

    /// Sends bytes; returns the status of the first answer, if one comes.
    fn send(&self, bytes: &[u8], afterwards: Afterwards) -> Option<u16> {
        let mut client = Client::connect(self.sidecar.address());
        // The sidecar may close before it has taken all of it.
        let _closed = client.try_send(bytes);
        match afterwards {
            Afterwards::Wait => client.read_head().ok().map(|answer| answer.status),
            Afterwards::Close => {
                client.finish_sending();
                let answers = client.read_to_end();
                let status = answers.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
                std::str::from_utf8(status).ok()?.parse().ok()
            }
        }
    }

    fn judge(&self, number: usize, case: &Case) -> Result<(), String> {
        let token = &self.sidecar.permitted.token;
        let bytes =
            with_lines(&case.bytes, &format!("Authorization: Bearer {token}\r\nX-Case: {number}\r\n"));
        let status = self.send(&bytes, case.afterwards());
        let number = number.to_string();
        let mut requests = self.upstream.requests().into_iter();
        let forwarded = requests.find(|request| request.header("x-case") == Some(&number));
        if !case.is_valid {
            return match (forwarded, status) {
                (None, None | Some(400..)) => Ok(()),
                (None, status) => Err(format!("answered {status:?}")),
                (Some(request), _) => {
                    Err(format!("forwarded {} {:.80}, {:?}", request.method, request.target, request.names()))
                }
            };
        }
        let Some(request) = forwarded else { return Err(format!("refused with {status:?}")) };
        if case.method.as_ref().is_some_and(|method| *method != request.method) {
            return Err(format!("forwarded as {}", request.method));
        }
        if case.body.as_ref().is_some_and(|body| *body != request.body) {
            return Err(format!("forwarded the body {:?}", String::from_utf8_lossy(&request.body)));
        }
        Ok(())
    }
}

/// What the client does once it has sent its bytes.
#[derive(Clone, Copy)]
enum Afterwards {
    /// Waits for an answer.
    Wait,
    /// Sends no more: what is incomplete stays so.
    Close,
}

/// The bytes with lines added to the first head, and a host where it names none.
fn with_lines(bytes: &[u8], lines: &str) -> Vec<u8> {
    // What comes before the first line is the case's own.
    let start = bytes.iter().position(|byte| !b"\r\n".contains(byte)).unwrap_or(bytes.len());
    let Some(end) = bytes[start..].windows(2).position(|two| two == b"\r\n") else { return bytes.to_vec() };
    let (first, rest) = bytes.split_at(start + end + 2);
    let text = String::from_utf8_lossy(rest).to_ascii_lowercase();
    let head = text.split("\r\n\r\n").next().unwrap_or_default();
    let names_host = head.lines().any(|line| line.trim_start().starts_with("host"));
    let host = if names_host { "" } else { "Host: service.test\r\n" };
    [first, host.as_bytes(), lines.as_bytes(), rest].concat()
}

/// All cases; `None` where their packages are not installed.
fn cases() -> Option<Vec<Case>> {
    let python = peers::python_program("python")?;
    let folder =
        peers::folder("vectors", &["tests/peers/vectors/Cargo.lock", "tests/peers/vectors/install"])?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/vectors/cases.py");
    let printed = peers::run(Command::new(python).arg(script).arg::<PathBuf>(folder));
    Some(printed.lines().map(|line| serde_json::from_str::<Printed>(line).unwrap().into()).collect())
}

impl From<Printed> for Case {
    fn from(printed: Printed) -> Self {
        let Printed { name, bytes, is_valid, is_cut_short, method, body } = printed;
        let decoded = |text: String| BASE64.decode(text.as_bytes()).unwrap();
        Self { name, bytes: decoded(bytes), is_valid, is_cut_short, method, body: body.map(decoded) }
    }
}
