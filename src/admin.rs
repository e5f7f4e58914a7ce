//! The management API: people and programs manage users, tokens and policy over HTTP, in Aiven's wire format.
//!
//! Here: what its handlers share, the router, and the listener. One file a resource is in `admin/`; each turns HTTP into
//! one of the directory's operations and its result into JSON. What must not live here: what an operation checks or
//! changes ([`crate::directory::operations`]), and who may do what ([`crate::policy`] decides; [`caller`] asks it).

mod access_tokens;
mod accounts;
mod agent_name;
mod application_tokens;
mod application_users;
pub mod body;
pub mod caller;
mod decisions;
mod document;
mod domains;
pub mod error;
mod events;
mod groups;
mod housekeeping;
mod identity_providers;
mod invitations;
mod login;
mod login_options;
mod me;
mod member;
mod organization_tokens;
mod organizations;
mod parameters;
mod permissions;
mod policy;
mod projects;
mod proving;
mod query;
mod reach;
mod server;
mod shown_method;
mod shown_token;
mod sign_in;
mod users;
mod version;
mod visitor;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::State;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use rustls::ServerConfig;
use tokio::sync::Semaphore;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::config::{AdminConfig, Config, OrganizationConfig};
use crate::directory::guarded::GuardedStore;
use crate::directory::model::Timestamp;
use crate::directory::operations;
use crate::directory::store::{Changed, Records};
use crate::directory::{Author, AuthoredStore, Store, StoreError, Synchronizer};
use crate::listen::tls::{self, TlsError};
use crate::login::Login;
use crate::login::sign_in::{Others, SignIn};
use crate::worker::Shared;

use query::KnownParameters;

pub use caller::Caller;
pub use error::ApiError;
pub use server::serve;

/// What every handler may use.
#[derive(Debug)]
pub struct Admin {
    /// The directory in memory and the clock, as workers see them.
    pub shared: Arc<Shared>,
    /// Waits until a change is in force.
    pub synchronizer: Arc<Synchronizer>,
    /// What is remembered of people who sign in through others.
    sign_in: SignIn,
    /// How people prove who they are.
    pub login: Login,
    settings: ArcSwap<Settings>,
}

/// What the configuration says, replaced whole at a reload.
#[derive(Debug)]
pub struct Settings {
    /// The configuration's file, for messages.
    pub file: PathBuf,
    /// `[organization]`.
    pub organization: OrganizationConfig,
    /// `[admin]`.
    pub admin: AdminConfig,
    /// TLS, if the listener speaks it.
    tls: Option<Arc<ServerConfig>>,
    /// Third parties, identity providers and domains, and how they are reached.
    others: Others,
}

impl Settings {
    /// The part of a configuration that concerns the management API; `None` if there is none.
    ///
    /// # Errors
    ///
    /// If its certificates cannot be used.
    pub fn of(config: &Config) -> Result<Option<Self>, TlsError> {
        let Some(admin) = config.admin.clone() else { return Ok(None) };
        let tls = admin.tls.as_ref().map(tls::server).transpose()?;
        Ok(Some(Self {
            file: config.file.clone(),
            organization: config.organization.clone(),
            others: Others::new(&admin),
            admin,
            tls: tls.map(|tls| tls.config),
        }))
    }
}

impl Admin {
    /// The management API of a running sidecar.
    pub fn new(
        shared: Arc<Shared>,
        synchronizer: Arc<Synchronizer>,
        login: Login,
        settings: Settings,
    ) -> Arc<Self> {
        let sign_in = SignIn::default();
        Arc::new(Self { shared, synchronizer, login, sign_in, settings: ArcSwap::from_pointee(settings) })
    }

    /// Puts changed settings in force.
    pub fn replace_settings(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// The time on the clock that decisions use, which never steps back.
    pub fn now(&self) -> Timestamp {
        Timestamp(self.shared.clock.seconds(SystemTime::now()))
    }

    /// Runs one of the directory's operations beside the runtime, as `author`'s; done only when its result is in force in
    /// memory, so that whoever hears of a revocation can rely on it.
    ///
    /// The token that the request came with is looked at once more in the change's own transaction: bodies may be slow,
    /// and what a revoked token had begun must not make another one that lives on.
    ///
    /// # Errors
    ///
    /// The operation's own, or the store's; or if the author's token has ended meanwhile.
    pub async fn change<T, E>(
        &self,
        author: Author,
        work: impl FnOnce(&dyn Store, Timestamp) -> Result<Changed<T>, E> + Send + 'static,
    ) -> Result<T, ApiError>
    where
        T: Send + 'static,
        ApiError: From<E>,
    {
        let (synchronizer, now) = (Arc::clone(&self.synchronizer), self.now());
        beside(move || {
            let token_prefix = author.token_prefix.clone();
            let store = AuthoredStore::new(Arc::clone(synchronizer.store()), author);
            let lives_on = |records: &dyn Records| match &token_prefix {
                Some(prefix) => operations::check_lives_on(records, prefix),
                None => Ok(()),
            };
            let changed = work(&GuardedStore::new(&store, &lives_on), now)?;
            synchronizer.apply_through(changed.sequence)?;
            Ok(changed.value)
        })
        .await
    }

    /// Reads one state of the directory from the store, beside the runtime.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl Fn(&dyn Records) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let synchronizer = Arc::clone(&self.synchronizer);
        beside(move || Ok(synchronizer.store().read(work)?)).await
    }
}

/// What may run beside the runtime at a time. What waits for its turn waits in its request, and is gone when that is: a
/// client that asks and goes away, over and over, would else fill a queue without an end.
static BESIDE: Semaphore = Semaphore::const_new(64);

/// Runs what blocks on a thread that may.
async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let turn = BESIDE.acquire().await.expect("the semaphore is never closed");
    let working = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        work()
    });
    working.await.unwrap_or_else(|ended| {
        tracing::error!(error = %ended, "an operation of the management API ended early");
        Err(ApiError::internal())
    })
}

#[derive(OpenApi)]
#[openapi(info(
    title = "Postern's management API",
    description = "Users, tokens, grants and authentication policy of an organization, in Aiven's wire format.\n\n\
        Ids and token prefixes in paths are percent-encoded. Unknown query parameters are ignored where the operation is \
        Aiven's and refused where it is Postern's own; unknown fields of a body are refused. What is answered with an `ETag` can be changed on the condition that it is still the same: `If-Match`, and \
        409 if it is not. What is refused says why in `message`, and in one word for programs in `errors[0].error_code`."
))]
struct Document;

/// Every resource of the API, and the document that describes them, from one list.
fn router(admin: Arc<Admin>) -> Router {
    let resources = OpenApiRouter::with_openapi(Document::openapi())
        .merge(domains::router())
        .merge(identity_providers::router())
        .merge(sign_in::router())
        .merge(organizations::router())
        .merge(login::router())
        .merge(login_options::router())
        .merge(me::router())
        .merge(access_tokens::router())
        .merge(users::router())
        .merge(invitations::router())
        .merge(accounts::router())
        .merge(projects::router())
        .merge(application_users::router())
        .merge(application_tokens::router())
        .merge(organization_tokens::router())
        .merge(permissions::router())
        .merge(groups::router())
        .merge(policy::router())
        .merge(events::router())
        .merge(decisions::router())
        .merge(housekeeping::router());
    let (router, mut document) = resources.split_for_parts();
    let known = Arc::new(KnownParameters::new(&mut document));
    // Written once: whoever asks for it has shown nothing yet.
    let document = serde_json::to_vec(&document::complete(document)).map(Bytes::from);
    let document = document.expect("a document of texts and lists is JSON");
    let document = move || async move { ([(CONTENT_TYPE, "application/json")], document.clone()) };
    router
        .route_layer(middleware::from_fn_with_state(known, query::refuse_unknown))
        .route("/v1/openapi.json", axum::routing::get(document))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(admin)
}

async fn not_found(State(_): State<Arc<Admin>>) -> Response {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "not_found",
        "There is nothing here; /v1/openapi.json says what there is.",
    )
    .into_response()
}

async fn method_not_allowed(State(_): State<Arc<Admin>>) -> Response {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "This method is not served here; the header `Allow` says which are.",
    )
    .into_response()
}
