//! What signing in through others and verifying domains need: `public_url`, `[[admin.third_parties]]`, `[admin.http]`,
//! `[admin.resolver]`.

use std::net::{IpAddr, SocketAddr};

use reqwest::Url;

use super::text::{Refusal, quoted};
use super::{Resolution, all};
use crate::config::certificates;
use crate::config::file::{AdminHttpTable, AdminResolverTable, ThirdPartyTable};
use crate::config::report::{Located, Location};
use crate::config::{OutgoingConfig, ThirdPartyConfig, ThirdPartyProtocol, outgoing_url};
use crate::policy::ThirdParty;

const GOOGLE: &str = "https://accounts.google.com";
const MICROSOFT: &str = "https://login.microsoftonline.com/common/v2.0";
const GITHUB_AUTHORIZATION: &str = "https://github.com/login/oauth/authorize";
const GITHUB_TOKEN: &str = "https://github.com/login/oauth/access_token";
const GITHUB_USER: &str = "https://api.github.com/user";
const GITHUB_EMAILS: &str = "https://api.github.com/user/emails";

/// Port of name servers.
const NAME_SERVER_PORT: u16 = 53;

pub(super) fn third_parties(
    list: Option<&Located<Vec<Located<ThirdPartyTable>>>>,
    resolution: &mut Resolution<'_, '_>,
) -> Option<Vec<ThirdPartyConfig>> {
    let mut seen: Vec<(ThirdParty, Location)> = Vec::new();
    let resolved = list?.value.iter().map(|table| {
        let party = third_party(table, resolution);
        let (kind, at) = (party.as_ref()?.kind, &table.value.kind.as_ref()?.at);
        match seen.iter().find(|(other, _)| *other == kind) {
            Some((_, first)) => {
                let place = resolution.place(first);
                let reason = format!("this third party is set up twice, first{place}");
                resolution.report.value_problem(at, reason, "set each up once");
            }
            None => seen.push((kind, at.clone())),
        }
        party
    });
    all(resolved.collect())
}

fn third_party(
    table: &Located<ThirdPartyTable>,
    resolution: &mut Resolution<'_, '_>,
) -> Option<ThirdPartyConfig> {
    let ThirdPartyTable {
        kind,
        client_id,
        client_secret,
        issuer,
        authorization_endpoint,
        token_endpoint,
        user_endpoint,
        emails_endpoint,
    } = &table.value;
    let kind = resolution.text(kind.as_ref(), third_party_kind);
    let client_id = resolution.text(client_id.as_ref(), self::client_id);
    let client_secret = client_secret.as_ref().and_then(|secret| secret.resolve(resolution));
    let mut endpoint = |key: &Option<Located<String>>| match key {
        None => Some(None),
        Some(key) => resolution.text(Some(key), address).map(Some),
    };
    let issuer_url = endpoint(issuer);
    let authorization = endpoint(authorization_endpoint);
    let token = endpoint(token_endpoint);
    let (user, emails) = (endpoint(user_endpoint), endpoint(emails_endpoint));
    let kind = kind?;
    let unwanted: &[&Option<Located<String>>] = match kind {
        ThirdParty::GitHub => &[issuer],
        ThirdParty::Google | ThirdParty::Microsoft => &[user_endpoint, emails_endpoint],
    };
    for key in unwanted.iter().copied().flatten() {
        let reason = format!("`{}` has no meaning for this third party", key.at.name());
        resolution.report.place_problem(&key.at, reason, "remove it, or correct `kind`");
    }
    let or = |value: Option<String>, default: &str| value.unwrap_or_else(|| default.to_owned());
    let protocol = match kind {
        ThirdParty::GitHub => ThirdPartyProtocol::GitHub {
            authorization_endpoint: or(authorization?, GITHUB_AUTHORIZATION),
            token_endpoint: or(token?, GITHUB_TOKEN),
            user_endpoint: or(user?, GITHUB_USER),
            emails_endpoint: or(emails?, GITHUB_EMAILS),
        },
        ThirdParty::Google | ThirdParty::Microsoft => ThirdPartyProtocol::OpenIdConnect {
            issuer: or(issuer_url?, if kind == ThirdParty::Google { GOOGLE } else { MICROSOFT }),
            authorization_endpoint: authorization?,
            token_endpoint: token?,
        },
    };
    Some(ThirdPartyConfig { kind, client_id: client_id?, client_secret: client_secret?, protocol })
}

pub(super) fn http(table: &AdminHttpTable, resolution: &mut Resolution<'_, '_>) -> Option<OutgoingConfig> {
    let private_networks = resolution.networks(table.private_networks.as_ref());
    let ca_file = match &table.ca_file {
        None => None,
        Some(ca) => {
            let file = resolution.referenced_file(ca)?;
            if let Err(error) = certificates::load_authorities(&file) {
                let remedy = match error {
                    certificates::CertificateError::Unreadable { .. } => error.remedy(),
                    _ => "give a PEM file with the certificates of the authorities that sign the others'",
                };
                resolution.report.value_problem(&ca.at, error.to_string(), remedy);
            }
            Some(file)
        }
    };
    Some(OutgoingConfig {
        ca_file,
        connect_timeout: table.connect_seconds.as_ref()?.value.duration(),
        total_timeout: table.total_seconds.as_ref()?.value.duration(),
        private_networks: private_networks?,
        domain_check_port: u16::try_from(table.domain_check_port.as_ref()?.value.count()).unwrap_or(u16::MAX),
    })
}

pub(super) fn resolver(
    table: &AdminResolverTable,
    resolution: &mut Resolution<'_, '_>,
) -> Option<Vec<SocketAddr>> {
    let addresses = table.addresses.as_ref()?.value.iter();
    all(addresses.map(|address| resolution.text(Some(address), name_server)).collect())
}

/// An address where browsers find the management API, without the last slash.
pub(super) fn public_url(text: &str) -> Result<String, Refusal> {
    let refuse = |remedy: &str| {
        Err(Refusal { reason: format!("{} is no public address", quoted(text)), remedy: remedy.to_owned() })
    };
    let Ok(url) = Url::parse(text) else {
        return refuse("write scheme and host, such as `https://postern.example.com`");
    };
    let local = url.host_str().is_some_and(|host| {
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        host == "localhost" || literal.is_ok_and(|address| address.is_loopback())
    });
    match url.scheme() {
        "https" => {}
        "http" if local => {}
        _ => return refuse("begin it with `https://`; `http://` only for an address of this machine"),
    }
    if url.query().is_some()
        || url.fragment().is_some()
        || !url.username().is_empty()
        || url.password().is_some()
    {
        return refuse("leave user, password, `?` and `#` out");
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn third_party_kind(text: &str) -> Result<ThirdParty, Refusal> {
    match text {
        "google" => Ok(ThirdParty::Google),
        "microsoft" => Ok(ThirdParty::Microsoft),
        "github" => Ok(ThirdParty::GitHub),
        _ => Err(Refusal {
            reason: format!("there is no third party {}", quoted(text)),
            remedy:
                "write `google`, `microsoft` or `github`; others are identity providers of an organization, \
                     set up through the management API"
                    .to_owned(),
        }),
    }
}

fn client_id(text: &str) -> Result<String, Refusal> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(text.to_owned());
    }
    Err(Refusal {
        reason: format!("{} is no client id", quoted(text)),
        remedy: "write the client id that the third party has given you".to_owned(),
    })
}

fn address(text: &str) -> Result<String, Refusal> {
    let refuse = |remedy: String| Err(Refusal { reason: format!("{} is no address", quoted(text)), remedy });
    match Url::parse(text) {
        Err(_) => refuse("write a whole address, such as `https://login.example.com`".to_owned()),
        Ok(url) => match outgoing_url::check(&url) {
            Ok(()) => Ok(text.to_owned()),
            Err(reason) => refuse(format!("it {reason}")),
        },
    }
}

fn name_server(text: &str) -> Result<SocketAddr, Refusal> {
    let bare = text.parse::<IpAddr>().map(|address| SocketAddr::new(address, NAME_SERVER_PORT));
    bare.or_else(|_| text.parse()).map_err(|_| Refusal {
        reason: format!("{} is no address of a name server", quoted(text)),
        remedy: "write an IP address, with a port if it is not 53: `9.9.9.9` or `127.0.0.1:5353`".to_owned(),
    })
}
