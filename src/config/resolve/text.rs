//! Texts that mean something: names, addresses, hosts, path prefixes, networks. Pure: a text in, a value or a
//! reason and remedy out.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use crate::config::source::shortened;
use crate::config::{EndpointAddress, NO_ROUTE};
use crate::route::pattern::parameter_name;

/// Why a text is refused, and what to write instead.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: String,
    pub(super) remedy: String,
}

/// Longest name of anything, in characters.
const NAME_LENGTH: usize = 64;

/// Longest label of a host name, in characters.
const LABEL_LENGTH: usize = 63;

/// Longest host name, in characters.
const HOST_LENGTH: usize = 253;

/// Longest path of a Unix socket, in bytes (`sun_path` of unix(7), with its end).
const UNIX_PATH_BYTES: usize = 107;

fn refuse<T>(reason: impl Into<String>, remedy: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { reason: reason.into(), remedy: remedy.into() })
}

/// The text in a reason. What has an `@` in it may be a password before a host.
pub(super) fn quoted(text: &str) -> String {
    if text.contains('@') { "this text".to_owned() } else { format!("`{}`", shortened(text)) }
}

/// A name that goes into logs, metric labels and headers.
pub(super) fn name(text: &str) -> Result<String, Refusal> {
    let fits = !text.is_empty()
        && text.len() <= NAME_LENGTH
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if fits {
        return Ok(text.to_owned());
    }
    refuse(
        format!("{} is no name", quoted(text)),
        format!("use 1 to {NAME_LENGTH} letters, digits, `-`, `_` or `.`"),
    )
}

/// A route's name, which may look like the host and path it stands for.
pub(super) fn route_name(text: &str) -> Result<String, Refusal> {
    if text == NO_ROUTE {
        let reason = format!("`{text}` is what metrics call requests that match no route");
        return refuse(reason, "choose another name");
    }
    let fits = !text.is_empty() && text.len() <= 128 && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits && !text.contains(['"', '\\']) {
        return Ok(text.to_owned());
    }
    refuse(
        format!("{} is no name of a route", quoted(text)),
        "use 1 to 128 visible ASCII characters, without spaces, quotes and backslashes",
    )
}

/// An address to listen on.
pub(super) fn socket_address(text: &str) -> Result<SocketAddr, Refusal> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let remedy = if let Ok(address) = text.parse::<IpAddr>() {
        format!("add a port: `{}`", SocketAddr::new(address, 8080))
    } else if text.starts_with("unix:") {
        "write an IP address and a port: only [[listeners]] can be Unix sockets".to_owned()
    } else if let Some((host, port)) = text.rsplit_once(':')
        && port.parse::<u16>().is_ok()
    {
        match host {
            "" | "*" => {
                format!("write `0.0.0.0:{port}` for all IPv4 addresses or `[::]:{port}` for all addresses")
            }
            "localhost" => {
                format!("write `127.0.0.1:{port}` or `[::1]:{port}`: names are not looked up here")
            }
            _ => "write an IP address and a port, such as `127.0.0.1:8080` or `[::1]:8080`".to_owned(),
        }
    } else if text.parse::<u16>().is_ok() {
        format!("write `0.0.0.0:{text}` for all IPv4 addresses or `[::]:{text}` for all addresses")
    } else {
        "write an IP address and a port, such as `127.0.0.1:8080` or `[::1]:8080`".to_owned()
    };
    refuse(format!("{} is no address with a port", quoted(text)), remedy)
}

/// An upstream's address: host without brackets, and port; or a Unix socket.
pub(super) fn endpoint(text: &str) -> Result<EndpointAddress, Refusal> {
    if let Some(path) = text.strip_prefix("unix:") {
        return unix_socket(text, path);
    }
    let reason = format!("{} is no `host:port`", quoted(text));
    if text.contains('@') {
        return refuse(reason, "leave the user and password out; they belong in `[upstreams.credential]`");
    }
    if let Some((_, rest)) = text.split_once("://") {
        let host = rest.split('/').next().unwrap_or_default();
        let instead = if host.contains(':') { shortened(host) } else { format!("{}:80", shortened(host)) };
        return refuse(reason, format!("write `{instead}`; TLS is switched on by `[upstreams.tls]`"));
    }
    if text.contains('/') {
        return refuse(reason, "leave the path out: a request's own path goes on unchanged");
    }
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return refuse(reason, format!("put the address in brackets and add a port: `[{address}]:80`"));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return refuse(reason, format!("add the port: `{}:80`", shortened(text)));
    };
    let Some(port) = port.parse::<u16>().ok().filter(|port| *port != 0) else {
        return refuse(reason, "write a port from 1 to 65535 behind the last colon");
    };
    if let Some(literal) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return match literal.parse::<Ipv6Addr>() {
            Ok(address) => Ok(EndpointAddress::Host { host: address.to_string(), port }),
            Err(_) => refuse(reason, "write an IPv6 address in the brackets, such as `[::1]:80`"),
        };
    }
    if is_host_name(&host.to_ascii_lowercase()) {
        return Ok(EndpointAddress::Host { host: host.to_owned(), port });
    }
    refuse(reason, "write a host name or IP address and a port, such as `localhost:9200` or `[::1]:9200`")
}

/// A Unix socket's path, as the system takes it.
fn unix_socket(text: &str, path: &str) -> Result<EndpointAddress, Refusal> {
    if !path.starts_with('/') || path.ends_with('/') || path.contains('\0') {
        let remedy = "write the absolute path of the socket behind `unix:`, such as `unix:/run/search.sock`";
        return refuse(format!("{} is no Unix socket", quoted(text)), remedy);
    }
    if path.len() > UNIX_PATH_BYTES {
        let remedy = format!("choose a path of no more than {UNIX_PATH_BYTES} bytes");
        return refuse("the system takes no path of that length for a socket", remedy);
    }
    Ok(EndpointAddress::Unix(path.into()))
}

/// A route's host: exact, or a wildcard for one or more labels in front; lower case.
pub(super) fn route_host(text: &str) -> Result<String, Refusal> {
    let reason = format!("{} is no host that a route can have", quoted(text));
    let host = text.to_ascii_lowercase();
    if host == "*" || host.is_empty() {
        return refuse(reason, "leave `hosts` out to match any host");
    }
    if let Some(literal) = host.strip_prefix('[') {
        return match literal.strip_suffix(']').and_then(|literal| literal.parse::<Ipv6Addr>().ok()) {
            Some(address) => Ok(format!("[{address}]")),
            None => refuse(reason, "write an IPv6 address in brackets, without a port: `[::1]`"),
        };
    }
    if host.parse::<Ipv6Addr>().is_ok() {
        return refuse(reason, format!("put the IPv6 address in brackets: `[{host}]`"));
    }
    if let Some((_, rest)) = host.split_once("://") {
        let name = rest.split(['/', ':']).next().unwrap_or_default();
        return refuse(reason, format!("write the host alone: `{}`", shortened(name)));
    }
    if let Some((name, path)) = host.split_once('/') {
        return refuse(
            reason,
            format!(
                "write the host alone, `{}`, and the path as `path_prefix = \"/{}\"`",
                shortened(name),
                shortened(path)
            ),
        );
    }
    if let Some((name, _)) = host.split_once(':') {
        return refuse(reason, format!("leave the port out, a route matches any: `{}`", shortened(name)));
    }
    if let Some(name) = host.strip_suffix('.') {
        return refuse(reason, format!("leave the last dot out: `{}`", shortened(name)));
    }
    if !host.is_ascii() {
        return refuse(reason, "write international names as clients send them, in ASCII: `xn--…`");
    }
    let name = host.strip_prefix("*.").unwrap_or(&host);
    if name.contains('*') {
        return refuse(reason, "a wildcard is the whole first label: `*.example.com`");
    }
    if is_host_name(name) {
        return Ok(host);
    }
    refuse(reason, "write a host name such as `api.example.com` or `*.example.com`")
}

/// What a path in the file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PathKind {
    /// The beginning of paths.
    Prefix,
    /// One path.
    Whole,
    /// What a path becomes.
    Rewrite,
}

/// A route's path, in the one spelling that paths are compared in. Whole segments may be parameters: `{name}`.
pub(super) fn path(text: &str, kind: PathKind) -> Result<String, Refusal> {
    let what = match kind {
        PathKind::Prefix => "path prefix",
        PathKind::Whole | PathKind::Rewrite => "path",
    };
    let reason = format!("{} is no {what}", quoted(text));
    let Some(relative) = text.strip_prefix('/') else {
        return refuse(reason, format!("begin it with a slash: `/{}`", shortened(text)));
    };
    let is_known = |character: &char| is_path_character(*character) || matches!(character, '{' | '}');
    if let Some(wrong) = text.chars().find(|character| !is_known(character)) {
        return refuse(
            reason,
            match wrong {
                '?' => "leave the query out: routes do not look at it".to_owned(),
                '#' => "leave the fragment out: clients do not send it".to_owned(),
                '%' => "write it decoded: paths are compared decoded".to_owned(),
                '*' => "leave the star out: a prefix matches everything below it, and `{name}` one segment"
                    .to_owned(),
                _ => "use letters, digits and `-._~!$&'()+,;=:@` between slashes".to_owned(),
            },
        );
    }
    if text == "/" {
        return Ok(text.to_owned());
    }
    if let Some(shorter) = text.strip_suffix('/')
        && !shorter.ends_with('/')
    {
        let shorter = shortened(shorter);
        return refuse(
            reason,
            match kind {
                PathKind::Prefix => {
                    format!(
                        "leave the last slash out: `{shorter}` matches `{shorter}` and everything below `{shorter}/`"
                    )
                }
                PathKind::Whole | PathKind::Rewrite => format!("leave the last slash out: `{shorter}`"),
            },
        );
    }
    match relative.split('/').find(|segment| matches!(*segment, "" | "." | "..")) {
        Some("") => return refuse(reason, "write single slashes"),
        Some(_) => return refuse(reason, "leave segments of dots out"),
        None => {}
    }
    let is_name = |name: &str| {
        (1..=NAME_LENGTH).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let mut names = HashSet::new();
    for segment in relative.split('/').filter(|segment| segment.contains(['{', '}'])) {
        let Some(name) = parameter_name(segment).filter(|name| is_name(name)) else {
            let remedy = "a parameter is a whole segment, a name of letters, digits and `_` in braces: `/v1/{tenant}/items`";
            return refuse(reason, remedy);
        };
        if !names.insert(name) && kind != PathKind::Rewrite {
            return refuse(
                format!("{reason}: it has the parameter `{name}` twice"),
                "call one of them otherwise",
            );
        }
    }
    Ok(text.to_owned())
}

/// The parameters in a path that is one.
pub(super) fn parameters(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(parameter_name)
}

/// A network in its one spelling.
pub(super) fn network(text: &str) -> Result<IpNet, Refusal> {
    let reason = format!("{} is no network", quoted(text));
    if let Ok(address) = text.parse::<IpAddr>() {
        return refuse(reason, format!("say how many bits count: `{}`", IpNet::from(address)));
    }
    let Ok(network) = text.parse::<IpNet>() else {
        return refuse(
            reason,
            "write an address and a prefix length, such as `10.0.0.0/8` or `2001:db8::/32`",
        );
    };
    if let IpNet::V6(six) = network
        && six.addr().to_ipv4_mapped().is_some()
    {
        return refuse(reason, "write IPv4 networks as IPv4, such as `10.0.0.0/8`");
    }
    if network.trunc() != network {
        let (whole, one) = (network.trunc(), IpNet::from(network.addr()));
        return refuse(
            format!("{} has address bits beyond its prefix length", quoted(text)),
            format!("write `{whole}` for the network or `{one}` for the one address"),
        );
    }
    Ok(network)
}

/// What may stand in a path undecoded, slashes included.
const fn is_path_character(character: char) -> bool {
    character.is_ascii_alphanumeric()
        || matches!(
            character,
            '/' | '-'
                | '.'
                | '_'
                | '~'
                | '!'
                | '$'
                | '&'
                | '\''
                | '('
                | ')'
                | '+'
                | ','
                | ';'
                | '='
                | ':'
                | '@'
        )
}

/// A host name in lower case, or an IPv4 address.
fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=LABEL_LENGTH).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A last label of digits makes it an address, or nothing.
    let last = text.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse::<Ipv4Addr>().is_ok();
    }
    text.len() <= HOST_LENGTH && text.split('.').all(is_label)
}
