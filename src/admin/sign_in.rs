//! `/v1/userauth/sign_in/…`: logging in through third parties and identity providers.
//!
//! A browser opens the address that [`super::login_options`] names, comes back to the callback, and either gets the session
//! token itself, or a code for the command line that began ([`crate::login::sign_in`]).
//!
//! What must not live here: whom somebody is ([`crate::directory::operations::sign_in`]), and protocols.

mod page;

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::header::{COOKIE, LOCATION, RETRY_AFTER, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::body::{JsonBody, QueryParameters};
use super::error::ErrorBody;
use super::visitor::Visitor;
use super::{Admin, ApiError, Settings};
use crate::directory::operations::{self, Arrival, SignInRefusal, SignedIn, Via};
use crate::login::oidc::OidcError;
use crate::login::seal::Purpose;
use crate::login::sign_in::flow::{HandOver, via_of};
use crate::login::sign_in::handover::is_challenge;
use crate::login::sign_in::{self, Protocol, SignInError};
use crate::telemetry::metrics::SignInOutcome;
use page::Page;

/// Longest text that a command line may want back, in bytes.
const MAX_STATE: usize = 128;

/// How a command line begins; a browser begins with nothing.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Start {
    /// S256 digest of a secret that only the command line knows (RFC 7636).
    code_challenge: Option<String>,
    /// `S256`, the only one there is.
    code_challenge_method: Option<String>,
    /// Port on 127.0.0.1 where the command line waits; left out, the code is shown to be copied.
    port: Option<u16>,
    /// What the command line wants back with the code.
    state: Option<String>,
}

/// What a provider appends to the address.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Callback {
    /// What it was sent.
    state: Option<String>,
    /// To be exchanged.
    code: Option<String>,
    /// Whose answer it is (RFC 9207).
    iss: Option<String>,
    /// That it did not happen.
    error: Option<String>,
    /// Why it did not.
    error_description: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SignInCode)]
pub(super) struct TurnedIn {
    /// What the browser got.
    code: String,
    /// The secret whose digest the sign-in began with.
    code_verifier: String,
}

/// A session.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SignInSession)]
pub(super) struct Session {
    token: String,
    /// `active`.
    state: &'static str,
    user_email: String,
}

pub(super) fn router() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(callback)).routes(routes!(start)).routes(routes!(turn_in))
}

/// Sends a browser to a third party (`google`, `microsoft`, `github`) or an identity provider (its id).
#[utoipa::path(get, path = "/v1/userauth/sign_in/{provider}", tag = "login",
    params(("provider" = String, Path), Start),
    responses(
        (status = SEE_OTHER),
        (status = BAD_GATEWAY, body = ErrorBody),
    ))]
async fn start(
    State(admin): State<Arc<Admin>>,
    Path(provider): Path<String>,
    QueryParameters(query): QueryParameters<Start>,
    visitor: Visitor,
    headers: HeaderMap,
) -> Response {
    let begin = async {
        let (settings, via) = (admin.settings(), via_of(&provider));
        let hand_over = hand_over(query)?;
        let protocol = protocol(&admin, &settings, &via).await?;
        let from = (visitor.address(), admin.now());
        let begun = admin.sign_in.begin(&settings.others, (&via, &protocol), hand_over, from).await?;
        let cookie = Cookie::of(&settings)?;
        let mut response = StatusCode::SEE_OTHER.into_response();
        response.headers_mut().insert(LOCATION, header(&begun.redirect_url)?);
        response.headers_mut().insert(SET_COOKIE, header(&cookie.set(&begun.cookie))?);
        Ok::<_, ApiError>(response)
    };
    begin.await.unwrap_or_else(|error| page::refusal(&headers, error))
}

/// Where providers send browsers back to.
#[utoipa::path(get, path = "/v1/userauth/sign_in/callback", tag = "login", params(Callback),
    responses(
        (status = OK, body = Session),
        (status = SEE_OTHER),
        (status = FORBIDDEN, body = ErrorBody),
        (status = NOT_FOUND, body = ErrorBody),
        (status = BAD_GATEWAY, body = ErrorBody),
    ))]
async fn callback(
    State(admin): State<Arc<Admin>>,
    QueryParameters(query): QueryParameters<Callback>,
    visitor: Visitor,
    headers: HeaderMap,
) -> Response {
    let settings = admin.settings();
    let cookie = match Cookie::of(&settings) {
        Ok(cookie) => cookie,
        Err(error) => return page::refusal(&headers, error),
    };
    let not_begun = |error: SignInError| {
        admin.login.count_sign_in(SignInOutcome::NotBegunHere);
        page::refusal(&headers, error.into())
    };
    let mut response = match admin.sign_in.flow(cookie.find(&headers), admin.now()) {
        Err(error) => not_begun(error),
        Ok(flow) => match flow.check_state(query.state.as_deref()) {
            // Somebody else's answer: what this browser has begun goes on.
            Err(error) => return not_begun(error),
            Ok(()) => {
                let ended = come_back(&admin, &settings, flow, &query, (&visitor, &headers)).await;
                ended.unwrap_or_else(|error| page::refusal(&headers, error))
            }
        },
    };
    // Who finds us busy may load the page again.
    if response.status() != StatusCode::SERVICE_UNAVAILABLE
        && let Ok(value) = HeaderValue::from_str(&cookie.clear())
    {
        response.headers_mut().insert(SET_COOKIE, value);
    }
    response
}

/// Turns a code that a browser got into a session, for the command line that began.
#[utoipa::path(post, path = "/v1/userauth/sign_in/token", tag = "login", request_body = TurnedIn,
    responses(
        (status = OK, body = Session),
        (status = FORBIDDEN, body = ErrorBody),
    ))]
async fn turn_in(
    State(admin): State<Arc<Admin>>,
    visitor: Visitor,
    JsonBody(TurnedIn { code, code_verifier }): JsonBody<TurnedIn>,
) -> Result<Json<Session>, ApiError> {
    let signed_in = admin.sign_in.hand_overs.take(&code, &code_verifier, admin.now()).ok_or_else(|| {
        let message = "code: it is unknown, used up or over, or was begun elsewhere; begin again";
        ApiError::new(StatusCode::BAD_REQUEST, "sign_in_code_refused", message)
    })?;
    session(&admin, &visitor, signed_in).await.map(Json)
}

/// The browser is back with an answer to what it began.
async fn come_back(
    admin: &Arc<Admin>,
    settings: &Settings,
    flow: sign_in::flow::Flow,
    query: &Callback,
    (visitor, headers): (&Visitor, &HeaderMap),
) -> Result<Response, ApiError> {
    let protocol = protocol(admin, settings, &flow.via).await?;
    let answer = sign_in::Answer {
        state: query.state.as_deref(),
        code: query.code.as_deref(),
        issuer: query.iss.as_deref(),
        error: query.error.as_deref(),
        error_description: query.error_description.as_deref(),
    };
    let from = (visitor.address(), admin.now());
    let arrived = admin.sign_in.finish(&settings.others, flow, &protocol, &answer, from).await;
    let arrived = arrived.inspect_err(|_| admin.login.count_sign_in(SignInOutcome::Failed))?;
    let arrival = Arrival { via: arrived.via, identity: arrived.identity };
    let signed_in = admin
        .change(visitor.author(None), move |store, now| operations::sign_in(store, &arrival, now))
        .await?
        .inspect_err(|_| admin.login.count_sign_in(SignInOutcome::Refused))
        .map_err(refused)?;
    admin.login.count_sign_in(SignInOutcome::Succeeded);
    match arrived.hand_over {
        HandOver::Browser => {
            let session = session(admin, visitor, signed_in).await?;
            Ok(page::answer(headers, Page::session(&session), &session))
        }
        HandOver::CommandLine { challenge, port, state } => {
            let email = signed_in.user.email.clone();
            let code = admin.sign_in.hand_overs.keep(challenge, signed_in, admin.now());
            match port {
                None => Ok(page::answer(
                    headers,
                    Page::code(&email, &code),
                    &HashMap::from([("code", code.as_str()), ("user_email", &email)]),
                )),
                Some(port) => {
                    let query = [("code", Some(code)), ("state", state)];
                    let query = query.into_iter().filter_map(|(name, value)| Some((name, value?)));
                    let url = reqwest::Url::parse_with_params(&format!("http://127.0.0.1:{port}/"), query);
                    let url = url.map_err(|_| ApiError::internal())?;
                    let mut response = StatusCode::SEE_OTHER.into_response();
                    response.headers_mut().insert(LOCATION, header(url.as_str())?);
                    Ok(response)
                }
            }
        }
    }
}

/// Begins the session, bound to the way somebody came; an identity provider may say how long it lasts.
async fn session(admin: &Arc<Admin>, visitor: &Visitor, signed_in: SignedIn) -> Result<Session, ApiError> {
    let user_email = signed_in.user.email.clone();
    let (lifetime, now) = (admin.login.session, admin.now());
    let terms = match &signed_in.provider {
        None => lifetime.beginning(now),
        Some(provider) => lifetime.beginning_through_provider(
            provider.auth_token_max_age_seconds,
            provider.auth_token_extend_when_used,
            now,
        ),
    };
    let author = visitor.author(Some(&signed_in.user.id));
    let created = admin
        .change(author, move |store, now| operations::begin_session(store, &signed_in, terms, now))
        .await?;
    Ok(Session { token: created.fresh.full.expose_secret().to_owned(), state: "active", user_email })
}

/// How somebody is spoken to, as it is set up at this moment.
async fn protocol(admin: &Arc<Admin>, settings: &Settings, via: &Via) -> Result<Protocol, ApiError> {
    settings.others.public_url()?;
    let id = match via {
        Via::ThirdParty(kind) => return Ok(settings.others.third_party(*kind)?),
        Via::IdentityProvider(id) => id.clone(),
    };
    let wanted = id.clone();
    let (provider, sealed) = admin
        .read(move |records| {
            Ok((records.identity_provider(&wanted)?, records.sealed_client_secret(&wanted)?))
        })
        .await?;
    let provider = provider.ok_or(SignInError::NoSuchProvider)?;
    let secret = match sealed {
        None => None,
        Some(sealed) => Some(open(admin, &id, &sealed)?),
    };
    Ok(sign_in::identity_provider(&provider, secret)?)
}

fn open(admin: &Admin, id: &str, sealed: &[u8]) -> Result<SecretString, ApiError> {
    let opened =
        admin.login.sealer.open(Purpose::ClientSecret(id), sealed).map_err(|error| error.to_string());
    let text = opened.and_then(|opened| match std::str::from_utf8(&opened) {
        Ok(text) => Ok(SecretString::from(text)),
        Err(error) => Err(error.to_string()),
    });
    text.map_err(|error| {
        tracing::error!(
            identity_provider = id,
            error,
            "the client secret of an identity provider cannot be used"
        );
        ApiError::internal()
    })
}

fn hand_over(start: Start) -> Result<HandOver, ApiError> {
    let Some(challenge) = start.code_challenge else {
        if start.port.is_some() || start.state.is_some() {
            let reason = "is needed where port or state are given";
            return Err(ApiError::bad_request("code_challenge", reason));
        }
        return Ok(HandOver::Browser);
    };
    if !is_challenge(&challenge) {
        return Err(ApiError::bad_request("code_challenge", "must be an S256 digest of 43 characters"));
    }
    if start.code_challenge_method.is_some_and(|method| method != "S256") {
        return Err(ApiError::bad_request("code_challenge_method", "must be S256"));
    }
    if start.port == Some(0) {
        return Err(ApiError::bad_request("port", "must be 1 to 65535"));
    }
    let printable =
        |state: &String| state.len() <= MAX_STATE && state.bytes().all(|byte| byte.is_ascii_graphic());
    if !start.state.as_ref().is_none_or(printable) {
        let reason = format!("must be at most {MAX_STATE} visible ASCII characters");
        return Err(ApiError::bad_request("state", reason));
    }
    Ok(HandOver::CommandLine { challenge, port: start.port, state: start.state })
}

fn header(text: &str) -> Result<HeaderValue, ApiError> {
    HeaderValue::from_str(text).map_err(|_| ApiError::internal())
}

/// The cookie that binds a sign-in to a browser.
struct Cookie {
    /// Over HTTPS the name makes browsers see to it that no other site and no plain connection can set it.
    secure: bool,
}

impl Cookie {
    fn of(settings: &Settings) -> Result<Self, ApiError> {
        Ok(Self { secure: settings.others.public_url()?.starts_with("https:") })
    }

    fn name(&self) -> &'static str {
        if self.secure { "__Host-postern-sign-in" } else { "postern-sign-in" }
    }

    fn set(&self, value: &str) -> String {
        self.written(value, sign_in::FLOW_SECONDS)
    }

    fn clear(&self) -> String {
        self.written("", 0)
    }

    /// `Lax`: the provider's redirect, a top-level navigation from another site, must bring it along.
    fn written(&self, value: &str, seconds: u32) -> String {
        let secure = if self.secure { "; Secure" } else { "" };
        format!("{}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}", self.name())
    }

    fn find<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        let lines = headers.get_all(COOKIE).into_iter().filter_map(|line| line.to_str().ok());
        let mut cookies =
            lines.flat_map(|line| line.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
        cookies.find(|(name, _)| *name == self.name()).map(|(_, value)| value)
    }
}

impl From<SignInError> for ApiError {
    fn from(error: SignInError) -> Self {
        let message = error.to_string();
        match error {
            SignInError::NotSetUp(_) => Self::new(StatusCode::NOT_FOUND, "sign_in_not_set_up", message),
            SignInError::NoSuchProvider => Self::new(StatusCode::NOT_FOUND, "not_found", message),
            SignInError::NotBegunHere => {
                Self::new(StatusCode::BAD_REQUEST, "sign_in_not_begun_here", message)
            }
            SignInError::Expired => Self::new(StatusCode::BAD_REQUEST, "sign_in_expired", message),
            SignInError::Replayed => Self::new(StatusCode::BAD_REQUEST, "sign_in_replayed", message),
            SignInError::Declined(_) => Self::forbidden("sign_in_declined", message),
            SignInError::Busy => Self::new(StatusCode::SERVICE_UNAVAILABLE, "sign_in_busy", message)
                .with_header(RETRY_AFTER, HeaderValue::from_static("2")),
            SignInError::Provider(error) => provider_failed(&error),
        }
    }
}

/// What went wrong between us and the provider is for the log: strangers need not know what is behind its name.
fn provider_failed(error: &OidcError) -> ApiError {
    tracing::warn!(%error, "somebody could not sign in: the provider failed, or its answer does not hold");
    match error {
        OidcError::Unusable { .. } => ApiError::new(
            StatusCode::BAD_GATEWAY,
            "identity_provider_unusable",
            "The provider is not set up rightly; Postern's log says more. Ask an admin.",
        ),
        OidcError::Outgoing(_) => ApiError::new(
            StatusCode::BAD_GATEWAY,
            "identity_provider_unreachable",
            "The provider cannot be reached; Postern's log says more. Try again later.",
        ),
        OidcError::CodeRefused { .. } => ApiError::new(
            StatusCode::BAD_REQUEST,
            "sign_in_code_refused",
            "The provider refused the code that came with this sign-in. Begin again.",
        ),
        OidcError::NotBelieved { .. } => ApiError::forbidden(
            "identity_not_believed",
            "What the provider says does not hold; Postern's log says more. Begin again, or ask an admin.",
        ),
    }
}

fn refused(refusal: SignInRefusal) -> ApiError {
    let code = match refusal {
        SignInRefusal::ProviderDisabled => "identity_provider_disabled",
        SignInRefusal::EmailNotVerified => "email_not_verified",
        SignInRefusal::DomainNotLinked => "domain_not_linked",
        SignInRefusal::Unknown => "user_not_invited",
        SignInRefusal::Deactivated => "user_deactivated",
        SignInRefusal::ApplicationUser => "application_user",
        SignInRefusal::LinkedToAnother => "linked_to_another_account",
    };
    let message = refusal.to_string();
    let mut letters = message.chars();
    let message =
        letters.next().map(|first| first.to_uppercase().chain(letters).chain(['.']).collect::<String>());
    ApiError::forbidden(code, message.unwrap_or_default())
}
