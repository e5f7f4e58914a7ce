//! Of `[[listeners]]`: where each is, and whose word about clients' addresses counts there.

use std::path::Path;

use super::text::{self, Refusal};
use super::{Resolution, all};
use crate::config::file::ListenerTable;
use crate::config::report::Located;
use crate::config::{ListenAddress, TrustedPeers, UnixSocketConfig};

/// What an address of a Unix socket begins with.
const UNIX: &str = "unix:";

/// Whoever may connect to a Unix socket, among networks.
const OVER_UNIX_SOCKET: &str = "unix";

/// The longest path of a socket that the system takes, in bytes.
const PATH_BYTES: usize = 107;

/// Mode of a Unix socket where the file does not say: only the user that postern runs as may connect.
const DEFAULT_MODE: u32 = 0o600;

pub(super) fn address(
    listener: &ListenerTable,
    resolution: &mut Resolution<'_, '_>,
) -> Option<ListenAddress> {
    let mode = match &listener.mode {
        None => Some(None),
        Some(mode) => resolution.text(Some(mode), parse_mode).map(|parsed| Some((parsed, &mode.at))),
    };
    let Located { value, at } = listener.address.as_ref()?;
    let Some(path) = value.strip_prefix(UNIX) else {
        if let Some(Some((_, at))) = mode {
            let reason = "only a Unix socket has a mode";
            resolution.report.value_problem(at, reason, "leave it out, or write `address = \"unix:PATH\"`");
            return None;
        }
        return resolution.text(listener.address.as_ref(), text::socket_address).map(ListenAddress::Ip);
    };
    let path = resolution.path(&Located { value: path.to_owned(), at: at.clone() })?;
    let length = path.as_os_str().len();
    if length > PATH_BYTES {
        let reason = format!("the path has {length} bytes; a socket's has at most {PATH_BYTES}");
        resolution.report.value_problem(at, reason, "choose a shorter one, such as `unix:/run/postern.sock`");
        return None;
    }
    let mode = mode?.map_or(DEFAULT_MODE, |(mode, _)| mode);
    Some(ListenAddress::Unix(UnixSocketConfig { path, mode }))
}

/// What two listeners cannot both have; `None` for what is no address, and for port 0, where the system finds a different
/// port for each.
pub(super) fn taken(address: &str, folder: &Path) -> Option<String> {
    match address.strip_prefix(UNIX) {
        Some(path) => Some(format!("{UNIX}{}", folder.join(path).display())),
        None => {
            text::socket_address(address).ok().filter(|it| it.port() != 0).map(|address| address.to_string())
        }
    }
}

fn parse_mode(text: &str) -> Result<u32, Refusal> {
    let digits = text.strip_prefix('0').filter(|digits| digits.len() == 3).unwrap_or(text);
    let is_octal = digits.len() == 3 && digits.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
    let parsed = is_octal.then(|| u32::from_str_radix(digits, 8).ok()).flatten();
    parsed.ok_or_else(|| Refusal {
        reason: format!("{} is no mode of a file", text::quoted(text)),
        remedy: "write three octal digits after a zero, such as `0660`".to_owned(),
    })
}

/// Whose forwarding headers are believed.
pub(super) fn trusted_proxies(
    listener: &ListenerTable,
    resolution: &mut Resolution<'_, '_>,
) -> Option<TrustedPeers> {
    let list = listener.trusted_proxies.as_ref();
    let peers = peers(list, listener, resolution)?;
    let speaks_proxy_protocol = listener.proxy_protocol.as_ref().is_some_and(|it| it.value == "required");
    if peers.over_unix_socket && speaks_proxy_protocol {
        let reason = "with `proxy_protocol`, whoever sends headers is a client and not who has connected";
        let remedy =
            "leave `unix` out here; give networks of proxies that the PROXY protocol names as clients";
        resolution.report.value_problem(&list?.at, reason, remedy);
        return None;
    }
    Some(peers)
}

/// Who has to speak the PROXY protocol, if anybody; `None` with the problems noted.
pub(super) fn proxy_protocol(
    listener: &ListenerTable,
    resolution: &mut Resolution<'_, '_>,
) -> Option<Option<TrustedPeers>> {
    let is_required = resolution.text(listener.proxy_protocol.as_ref(), |text| match text {
        "off" => Ok(false),
        "required" => Ok(true),
        _ => Err(Refusal {
            reason: format!("{} is not how a listener takes the PROXY protocol", text::quoted(text)),
            remedy: "write `required`, or `off`".to_owned(),
        }),
    });
    let from = peers(listener.proxy_protocol_from.as_ref(), listener, resolution);
    let (is_required, from) = (is_required?, from?);
    let nobody = if is_unix(listener) { !from.over_unix_socket } else { from.networks.is_empty() };
    if is_required && nobody {
        let reason = "nobody may speak the PROXY protocol, so nobody could connect";
        let remedy = if is_unix(listener) {
            "write `proxy_protocol_from = [\"unix\"]`: whoever may connect to the socket"
        } else {
            "give your load balancers' networks in `proxy_protocol_from`"
        };
        resolution.report.value_problem(&listener.proxy_protocol.as_ref()?.at, reason, remedy);
        return None;
    }
    if !is_required && from != TrustedPeers::default() {
        let reason = "this has no effect while `proxy_protocol` is off";
        let remedy = "add `proxy_protocol = \"required\"`, or leave this out";
        resolution.report.value_problem(&listener.proxy_protocol_from.as_ref()?.at, reason, remedy);
        return None;
    }
    Some(is_required.then_some(from))
}

fn is_unix(listener: &ListenerTable) -> bool {
    listener.address.as_ref().is_some_and(|address| address.value.starts_with(UNIX))
}

/// Networks, and on a Unix socket whoever may connect to it.
fn peers(
    list: Option<&Located<Vec<Located<String>>>>,
    listener: &ListenerTable,
    resolution: &mut Resolution<'_, '_>,
) -> Option<TrustedPeers> {
    let is_word = |entry: &&Located<String>| entry.value == OVER_UNIX_SOCKET;
    let (words, networks): (Vec<_>, Vec<_>) = list?.value.iter().partition(is_word);
    if let Some(word) = words.first()
        && !is_unix(listener)
    {
        let reason = "nobody comes over a Unix socket here";
        resolution.report.value_problem(&word.at, reason, "give networks, or listen on `unix:PATH`");
        return None;
    }
    let networks = networks.into_iter().map(|network| resolution.text(Some(network), text::network));
    Some(TrustedPeers { networks: all(networks.collect())?, over_unix_socket: !words.is_empty() })
}
