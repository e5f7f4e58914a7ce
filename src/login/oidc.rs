//! OpenID Connect, from the side of who relies on it: where to send a person's browser, and what may be believed of
//! the answer. Authorization code flow with PKCE, state and nonce; signatures, issuer, audience, nonce and times are
//! checked by the `openidconnect` crate.
//!
//! Whose account an identity belongs to is not known here ([`crate::directory::operations::sign_in`]).

mod claims;
mod metadata;

#[cfg(test)]
mod tests;

use std::fmt;
use std::pin::Pin;

use openidconnect::core::{
    CoreAuthenticationFlow, CoreClientAuthMethod, CoreJwsSigningAlgorithm as Signature,
};
use openidconnect::{
    AccessToken, AsyncHttpClient, AuthType, AuthorizationCode, ClientId, ClientSecret, CsrfToken,
    EndpointMaybeSet, EndpointNotSet, EndpointSet, HttpRequest, HttpResponse, IssuerUrl, Nonce,
    OAuth2TokenResponse, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RequestTokenError, Scope,
    TokenResponse, UserInfoClaims,
};
use secrecy::{ExposeSecret, SecretString};

use super::identity::Identity;
use super::outgoing::{Outgoing, OutgoingError};
use crate::directory::model::Timestamp;
use claims::MoreClaims;
use metadata::Provider;
pub use metadata::Providers;

/// How far a provider's clock may be from ours, in seconds.
const CLOCK_SKEW_SECONDS: i64 = 60;

/// Oldest ID token that is taken, in seconds: it was made for the code that has just been exchanged.
const MAX_TOKEN_AGE_SECONDS: i64 = 600;

/// Signatures that are taken: asymmetric ones of today's providers. Never `none`, never one made with our own secret.
const SIGNATURES: [Signature; 9] = [
    Signature::RsaSsaPkcs1V15Sha256,
    Signature::RsaSsaPkcs1V15Sha384,
    Signature::RsaSsaPkcs1V15Sha512,
    Signature::RsaSsaPssSha256,
    Signature::RsaSsaPssSha384,
    Signature::RsaSsaPssSha512,
    Signature::EcdsaP256Sha256,
    Signature::EcdsaP384Sha384,
    Signature::EdDsa,
];

/// A provider as somebody has set it up.
#[derive(Clone, Debug)]
pub struct OidcSettings {
    /// Its address, which it also calls itself.
    pub issuer: String,
    /// Who we are to it.
    pub client_id: String,
    /// What shows that; `None` for a public client, which PKCE alone protects.
    pub client_secret: Option<SecretString>,
    /// What is asked for beside `openid`.
    pub scopes: Vec<String>,
    /// How an identity's issuer and email address are judged.
    pub flavour: Flavour,
    /// In place of the discovered one.
    pub authorization_endpoint: Option<String>,
    /// In place of the discovered one.
    pub token_endpoint: Option<String>,
}

/// Providers differ in what their claims are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// The issuer is exactly as set up; `email_verified` is what it says.
    Standard,
    /// `email_verified` is lasting only for addresses that Google itself serves.
    Google,
    /// One address serves many tenants, each its own issuer; `email` is unverified unless the tenant owns its domain.
    Microsoft,
}

/// What has to be remembered between sending a browser away and its coming back. Cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secrets {
    /// Comes back in the address; shows that the answer is to this question.
    pub state: String,
    /// Comes back in the ID token; shows that the token was made for this sign-in.
    pub nonce: String,
    /// Whoever exchanges the code has to know it.
    pub pkce_verifier: String,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets")
    }
}

/// Why a sign-in with a provider came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum OidcError {
    /// Something about the settings or the provider's own documents cannot be used.
    #[error("the provider {issuer:?} is not usable: {reason}")]
    Unusable {
        /// Which.
        issuer: String,
        /// What is wrong.
        reason: String,
    },
    /// The provider did not answer.
    #[error(transparent)]
    Outgoing(#[from] OutgoingError),
    /// The provider refused the code, for example because it was used before.
    #[error("the provider refused the code: {reason}")]
    CodeRefused {
        /// What it said.
        reason: String,
    },
    /// The identity is not to be believed.
    #[error("the provider's answer does not hold: {reason}")]
    NotBelieved {
        /// Which check failed.
        reason: String,
    },
}

type OidcClient = openidconnect::Client<
    MoreClaims,
    openidconnect::core::CoreAuthDisplay,
    openidconnect::core::CoreGenderClaim,
    openidconnect::core::CoreJweContentEncryptionAlgorithm,
    openidconnect::core::CoreJsonWebKey,
    openidconnect::core::CoreAuthPrompt,
    OidcErrorAnswer,
    openidconnect::StandardTokenResponse<IdTokenFields, openidconnect::core::CoreTokenType>,
    openidconnect::core::CoreTokenIntrospectionResponse,
    openidconnect::core::CoreRevocableToken,
    openidconnect::core::CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

type OidcErrorAnswer = openidconnect::StandardErrorResponse<openidconnect::core::CoreErrorResponseType>;

type IdTokenFields = openidconnect::IdTokenFields<
    MoreClaims,
    openidconnect::EmptyExtraTokenFields,
    openidconnect::core::CoreGenderClaim,
    openidconnect::core::CoreJweContentEncryptionAlgorithm,
    Signature,
>;

type IdToken = openidconnect::IdToken<
    MoreClaims,
    openidconnect::core::CoreGenderClaim,
    openidconnect::core::CoreJweContentEncryptionAlgorithm,
    Signature,
>;

type IdTokenClaims = openidconnect::IdTokenClaims<MoreClaims, openidconnect::core::CoreGenderClaim>;

/// A provider, with what is known of it, and how to reach it.
#[derive(Clone, Copy, Debug)]
pub struct Oidc<'a> {
    /// How it was set up.
    pub settings: &'a OidcSettings,
    /// Where it sends browsers back to.
    pub redirect_uri: &'a str,
    /// What is known of providers.
    pub providers: &'a Providers,
    /// How it is reached.
    pub outgoing: &'a Outgoing,
}

impl Oidc<'_> {
    /// Where to send a person's browser, and what to remember until it comes back.
    ///
    /// # Errors
    ///
    /// If the provider cannot be reached or is not set up rightly.
    pub async fn begin(
        &self,
        login_hint: Option<&str>,
        now: Timestamp,
    ) -> Result<(String, Secrets), OidcError> {
        let provider = self.providers.known(self.settings, self.outgoing, now).await?;
        let client = self.client(&provider)?;
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let mut request = client
            .authorize_url(
                CoreAuthenticationFlow::AuthorizationCode,
                CsrfToken::new_random,
                Nonce::new_random,
            )
            .set_pkce_challenge(challenge)
            .add_scopes(self.settings.scopes.iter().cloned().map(Scope::new));
        if let Some(hint) = login_hint {
            request = request.add_extra_param("login_hint", hint);
        }
        let (url, state, nonce) = request.url();
        let secrets = Secrets {
            state: state.into_secret(),
            nonce: nonce.secret().clone(),
            pkce_verifier: verifier.into_secret(),
        };
        Ok((url.into(), secrets))
    }

    /// Who came back: exchanges the code and checks what the provider says.
    ///
    /// # Errors
    ///
    /// If the provider cannot be reached, refuses the code, or what it says does not hold.
    pub async fn finish(
        &self,
        code: &str,
        answered_issuer: Option<&str>,
        secrets: &Secrets,
        now: Timestamp,
    ) -> Result<Identity, OidcError> {
        let provider = self.providers.known(self.settings, self.outgoing, now).await?;
        // RFC 9207: an answer of one provider must not be taken to another.
        if let Some(answered) = answered_issuer
            && self.settings.flavour != Flavour::Microsoft
            && answered != provider.metadata.issuer().as_str()
        {
            return Err(not_believed(format!("it came from {answered:?}")));
        }
        let client = self.client(&provider)?;
        let exchange = client.exchange_code(AuthorizationCode::new(code.to_owned()));
        let exchange = exchange.map_err(|error| self.unusable(error.to_string()))?;
        let answer = exchange
            .set_pkce_verifier(PkceCodeVerifier::new(secrets.pkce_verifier.clone()))
            .request_async(self.outgoing)
            .await
            .map_err(refused)?;
        let token = answer.id_token().ok_or_else(|| not_believed("it has no ID token".to_owned()))?;
        let nonce = Nonce::new(secrets.nonce.clone());
        let claims = match self.verify(token, &provider, &nonce, now) {
            Err(openidconnect::ClaimsVerificationError::SignatureVerification(
                openidconnect::SignatureVerificationError::NoMatchingKey,
            )) => {
                // The provider may have begun to sign with a new key.
                let provider = self.providers.renewed(self.settings, self.outgoing, now).await?;
                self.verify(token, &provider, &nonce, now)
            }
            other => other,
        };
        let claims = claims.map_err(|error| not_believed(error_text(&error)))?;
        self.check_parties(&claims, &provider)?;
        let more = match claims.email() {
            Some(_) => None,
            None => self.user_info(&client, answer.access_token(), &claims).await?,
        };
        Ok(claims::identity(self.settings.flavour, &claims, more.as_ref()))
    }

    fn client(&self, provider: &Provider) -> Result<OidcClient, OidcError> {
        let secret = self.settings.client_secret.as_ref();
        let secret = secret.map(|secret| ClientSecret::new(secret.expose_secret().to_owned()));
        let redirect = RedirectUrl::new(self.redirect_uri.to_owned());
        let redirect = redirect.map_err(|error| self.unusable(error.to_string()))?;
        let methods = provider.metadata.token_endpoint_auth_methods_supported();
        // What is not said means: basic authentication.
        let basic = methods.is_none_or(|methods| methods.contains(&CoreClientAuthMethod::ClientSecretBasic));
        let auth_type = if basic { AuthType::BasicAuth } else { AuthType::RequestBody };
        let client_id = ClientId::new(self.settings.client_id.clone());
        Ok(OidcClient::from_provider_metadata(provider.metadata.clone(), client_id, secret)
            .set_redirect_uri(redirect)
            .set_auth_type(auth_type))
    }

    /// The token's claims, if signature, issuer, audience, nonce and times are right.
    fn verify(
        &self,
        token: &IdToken,
        provider: &Provider,
        nonce: &Nonce,
        now: Timestamp,
    ) -> Result<IdTokenClaims, openidconnect::ClaimsVerificationError> {
        let issuer = provider.metadata.issuer().clone();
        let time = chrono::DateTime::from_timestamp(i64::from(now.0), 0).unwrap_or_default();
        let skew = chrono::TimeDelta::seconds(CLOCK_SKEW_SECONDS);
        let oldest = time - chrono::TimeDelta::seconds(MAX_TOKEN_AGE_SECONDS) - skew;
        let verifier = openidconnect::IdTokenVerifier::new_public_client(
            ClientId::new(self.settings.client_id.clone()),
            issuer,
            provider.metadata.jwks().clone(),
        )
        .set_allowed_algs(SIGNATURES)
        // Some write `typ: JWT`, some leave it out; what it is follows from where it came from.
        .allow_all_jose_types()
        // A template is compared once it can be filled in, in `check_parties`.
        .require_issuer_match(self.settings.flavour != Flavour::Microsoft)
        .set_time_fn(move || time - skew)
        .set_issue_time_verifier_fn(move |issued| match issued {
            issued if issued > time + skew => Err("it was made in the future".to_owned()),
            issued if issued < oldest => Err("it was made too long ago".to_owned()),
            _ => Ok(()),
        });
        token.claims(&verifier, nonce).cloned()
    }

    /// What the crate leaves to us: who the token was made for, and the issuer of a provider with many.
    fn check_parties(&self, claims: &IdTokenClaims, provider: &Provider) -> Result<(), OidcError> {
        if let Some(party) = claims.authorized_party()
            && party.as_str() != self.settings.client_id
        {
            return Err(not_believed("it was made for another client".to_owned()));
        }
        if self.settings.flavour == Flavour::Microsoft {
            let tenant = claims.additional_claims().tenant_id.as_deref();
            let expected = metadata::fill_in_tenant(provider.metadata.issuer(), tenant);
            if expected.as_ref() != Some(claims.issuer()) {
                return Err(not_believed(format!("its issuer is {:?}", claims.issuer().as_str())));
            }
        }
        Ok(())
    }

    /// Claims that many providers leave out of ID tokens. The subject is held against the token's.
    async fn user_info(
        &self,
        client: &OidcClient,
        access_token: &AccessToken,
        claims: &IdTokenClaims,
    ) -> Result<Option<claims::UserInfo>, OidcError> {
        let request = client.user_info(access_token.clone(), Some(claims.subject().clone()));
        let Ok(request) = request else { return Ok(None) };
        let answer: Result<UserInfoClaims<MoreClaims, _>, _> = request.request_async(self.outgoing).await;
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(openidconnect::UserInfoError::Request(error)) => Err(error.into()),
            Err(error) => Err(not_believed(format!("user info: {}", error_text(&error)))),
        }
    }

    fn unusable(&self, reason: String) -> OidcError {
        OidcError::Unusable { issuer: self.settings.issuer.clone(), reason }
    }
}

impl OidcSettings {
    fn issuer_url(&self) -> Result<IssuerUrl, OidcError> {
        IssuerUrl::new(self.issuer.clone())
            .map_err(|error| OidcError::Unusable { issuer: self.issuer.clone(), reason: error.to_string() })
    }
}

/// How the OpenID Connect crate sends its requests.
impl<'c> AsyncHttpClient<'c> for Outgoing {
    type Error = OutgoingError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, OutgoingError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.send(request))
    }
}

fn refused(error: RequestTokenError<OutgoingError, OidcErrorAnswer>) -> OidcError {
    match error {
        RequestTokenError::Request(error) => error.into(),
        RequestTokenError::ServerResponse(answer) => {
            OidcError::CodeRefused { reason: answer.error().as_ref().to_owned() }
        }
        RequestTokenError::Parse(error, _) => not_believed(format!("the token endpoint's answer: {error}")),
        RequestTokenError::Other(reason) => not_believed(reason),
    }
}

fn not_believed(reason: String) -> OidcError {
    OidcError::NotBelieved { reason }
}

/// The error with its causes. The crate's own texts name claims and keys, never secrets.
fn error_text(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
