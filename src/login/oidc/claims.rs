//! From a provider's claims to an identity: which email address, and whether it is worth anything.

use openidconnect::core::CoreGenderClaim;
use openidconnect::{AdditionalClaims, EndUserName, LocalizedClaim, UserInfoClaims};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Flavour, IdTokenClaims};
use crate::login::identity::{Email, Identity};

/// The tenant of Microsoft's personal accounts, whose addresses Microsoft has verified itself.
const MICROSOFT_CONSUMERS: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

/// Claims beyond the standard's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct MoreClaims {
    /// Microsoft: whose directory the person is in.
    #[serde(rename = "tid", default)]
    pub(super) tenant_id: Option<String>,
    /// Microsoft: whether that directory's owner has shown to own the address's domain.
    #[serde(rename = "xms_edov", default)]
    domain_owner_verified: Option<Value>,
    /// Google: the domain of the organization that the account belongs to.
    #[serde(rename = "hd", default)]
    hosted_domain: Option<String>,
}

impl AdditionalClaims for MoreClaims {}

pub(super) type UserInfo = UserInfoClaims<MoreClaims, CoreGenderClaim>;

/// Who it is. The ID token wins over user info, which is only asked for what is missing.
pub(super) fn identity(flavour: Flavour, claims: &IdTokenClaims, more: Option<&UserInfo>) -> Identity {
    let (email, verified) = match (claims.email(), more) {
        (Some(email), _) => (Some(email), claims.email_verified()),
        (None, Some(more)) => (more.email(), more.email_verified()),
        (None, None) => (None, None),
    };
    let name = first_name(claims.name()).or_else(|| more.and_then(|more| first_name(more.name())));
    let claimed = Claimed { email: email.map(|email| email.as_str()), verified: verified == Some(true) };
    Identity {
        // An issuer is a URL and a subject ASCII without spaces in practice: together they are one person for ever.
        subject: format!("{} {}", claims.issuer().as_str(), claims.subject().as_str()),
        email: judge(flavour, &claimed, &all_more(claims, more)),
        name,
    }
}

/// What stands beside the address, wherever that is.
fn all_more(claims: &IdTokenClaims, more: Option<&UserInfo>) -> MoreClaims {
    let MoreClaims { tenant_id, domain_owner_verified, hosted_domain } = claims.additional_claims().clone();
    let more = more.map(UserInfo::additional_claims).cloned().unwrap_or_default();
    MoreClaims {
        tenant_id: tenant_id.or(more.tenant_id),
        domain_owner_verified: domain_owner_verified.or(more.domain_owner_verified),
        hosted_domain: hosted_domain.or(more.hosted_domain),
    }
}

struct Claimed<'a> {
    email: Option<&'a str>,
    verified: bool,
}

fn judge(flavour: Flavour, claimed: &Claimed<'_>, more: &MoreClaims) -> Email {
    let Some(address) = claimed.email.and_then(crate::login::identity::canonical_email) else {
        return Email::None;
    };
    let verified = match flavour {
        Flavour::Standard => claimed.verified,
        // Google's advice: an address at another mail service was verified once and may have changed hands since.
        Flavour::Google => {
            claimed.verified && (address.ends_with("@gmail.com") || more.hosted_domain.is_some())
        }
        // Anybody can write any address into a directory of their own, and let it say that it is verified.
        Flavour::Microsoft => {
            more.domain_owner_verified.as_ref().is_some_and(is_true)
                || more.tenant_id.as_deref() == Some(MICROSOFT_CONSUMERS)
        }
    };
    if verified { Email::Verified(address) } else { Email::Unverified(address) }
}

/// `true`, `1`, `"true"` and `"1"`: it has been seen in all of these forms.
fn is_true(value: &Value) -> bool {
    match value {
        Value::Bool(value) => *value,
        Value::Number(value) => value.as_u64() == Some(1),
        Value::String(value) => value == "1" || value.eq_ignore_ascii_case("true"),
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

/// The name without a language, else any.
fn first_name(name: Option<&LocalizedClaim<EndUserName>>) -> Option<String> {
    let name = name?;
    let first = name.get(None).or_else(|| name.iter().next().map(|(_, name)| name))?;
    Some(first.as_str().to_owned())
}

#[cfg(test)]
mod tests;
