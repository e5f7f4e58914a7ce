//! One management API, asked with a token: requests and answers as JSON, and its refusals as failures of a command.
//!
//! The token comes from the environment or a file, never from an argument, which everybody on the machine can read.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderValue};
use http::{Method, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::blocking::{Client, ClientBuilder};
use reqwest::{Certificate, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::super::failure::Failure;
use super::super::output::{Output, printable};
use super::RemoteArguments;

/// The token to ask with.
const TOKEN: &str = "POSTERN_TOKEN";

/// For a whole request.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What stays as it is in one segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A management API and the token to ask it with.
#[derive(Debug)]
pub(in crate::cli) struct Api {
    client: Client,
    base: Url,
    token: SecretString,
    /// The organization that was named, if one was.
    pub(super) organization_id: Option<String>,
}

/// A refusal of the API.
#[derive(Debug)]
pub(in crate::cli) struct Refusal {
    pub(in crate::cli) status: StatusCode,
    pub(in crate::cli) message: String,
}

/// Why there is no answer that is as it should be.
#[derive(Debug)]
pub(in crate::cli) enum Unanswered {
    /// The API refused.
    Refused(Refusal),
    /// It was not reached, or did not speak as it should.
    Failed(Failure),
}

impl Api {
    /// The API that the arguments name; `None` if they name none.
    pub(super) fn open(arguments: &RemoteArguments, output: Output) -> Result<Option<Self>, Failure> {
        let Some(url) = &arguments.url else {
            arguments.check_unused()?;
            return Ok(None);
        };
        let base = base(url)?;
        if base.scheme() == "http" && !is_loopback(&base) {
            output.remark(&format!("warning: {base} is not encrypted: the token can be read on the way"));
        }
        let mut builder = ClientBuilder::new()
            .user_agent(concat!("postern/", env!("CARGO_PKG_VERSION")))
            .timeout(TIMEOUT)
            // The token is for this place and no other.
            .redirect(reqwest::redirect::Policy::none());
        if let Some(file) = &arguments.ca_file {
            builder = builder.tls_certs_only(certificates(file)?);
        }
        let client =
            builder.build().map_err(|error| Failure::Failed(format!("{base}: {}", chain(&error))))?;
        Ok(Some(Self {
            client,
            base,
            token: token(arguments.token_file.as_deref())?,
            organization_id: arguments.organization_id.clone(),
        }))
    }

    /// Where it is.
    pub(in crate::cli) fn url(&self) -> &Url {
        &self.base
    }

    /// Asks, and reads the answer.
    pub(in crate::cli) fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<T, Unanswered> {
        let mut url = self.base.clone();
        let segments = path.iter().map(|segment| utf8_percent_encode(segment, SEGMENT).to_string());
        let path = segments.collect::<Vec<_>>().join("/");
        url.set_path(&format!("{}/v1/{path}", self.base.path().trim_end_matches('/')));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut authorization = HeaderValue::try_from(format!("Bearer {}", self.token.expose_secret()))
            .map_err(|_| {
                let what = "the token in POSTERN_TOKEN or --token-file has characters that none has";
                Unanswered::Failed(Failure::Usage(what.to_owned()))
            })?;
        authorization.set_sensitive(true);
        let mut request = self.client.request(method, url).header(AUTHORIZATION, authorization);
        if let Some(body) = body {
            request = request.json(body);
        }
        let failed = |error: reqwest::Error| {
            let said = chain(&error.without_url());
            let hint = match self.base.scheme() {
                "https" if said.contains("InvalidContentType") => "; it does not speak TLS: write http://",
                _ => "",
            };
            Unanswered::Failed(Failure::Failed(format!(
                "the management API at {} failed: {said}{hint}",
                self.base
            )))
        };
        let response = request.send().map_err(failed)?;
        let status = response.status();
        let bytes = response.bytes().map_err(failed)?;
        if !status.is_success() {
            let message = message(&bytes).ok_or_else(|| {
                Unanswered::Failed(Failure::Failed(format!(
                    "{} answered {status} and no management API's words: check the URL",
                    self.base
                )))
            })?;
            return Err(Unanswered::Refused(Refusal { status, message }));
        }
        // Deletions answer nothing.
        let bytes: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
        serde_json::from_slice(bytes).map_err(|error| {
            Unanswered::Failed(Failure::Failed(format!(
                "{} answered what no management API answers ({error}): check the URL",
                self.base
            )))
        })
    }
}

/// The token to ask with, from a file or the environment.
fn token(file: Option<&Path>) -> Result<SecretString, Failure> {
    let text = match file {
        Some(file) => fs::read_to_string(file)
            .map_err(|error| Failure::Failed(format!("--token-file: {}: {error}", file.display())))?,
        None => std::env::var(TOKEN).unwrap_or_default(),
    };
    let token = text.trim();
    if token.is_empty()
        && let Some(file) = file
    {
        return Err(Failure::Usage(format!("--token-file: {} has no token in it", file.display())));
    }
    if token.is_empty() {
        return Err(Failure::Usage(format!(
            "say who asks: set {TOKEN}, or name a file with a token by --token-file; a token on the command line \
             could be read by everybody on this machine"
        )));
    }
    Ok(token.into())
}

fn base(url: &str) -> Result<Url, Failure> {
    let wrong = |says: &str| {
        Failure::Usage(format!("--url {url:?} {says}; write one such as https://postern.example.com:8181"))
    };
    let base = Url::parse(url).map_err(|error| wrong(&format!("is no URL ({error})")))?;
    if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
        return Err(wrong("is no http or https URL"));
    }
    if base.path().trim_end_matches('/').ends_with("/v1") {
        return Err(wrong("ends with /v1, which is added"));
    }
    if !base.username().is_empty() || base.password().is_some() {
        return Err(Failure::Usage(
            "--url has a password in it, which is not looked at; the token comes from POSTERN_TOKEN"
                .to_owned(),
        ));
    }
    Ok(base)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn certificates(file: &Path) -> Result<Vec<Certificate>, Failure> {
    let failed = |says: &str| Failure::Failed(format!("--ca-file: {}: {says}", file.display()));
    let pem = fs::read(file).map_err(|error| failed(&error.to_string()))?;
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| failed(&chain(&error)))?;
    if certificates.is_empty() { Err(failed("it has no certificate")) } else { Ok(certificates) }
}

/// The message of Aiven's error shape; `None` if it is none.
fn message(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct ErrorBody {
        message: String,
    }
    serde_json::from_slice::<ErrorBody>(body).ok().map(|body| printable(&body.message))
}

/// An error with all that led to it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        said = format!("{said}: {error}");
        source = error.source();
    }
    said
}

impl From<Unanswered> for Failure {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Failed(failure) => failure,
            Unanswered::Refused(Refusal { message, .. }) => Self::Failed(message),
        }
    }
}
