//! Requests that Postern itself sends to others: identity providers, third parties, and the web servers of domains
//! that are being verified.
//!
//! Where they go is in part what an organization's admins entered, or what another server answered. So every one of
//! them is bounded in size and time, follows no redirect, and reaches addresses of private networks only where the
//! operator has named these. What the answers mean is not known here.

mod names;
mod reach;

#[cfg(test)]
mod tests;

use std::fmt;

use bytes::BytesMut;
use http::{HeaderValue, Request, Response, header};

use crate::config::OutgoingConfig;
pub use crate::config::outgoing_url::check as check_url;
use crate::config::outgoing_url::literal;
pub use names::{NameError, Names};
use reach::Reach;

/// Longest answer that is read, in bytes. Sets of keys and discovery documents have a few KiB.
const MAX_ANSWER_BYTES: usize = 512 * 1024;

/// The client of all requests that Postern sends on its own behalf. Cheap to clone.
#[derive(Clone)]
pub struct Outgoing {
    client: reqwest::Client,
    reach: Reach,
}

/// Why there is no answer. Displays without the request's content, which may be secret.
#[derive(Debug, thiserror::Error)]
pub enum OutgoingError {
    /// The settings cannot be used.
    #[error("outgoing requests cannot be set up: {reason}")]
    Setup {
        /// What is wrong.
        reason: String,
    },
    /// The address is none, or none that requests are sent to.
    #[error("requests are not sent to {url:?}: {reason}")]
    Forbidden {
        /// Scheme, host and port.
        url: String,
        /// Why not.
        reason: String,
    },
    /// There was no answer.
    #[error("no answer from {url:?}: {reason}")]
    Failed {
        /// Scheme, host and port.
        url: String,
        /// What happened.
        reason: String,
    },
    /// The answer was longer than anything that is expected.
    #[error("the answer from {url:?} is longer than {MAX_ANSWER_BYTES} bytes")]
    TooLong {
        /// Scheme, host and port.
        url: String,
    },
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").field("reach", &self.reach).finish_non_exhaustive()
    }
}

impl Outgoing {
    /// A client with these settings, which looks host names up with `names`.
    ///
    /// # Errors
    ///
    /// If the file of authorities cannot be read, or TLS cannot be set up.
    pub fn new(settings: &OutgoingConfig, names: &Names) -> Result<Self, OutgoingError> {
        let setup = |reason: String| OutgoingError::Setup { reason };
        let reach = Reach::new(settings.private_networks.clone());
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("postern/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(settings.connect_timeout)
            .timeout(settings.total_timeout)
            .pool_max_idle_per_host(1)
            .dns_resolver(names.guarded(reach.clone()));
        if let Some(file) = &settings.ca_file {
            let pem = std::fs::read(file).map_err(|error| setup(format!("cannot read {file:?}: {error}")))?;
            let authorities = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|error| setup(format!("{file:?} has no usable certificates: {error}")))?;
            builder = builder.tls_certs_merge(authorities);
        }
        let client = builder.build().map_err(|error| setup(chain(&error)))?;
        Ok(Self { client, reach })
    }

    /// Sends a request and reads its whole answer, whatever its status.
    ///
    /// # Errors
    ///
    /// If the address is not allowed, there is no answer in time, or it is too long.
    pub async fn send(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, OutgoingError> {
        let (head, body) = request.into_parts();
        let shown = origin(&head.uri);
        let url = self.allowed(&head.uri)?;
        let failed = |error: reqwest::Error| OutgoingError::Failed {
            url: shown.clone(),
            reason: chain(&error.without_url()),
        };
        let request = self.client.request(head.method, url).headers(head.headers).body(body);
        let mut answer = request.send().await.map_err(failed)?;
        let mut content = BytesMut::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if content.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(OutgoingError::TooLong { url: shown });
            }
            content.extend_from_slice(&chunk);
        }
        let mut response = Response::new(content.to_vec());
        *response.status_mut() = answer.status();
        *response.headers_mut() = std::mem::take(answer.headers_mut());
        Ok(response)
    }

    /// Fetches a document; other statuses than 200 are failures.
    ///
    /// # Errors
    ///
    /// As [`Self::send`], or if the status is not 200.
    pub async fn fetch(&self, url: &str, accept: &'static str) -> Result<Vec<u8>, OutgoingError> {
        let request =
            Request::get(url).header(header::ACCEPT, HeaderValue::from_static(accept)).body(Vec::new());
        let request = request.map_err(|error| OutgoingError::Forbidden {
            url: url.chars().take(100).collect(),
            reason: error.to_string(),
        })?;
        let shown = origin(request.uri());
        let answer = self.send(request).await?;
        if answer.status() != http::StatusCode::OK {
            let reason = format!("it answered {} to a request for {:?}", answer.status(), path(url));
            return Err(OutgoingError::Failed { url: shown, reason });
        }
        Ok(answer.into_body())
    }

    /// The address, if it is one that requests may go to. Names are checked when they have been looked up.
    fn allowed(&self, uri: &http::Uri) -> Result<reqwest::Url, OutgoingError> {
        let forbidden =
            |reason: &str| OutgoingError::Forbidden { url: origin(uri), reason: reason.to_owned() };
        let url: reqwest::Url =
            uri.to_string().parse().map_err(|_| forbidden("this is no absolute address"))?;
        check_url(&url).map_err(|reason| forbidden(&reason))?;
        if let Some(address) = literal(&url)
            && !self.reach.allows(address)
        {
            return Err(forbidden(&reach::explain(address)));
        }
        Ok(url)
    }
}

/// What of an address may be shown: queries carry codes and secrets.
fn origin(uri: &http::Uri) -> String {
    match (uri.scheme_str(), uri.authority()) {
        (Some(scheme), Some(authority)) => {
            let host = authority.as_str();
            let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
            format!("{scheme}://{host}")
        }
        _ => uri.path().chars().take(100).collect(),
    }
}

fn path(url: &str) -> &str {
    let url = url.split(['?', '#']).next().unwrap_or(url);
    url.split_once("://").and_then(|(_, rest)| rest.find('/').map(|start| &rest[start..])).unwrap_or("/")
}

/// An error with its causes: what went wrong with a connection stands in the last of them.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
