//! `[organization]` and the authentication policy pinned in it.

use super::text::{self, Refusal};
use super::{Resolution, settings};
use crate::config::OrganizationConfig;
use crate::config::file::{AuthenticationTable, OrganizationTable};
use crate::policy::AuthenticationPolicy;

/// Longest organization name, in characters.
const NAME_LENGTH: usize = 128;

pub(super) fn resolve(
    table: &OrganizationTable,
    resolution: &mut Resolution<'_, '_>,
) -> Option<OrganizationConfig> {
    let id = resolution.text(table.id.as_ref(), text::name);
    let name = match &table.name {
        Some(name) => resolution.text(Some(name), realm),
        None => id.clone(),
    };
    let authentication = table.authentication.as_ref().map(|table| policy(&table.value, resolution));
    Some(OrganizationConfig {
        id: id?,
        name: name?,
        authentication: match authentication {
            Some(policy) => Some(policy?),
            None => None,
        },
    })
}

fn policy(table: &AuthenticationTable, resolution: &mut Resolution<'_, '_>) -> Option<AuthenticationPolicy> {
    let allowed_ip_ranges = resolution.networks(table.allowed_ip_ranges.as_ref());
    let on = settings::value;
    Some(AuthenticationPolicy {
        password_auth_enabled: on(&table.password_auth_enabled)?,
        two_factor_required: on(&table.two_factor_required)?,
        oauth_enabled: on(&table.oauth_enabled)?,
        saml_enabled: on(&table.saml_enabled)?,
        saml_allow_external: on(&table.saml_allow_external)?,
        personal_tokens_enabled: on(&table.personal_tokens_enabled)?,
        personal_tokens_require_allowed_auth_method: on(&table.personal_tokens_require_allowed_auth_method)?,
        mcp_enabled: on(&table.mcp_enabled)?,
        allowed_ip_ranges: allowed_ip_ranges?,
    })
}

/// A name that can stand in the quotes of `WWW-Authenticate: Bearer realm="…"` as it is.
fn realm(text: &str) -> Result<String, Refusal> {
    let length = text.chars().count();
    let fits = (1..=NAME_LENGTH).contains(&length)
        && !text.chars().any(|character| character.is_control() || matches!(character, '"' | '\\'));
    if fits {
        return Ok(text.to_owned());
    }
    Err(Refusal {
        reason: format!("{} is no name of an organization", text::quoted(text)),
        remedy: format!(
            "use 1 to {NAME_LENGTH} characters, without quotes, backslashes and control characters"
        ),
    })
}
