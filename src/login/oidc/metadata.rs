//! What is known of providers: their endpoints and keys, as they publish them. Kept for an hour, and looked at again
//! sooner when a token is signed with a key that is not known.

use std::collections::HashMap;
use std::sync::Arc;

use openidconnect::core::{CoreJsonWebKeySet, CoreProviderMetadata};
use openidconnect::{AuthUrl, IssuerUrl, TokenUrl};
use parking_lot::Mutex;

use super::{Flavour, OidcError, OidcSettings};
use crate::directory::model::Timestamp;
use crate::login::outgoing::{self, Outgoing};

/// How long what was fetched is used.
const LIFETIME_SECONDS: u32 = 3600;

/// How soon after one look at a provider's keys a token with an unknown key leads to the next.
const LEAST_SECONDS_BETWEEN: u32 = 30;

/// Most providers that are remembered; beyond it the one fetched longest ago goes.
const MAX_PROVIDERS: usize = 1024;

const TENANT: &str = "{tenantid}";

/// One provider's endpoints and keys.
#[derive(Debug)]
pub(super) struct Provider {
    pub(super) metadata: CoreProviderMetadata,
    fetched: Timestamp,
}

/// Everything that is known of providers, by what it was fetched with.
#[derive(Debug, Default)]
pub struct Providers(Mutex<HashMap<Key, Arc<Provider>>>);

/// What decides over a provider's metadata.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    issuer: String,
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
}

impl Providers {
    /// A provider's endpoints and keys, fetched if they are not known or no longer fresh.
    pub(super) async fn known(
        &self,
        settings: &OidcSettings,
        outgoing: &Outgoing,
        now: Timestamp,
    ) -> Result<Arc<Provider>, OidcError> {
        let known = self.0.lock().get(&Key::of(settings)).map(Arc::clone);
        match known {
            Some(provider) if now.0.saturating_sub(provider.fetched.0) < LIFETIME_SECONDS => Ok(provider),
            _ => self.fetch(settings, outgoing, now).await,
        }
    }

    /// The same, fetched anew unless that has just been done: an attacker's key ids must not make us hammer it.
    pub(super) async fn renewed(
        &self,
        settings: &OidcSettings,
        outgoing: &Outgoing,
        now: Timestamp,
    ) -> Result<Arc<Provider>, OidcError> {
        let known = self.0.lock().get(&Key::of(settings)).map(Arc::clone);
        match known {
            Some(provider) if now.0.saturating_sub(provider.fetched.0) < LEAST_SECONDS_BETWEEN => {
                Ok(provider)
            }
            _ => self.fetch(settings, outgoing, now).await,
        }
    }

    async fn fetch(
        &self,
        settings: &OidcSettings,
        outgoing: &Outgoing,
        now: Timestamp,
    ) -> Result<Arc<Provider>, OidcError> {
        let provider = Arc::new(Provider { metadata: fetch(settings, outgoing).await?, fetched: now });
        let mut known = self.0.lock();
        known.insert(Key::of(settings), Arc::clone(&provider));
        if known.len() > MAX_PROVIDERS
            && let Some(oldest) =
                known.iter().min_by_key(|(_, provider)| provider.fetched).map(|(key, _)| key.clone())
        {
            known.remove(&oldest);
        }
        Ok(provider)
    }
}

impl Key {
    fn of(settings: &OidcSettings) -> Self {
        Self {
            issuer: settings.issuer.clone(),
            authorization_endpoint: settings.authorization_endpoint.clone(),
            token_endpoint: settings.token_endpoint.clone(),
        }
    }
}

/// OpenID Connect Discovery 1.0, then the key set it names.
async fn fetch(settings: &OidcSettings, outgoing: &Outgoing) -> Result<CoreProviderMetadata, OidcError> {
    let unusable = |reason: String| OidcError::Unusable { issuer: settings.issuer.clone(), reason };
    let issuer = settings.issuer_url()?;
    let place = format!("{}/.well-known/openid-configuration", issuer.as_str().trim_end_matches('/'));
    let document = outgoing.fetch(&place, "application/json").await?;
    let mut metadata: CoreProviderMetadata = serde_json::from_slice(&document)
        .map_err(|error| unusable(format!("its discovery document cannot be read: {error}")))?;
    check_issuer(settings.flavour, &issuer, metadata.issuer()).map_err(unusable)?;
    if let Some(endpoint) = &settings.authorization_endpoint {
        let endpoint = AuthUrl::new(endpoint.clone()).map_err(|error| unusable(error.to_string()))?;
        metadata = metadata.set_authorization_endpoint(endpoint);
    }
    if let Some(endpoint) = &settings.token_endpoint {
        let endpoint = TokenUrl::new(endpoint.clone()).map_err(|error| unusable(error.to_string()))?;
        metadata = metadata.set_token_endpoint(Some(endpoint));
    }
    // A browser is sent there: nothing but a web address may stand there.
    outgoing::check_url(metadata.authorization_endpoint().url())
        .map_err(|reason| unusable(format!("its authorization endpoint {reason}")))?;
    if metadata.token_endpoint().is_none() {
        return Err(unusable("it has no token endpoint".to_owned()));
    }
    let keys = outgoing.fetch(metadata.jwks_uri().as_str(), "application/json").await?;
    let keys: CoreJsonWebKeySet = serde_json::from_slice(&keys)
        .map_err(|error| unusable(format!("its keys cannot be read: {error}")))?;
    Ok(metadata.set_jwks(keys))
}

/// Whether a document is the one of who was asked for.
fn check_issuer(flavour: Flavour, asked: &IssuerUrl, answered: &IssuerUrl) -> Result<(), String> {
    let fits = match flavour {
        Flavour::Standard | Flavour::Google => asked == answered,
        // `common` and a tenant's domain name answer with a template, or with the tenant's id.
        Flavour::Microsoft => asked.url().origin() == answered.url().origin(),
    };
    if fits { Ok(()) } else { Err(format!("its discovery document is of {:?}", answered.as_str())) }
}

/// The issuer of a tenant's tokens; `None` if it has to be filled in and the tenant is not known.
pub(super) fn fill_in_tenant(issuer: &IssuerUrl, tenant: Option<&str>) -> Option<IssuerUrl> {
    if !issuer.as_str().contains(TENANT) {
        return Some(issuer.clone());
    }
    let tenant = tenant.filter(|tenant| {
        !tenant.is_empty() && tenant.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    })?;
    IssuerUrl::new(issuer.as_str().replace(TENANT, tenant)).ok()
}
