//! `[identity_token]` and `[upstreams.identity_token]`: the statements of identity that upstreams get.

use std::time::Duration;

use super::Resolution;
use super::settings::value;
use super::text::{self, Refusal};
use crate::config::IdentityTokenConfig;
use crate::config::file::{FileConfig, UpstreamIdentityTokenTable};
use crate::config::report::{Located, Location};

/// Longest name of an issuer or an audience, in characters.
const NAME_LENGTH: usize = 255;

/// `[identity_token]`: what is the same for all upstreams.
pub(super) struct Issued {
    issuer: String,
    lifetime: Duration,
    pub(super) rotation: Duration,
}

/// `Some(None)` without the table; `None` with a problem noted.
pub(super) fn resolve(file: &FileConfig, resolution: &mut Resolution<'_, '_>) -> Option<Option<Issued>> {
    let Some(table) = &file.identity_token else {
        let at = Location::top().child("identity_token", None);
        return if resolution.report.is_noted(&at) { None } else { Some(None) };
    };
    let table = &table.value;
    let issuer = resolution.text(table.issuer.as_ref(), name);
    Some(Some(Issued {
        issuer: issuer?,
        lifetime: value(&table.lifetime_seconds)?.duration(),
        rotation: value(&table.rotation_seconds)?.duration(),
    }))
}

pub(super) fn of_upstream(
    table: &Located<UpstreamIdentityTokenTable>,
    issued: &Option<Option<Issued>>,
    resolution: &mut Resolution<'_, '_>,
) -> Option<IdentityTokenConfig> {
    let audience = resolution.text(table.value.audience.as_ref(), name);
    // A problem with the table of all has been noted: then nothing is said of it here.
    let issued = issued.as_ref()?;
    if issued.is_none() {
        let reason = "this upstream wants statements of identity, but nobody issues them";
        resolution.report.place_problem(
            &table.at,
            reason,
            "add `[identity_token]` with `issuer`, or remove this table",
        );
    }
    let Issued { issuer, lifetime, .. } = issued.as_ref()?;
    Some(IdentityTokenConfig {
        issuer: issuer.clone(),
        audience: audience?,
        lifetime: *lifetime,
        request_id: value(&table.value.request_id)?,
    })
}

/// What stands for an issuer or an audience in a JWT: most are URLs.
fn name(text: &str) -> Result<String, Refusal> {
    let fits = (1..=NAME_LENGTH).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits {
        return Ok(text.to_owned());
    }
    Err(Refusal {
        reason: format!("{} cannot name an issuer or an audience", text::quoted(text)),
        remedy: format!(
            "use 1 to {NAME_LENGTH} visible ASCII characters, such as a URL: `https://gate.example.com`"
        ),
    })
}
