//! GitHub's OAuth: an authorization code flow with PKCE, but no ID token. Who it is, is asked of GitHub's API with the
//! access token, which is then forgotten.
//!
//! Only an address that GitHub calls both primary and verified counts.

use http::{HeaderValue, Request, StatusCode, header};
use openidconnect::{CsrfToken, PkceCodeChallenge};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::identity::{Email, Identity, canonical_email};
use super::oidc::{OidcError, Secrets};
use super::outgoing::Outgoing;

/// What is asked for: who it is, and their addresses.
const SCOPES: &str = "read:user user:email";

/// GitHub, or an instance of its enterprise server, as the operator has set it up.
#[derive(Clone, Debug)]
pub struct GitHubSettings {
    /// Who we are to it.
    pub client_id: String,
    /// What shows that.
    pub client_secret: SecretString,
    /// Where browsers are sent.
    pub authorization_endpoint: String,
    /// Where codes are exchanged.
    pub token_endpoint: String,
    /// Where it says who somebody is.
    pub user_endpoint: String,
    /// Where it says what their addresses are.
    pub emails_endpoint: String,
}

/// GitHub, and how to reach it.
#[derive(Clone, Copy, Debug)]
pub struct GitHub<'a> {
    /// How it was set up.
    pub settings: &'a GitHubSettings,
    /// Where it sends browsers back to.
    pub redirect_uri: &'a str,
    /// How it is reached.
    pub outgoing: &'a Outgoing,
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: Option<String>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct User {
    id: u64,
    login: String,
    name: Option<String>,
}

#[derive(Deserialize)]
struct Address {
    email: String,
    primary: bool,
    verified: bool,
}

impl GitHub<'_> {
    /// Where to send a person's browser, and what to remember until it comes back.
    ///
    /// # Errors
    ///
    /// If the endpoint is no address.
    pub fn begin(&self) -> Result<(String, Secrets), OidcError> {
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let state = CsrfToken::new_random().into_secret();
        let query = [
            ("client_id", self.settings.client_id.as_str()),
            ("redirect_uri", self.redirect_uri),
            ("response_type", "code"),
            ("scope", SCOPES),
            ("state", &state),
            ("code_challenge", challenge.as_str()),
            ("code_challenge_method", "S256"),
            ("allow_signup", "false"),
        ];
        let url = reqwest::Url::parse_with_params(&self.settings.authorization_endpoint, query);
        let url = url.map_err(|error| self.unusable(error.to_string()))?;
        let secrets = Secrets { state, nonce: String::new(), pkce_verifier: verifier.into_secret() };
        Ok((url.into(), secrets))
    }

    /// Who came back.
    ///
    /// # Errors
    ///
    /// If GitHub cannot be reached, refuses the code, or answers what cannot be read.
    pub async fn finish(&self, code: &str, secrets: &Secrets) -> Result<Identity, OidcError> {
        let token = self.exchange(code, secrets).await?;
        let user: User = self.ask(&self.settings.user_endpoint, &token).await?;
        let addresses: Vec<Address> = self.ask(&self.settings.emails_endpoint, &token).await?;
        let primary = addresses.iter().find(|address| address.primary);
        let email =
            match primary.and_then(|address| Some((address.verified, canonical_email(&address.email)?))) {
                Some((true, email)) => Email::Verified(email),
                Some((false, email)) => Email::Unverified(email),
                None => Email::None,
            };
        Ok(Identity {
            // Logins can be given up and taken by others, numbers cannot.
            subject: format!("{} {}", self.origin(), user.id),
            email,
            name: Some(user.name.filter(|name| !name.trim().is_empty()).unwrap_or(user.login)),
        })
    }

    async fn exchange(&self, code: &str, secrets: &Secrets) -> Result<SecretString, OidcError> {
        let query = [
            ("client_id", self.settings.client_id.as_str()),
            ("client_secret", self.settings.client_secret.expose_secret()),
            ("code", code),
            ("redirect_uri", self.redirect_uri),
            ("grant_type", "authorization_code"),
            ("code_verifier", &secrets.pkce_verifier),
        ];
        let form = reqwest::Url::parse_with_params("http://form.invalid/", query);
        let form = form.map_err(|error| self.unusable(error.to_string()))?;
        let request = Request::post(&self.settings.token_endpoint)
            .header(header::ACCEPT, HeaderValue::from_static("application/json"))
            .header(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"))
            .body(form.query().unwrap_or_default().as_bytes().to_vec())
            .map_err(|error| self.unusable(error.to_string()))?;
        let answer = self.outgoing.send(request).await?;
        // GitHub says 200 also when it refuses.
        let answer: TokenAnswer = serde_json::from_slice(answer.body()).map_err(|error| {
            OidcError::NotBelieved { reason: format!("the token endpoint's answer: {error}") }
        })?;
        match (answer.access_token, answer.error) {
            (Some(token), None) => Ok(SecretString::from(token)),
            (_, error) => {
                Err(OidcError::CodeRefused { reason: error.unwrap_or_else(|| "no token".to_owned()) })
            }
        }
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        url: &str,
        token: &SecretString,
    ) -> Result<T, OidcError> {
        let mut authorization =
            HeaderValue::from_str(&format!("Bearer {}", token.expose_secret())).map_err(|_| {
                OidcError::NotBelieved { reason: "the access token cannot stand in a header".to_owned() }
            })?;
        authorization.set_sensitive(true);
        let request = Request::get(url)
            .header(header::ACCEPT, HeaderValue::from_static("application/vnd.github+json"))
            .header("x-github-api-version", HeaderValue::from_static("2022-11-28"))
            .header(header::AUTHORIZATION, authorization)
            .body(Vec::new())
            .map_err(|error| self.unusable(error.to_string()))?;
        let answer = self.outgoing.send(request).await?;
        if answer.status() != StatusCode::OK {
            let reason = format!("it answered {} when it was asked who it is", answer.status());
            return Err(OidcError::NotBelieved { reason });
        }
        serde_json::from_slice(answer.body())
            .map_err(|error| OidcError::NotBelieved { reason: format!("what it says of the user: {error}") })
    }

    /// Which GitHub it is: the same number is somebody else on another.
    fn origin(&self) -> String {
        let url = reqwest::Url::parse(&self.settings.authorization_endpoint);
        url.map_or_else(
            |_| self.settings.authorization_endpoint.clone(),
            |url| url.origin().ascii_serialization(),
        )
    }

    fn unusable(&self, reason: String) -> OidcError {
        OidcError::Unusable { issuer: self.origin(), reason }
    }
}
