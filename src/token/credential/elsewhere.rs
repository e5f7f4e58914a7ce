//! Tokens that come elsewhere than in `Authorization: Bearer`, for clients that can do nothing else: only where a route
//! declares it. Whatever came in a place that may hold a token goes no further than this.
//!
//! What must not live here: which routes declare what.

use data_encoding::{BASE64, BASE64URL_NOPAD, Encoding};
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, HeaderValue};
use secrecy::zeroize::Zeroizing;

use super::{Credential, CredentialError, PresentedToken};
use crate::config::{CredentialCarrier, CredentialsConfig};
use crate::error::response::Challenges;
use crate::route::query;

/// What a WebSocket's subprotocol begins with that is a token: the convention of Kubernetes. The rest is the token in
/// base64url without padding, since not every token is a subprotocol's name.
const PROTOCOL: &[u8] = b"base64url.bearer.authorization.k8s.io.";

/// The longest user name and password that are decoded, with the colon.
const USER_AND_TOKEN_BYTES: usize = 2048;

/// Where a route takes tokens from.
#[derive(Debug)]
pub struct Carriers {
    bearer: Taken,
    basic: Taken,
    websocket_protocol: Taken,
    /// The parameter's name.
    query: Option<Box<str>>,
}

/// Whether tokens are taken from a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    Yes,
    No,
}

/// What of a request may carry a token.
#[derive(Clone, Copy, Debug)]
pub struct Carrying<'a> {
    /// Its header lines.
    pub headers: &'a HeaderMap,
    /// Its query.
    pub query: Option<&'a str>,
    /// What it opens.
    pub opening: Opening,
}

/// What a request opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// Nothing: it is answered.
    Nothing,
    /// A WebSocket.
    WebSocket,
}

impl Carriers {
    /// Where tokens are taken from; `None`: from `Authorization: Bearer` alone, which is read elsewhere.
    pub fn of(config: &CredentialsConfig) -> Option<Box<Self>> {
        let taken = |carrier| if config.carriers.contains(&carrier) { Taken::Yes } else { Taken::No };
        let takes_query = config.carriers.contains(&CredentialCarrier::Query);
        (config.carriers != [CredentialCarrier::Bearer]).then(|| {
            Box::new(Self {
                bearer: taken(CredentialCarrier::Bearer),
                basic: taken(CredentialCarrier::Basic),
                websocket_protocol: taken(CredentialCarrier::WebsocketProtocol),
                query: takes_query.then(|| config.query_parameter.as_str().into()),
            })
        })
    }

    /// How clients are asked for a token.
    pub fn challenges(&self) -> Challenges {
        match (self.bearer, self.basic) {
            (Taken::Yes, Taken::Yes) => Challenges::BearerAndBasic,
            (Taken::No, Taken::Yes) => Challenges::Basic,
            (_, Taken::No) => Challenges::Bearer,
        }
    }

    /// Reads the one credential of a request.
    ///
    /// # Errors
    /// [`CredentialError::Missing`] without any, [`CredentialError::Malformed`] for more than one, for one in a place that
    /// is not declared, and for what is not one token.
    pub fn read(&self, carrying: Carrying<'_>) -> Result<Credential, CredentialError> {
        let mut found = Err(CredentialError::Missing);
        let mut count = 0;
        let mut add = |credential: Result<Credential, CredentialError>| {
            count += 1;
            found = credential;
        };
        carrying.headers.get_all(AUTHORIZATION).iter().for_each(|value| add(self.of_authorization(value)));
        if self.websocket_protocol == Taken::Yes {
            for item in protocols(carrying.headers).filter_map(token_of_protocol) {
                add(match carrying.opening {
                    Opening::WebSocket => of_base64url(item),
                    // What opens nothing has no use for it.
                    Opening::Nothing => Err(CredentialError::Malformed),
                });
            }
        }
        if let (Some(name), Some(query)) = (&self.query, carrying.query) {
            for (_, value) in query::parameters(query).filter(|(given, _)| is_named(given, name)) {
                let token: Zeroizing<Vec<u8>> = Zeroizing::new(query::decoded(value).collect());
                add(PresentedToken(&token).into_credential());
            }
        }
        if count > 1 { Err(CredentialError::Malformed) } else { found }
    }

    fn of_authorization(&self, value: &HeaderValue) -> Result<Credential, CredentialError> {
        let value = value.as_bytes();
        let scheme = value.split(|byte| *byte == b' ').next().unwrap_or_default();
        if scheme.eq_ignore_ascii_case(b"basic") {
            return match self.basic {
                Taken::Yes => of_basic(value.get(scheme.len()..).unwrap_or_default()),
                Taken::No => Err(CredentialError::Malformed),
            };
        }
        match self.bearer {
            Taken::Yes => PresentedToken::of_header(value)?.into_credential(),
            Taken::No => Err(CredentialError::Malformed),
        }
    }

    /// The path and query without the parameter that carries tokens; `None`: there is none in it.
    pub fn without_token(&self, path_and_query: &str) -> Option<String> {
        let name = self.query.as_deref()?;
        let (path, query) = path_and_query.split_once('?')?;
        let is_token =
            |parameter: &&str| query::parameters(parameter).any(|(given, _)| is_named(given, name));
        if !query.split('&').any(|parameter| is_token(&parameter)) {
            return None;
        }
        let kept: Vec<_> = query.split('&').filter(|parameter| !is_token(parameter)).collect();
        Some(if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) })
    }

    /// The header lines without the subprotocols that are tokens; `None`: there is none among them.
    pub fn headers_without_token(&self, headers: &HeaderMap) -> Option<HeaderMap> {
        let carries = self.websocket_protocol == Taken::Yes
            && protocols(headers).any(|item| token_of_protocol(item).is_some());
        if !carries {
            return None;
        }
        let kept: Vec<_> = protocols(headers).filter(|item| token_of_protocol(item).is_none()).collect();
        let kept = kept.join(&b", "[..]);
        let mut headers = headers.clone();
        headers.remove(SEC_WEBSOCKET_PROTOCOL);
        if let Ok(kept) = HeaderValue::from_bytes(&kept)
            && !kept.is_empty()
        {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, kept);
        }
        Some(headers)
    }
}

/// The subprotocols that a client offers (RFC 6455, section 4.1), over all lines.
fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let items = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    items.map(<[u8]>::trim_ascii).filter(|item| !item.is_empty())
}

/// What stands for the token in a subprotocol that is one. In any case: it must not go on in another spelling either.
fn token_of_protocol(item: &[u8]) -> Option<&[u8]> {
    let (start, rest) = item.split_at_checked(PROTOCOL.len())?;
    start.eq_ignore_ascii_case(PROTOCOL).then_some(rest)
}

fn of_base64url(encoded: &[u8]) -> Result<Credential, CredentialError> {
    let mut token = Zeroizing::new([0; USER_AND_TOKEN_BYTES]);
    PresentedToken(decode(&BASE64URL_NOPAD, encoded, &mut token)?).into_credential()
}

/// The password of RFC 7617 is the token; the user name is whatever the client wants.
fn of_basic(rest: &[u8]) -> Result<Credential, CredentialError> {
    let mut pair = Zeroizing::new([0; USER_AND_TOKEN_BYTES]);
    let pair = decode(&BASE64, rest.trim_ascii_start(), &mut pair)?;
    let colon = pair.iter().position(|byte| *byte == b':').ok_or(CredentialError::Malformed)?;
    PresentedToken(pair.get(colon + 1..).unwrap_or_default()).into_credential()
}

/// Decodes into memory that is wiped, whatever comes of it.
fn decode<'b>(
    encoding: &Encoding,
    encoded: &[u8],
    decoded: &'b mut [u8; USER_AND_TOKEN_BYTES],
) -> Result<&'b [u8], CredentialError> {
    let length = encoding.decode_len(encoded.len()).ok();
    let room = length.and_then(|length| decoded.get_mut(..length)).ok_or(CredentialError::Malformed)?;
    let length = encoding.decode_mut(encoded, room).map_err(|_| CredentialError::Malformed)?;
    Ok(decoded.get(..length).unwrap_or_default())
}

fn is_named(given: &str, name: &str) -> bool {
    query::decoded(given).eq(name.bytes())
}

#[cfg(test)]
mod tests;
