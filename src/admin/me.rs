//! `/v1/me`: the caller itself: who it is, its password, its two-factor authentication, its ways to log in, its sessions.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::body::{JsonBody, PathParameters};
use super::error::ErrorBody;
use super::proving::{self, Claim, Second};
use super::shown_method::{ShownMethod, ShownMethodList};
use super::{Admin, ApiError, Caller};
use crate::directory::StoreError;
use crate::directory::model::{MethodKind, Organization, Timestamp, User, Word as _};
use crate::directory::operations;
use crate::directory::store::Records;
use crate::login::seal::Purpose;
use crate::login::totp::Authenticator;
use crate::policy::Permission;
use crate::policy::facts::UserKind;

/// An object without fields.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct Empty {}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Message {
    message: &'static str,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Me)]
pub(super) struct Shown {
    user: ShownUser,
}

/// The caller.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MyUser)]
pub(super) struct ShownUser {
    /// Address of a person; a synthetic one of an application user.
    user: String,
    user_id: String,
    real_name: String,
    state: &'static str,
    /// Ways to log in, and `totp` where two-factor authentication is on.
    auth: Vec<&'static str>,
    /// Names of the projects that the caller can see.
    projects: Vec<String>,
    /// Role by name of the project; always empty: see the permissions of each project.
    #[schema(value_type = Object)]
    project_membership: serde_json::Map<String, serde_json::Value>,
    /// As `project_membership`.
    #[schema(value_type = Object)]
    project_memberships: serde_json::Map<String, serde_json::Value>,
    invitations: Vec<ShownInvitation>,
    /// Postern has no tenants: always `postern`.
    tenant: &'static str,
    /// Tokens made before are void.
    #[schema(value_type = String, format = DateTime)]
    token_validity_begin: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    create_time: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    managing_organization_id: Option<String>,
    managed_by_scim: bool,
}

/// An invitation that the caller may accept.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MyInvitation)]
pub(super) struct ShownInvitation {
    organization_id: String,
    organization_name: String,
    #[schema(value_type = String, format = DateTime)]
    create_time: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    expiry_time: Timestamp,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PasswordChange {
    #[schema(value_type = String, format = Password)]
    password: SecretString,
    #[schema(value_type = String, format = Password)]
    new_password: SecretString,
}

#[derive(Serialize, ToSchema)]
pub(super) struct NewSession {
    /// The session token that takes the place of all others.
    token: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TwoFactorChange {
    /// `totp` to switch two-factor authentication on, empty to switch it off.
    #[schema(example = "totp")]
    method: String,
    #[schema(value_type = String, format = Password)]
    password: SecretString,
}

/// What an authenticator app takes in. Nothing is on yet: `PUT /v1/me/2fa/otp` shows that the app has it.
#[derive(Serialize, ToSchema)]
pub(super) struct TwoFactorBegun {
    method: &'static str,
    /// `otpauth:` URI; empty when it was switched off.
    uri: String,
    /// The same as a picture, a PNG in base64.
    qrcode: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TwoFactorProof {
    /// What the app shows.
    otp: String,
    #[schema(value_type = String, format = Password)]
    password: SecretString,
    /// What `PUT /v1/me/2fa` answered.
    #[schema(value_type = String)]
    uri: SecretString,
}

#[derive(Serialize, ToSchema)]
pub(super) struct TwoFactorEnabled {
    method: &'static str,
    /// A session token; sessions that began with the password alone have ended.
    token: String,
}

pub(super) fn router() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new()
        .routes(routes!(show))
        .routes(routes!(log_out))
        .routes(routes!(expire_tokens))
        .routes(routes!(change_password))
        .routes(routes!(begin_two_factor))
        .routes(routes!(finish_two_factor))
        .routes(routes!(methods))
        .routes(routes!(delete_method))
}

/// Shows who the caller is.
#[utoipa::path(get, path = "/v1/me", tag = "me", security(("token" = [])), responses((status = OK, body = Shown)))]
async fn show(State(admin): State<Arc<Admin>>, caller: Caller) -> Result<Json<Shown>, ApiError> {
    caller.require_own(&admin, Permission::UserRead)?;
    let (user_id, now) = (caller.user_id().to_owned(), caller.now());
    let found = admin.read(move |records| Mine::read(records, &user_id, now)).await?;
    let Mine { user, methods, organizations, invitations } =
        found.ok_or_else(|| ApiError::not_found("user", caller.user_id()))?;
    let mut projects = Vec::new();
    for (organization, names) in organizations {
        // Whom an organization's policy keeps out does not see its projects here either.
        if caller.require_member(&admin, &organization).is_ok() {
            projects.extend(names);
        }
    }
    let mut auth: Vec<&'static str> = Vec::new();
    for method in methods {
        let word = super::shown_method::kind_word(method);
        if !auth.contains(&word) {
            auth.push(word);
        }
    }
    if user.two_factor_enabled {
        auth.push("totp");
    }
    Ok(Json(Shown {
        user: ShownUser {
            user: user.email,
            user_id: user.id,
            real_name: user.name,
            state: user.state.word(),
            auth,
            projects,
            project_membership: serde_json::Map::new(),
            project_memberships: serde_json::Map::new(),
            invitations,
            tenant: "postern",
            token_validity_begin: user.token_validity_begin,
            create_time: user.create_time,
            managing_organization_id: user.managing_organization_id,
            managed_by_scim: false,
        },
    }))
}

/// What the store has of the caller.
struct Mine {
    user: User,
    methods: Vec<MethodKind>,
    /// Each with the names of its projects.
    organizations: Vec<(String, Vec<String>)>,
    invitations: Vec<ShownInvitation>,
}

impl Mine {
    fn read(records: &dyn Records, user_id: &str, now: Timestamp) -> Result<Option<Self>, StoreError> {
        let Some(user) = records.user(user_id)? else { return Ok(None) };
        let methods = records.authentication_methods(user_id)?.into_iter().map(|method| method.kind);
        let mut organizations = Vec::new();
        for membership in records.memberships(user_id)? {
            let projects = records.projects(&membership.organization_id)?.into_iter();
            let names = projects.map(|project| project.name).collect();
            organizations.push((membership.organization_id, names));
        }
        let mut invitations = Vec::new();
        if user.kind == UserKind::OrganizationUser {
            for invitation in records.invitations_of(&user.email)? {
                let organization = records.organization(&invitation.organization_id)?;
                if let Some(Organization { id, name, .. }) = organization
                    && invitation.expiry_time > now
                {
                    invitations.push(ShownInvitation {
                        organization_id: id,
                        organization_name: name,
                        create_time: invitation.create_time,
                        expiry_time: invitation.expiry_time,
                    });
                }
            }
        }
        Ok(Some(Self { methods: methods.collect(), organizations, invitations, user }))
    }
}

/// Ends the token that the request comes with.
#[utoipa::path(post, path = "/v1/me/logout", tag = "me", security(("token" = [])), responses((status = OK, body = Message)))]
async fn log_out(State(admin): State<Arc<Admin>>, caller: Caller) -> Result<Json<Message>, ApiError> {
    let prefix = caller.token_prefix().to_owned();
    admin.change(caller.author(), move |store, now| operations::revoke_token(store, &prefix, now)).await?;
    Ok(Json(Message { message: "Logged out" }))
}

/// Ends all tokens of the caller, the one that the request comes with included.
#[utoipa::path(post, path = "/v1/me/expire_tokens", tag = "me", security(("token" = [])), responses((status = OK, body = Message)))]
async fn expire_tokens(State(admin): State<Arc<Admin>>, caller: Caller) -> Result<Json<Message>, ApiError> {
    caller.require_own(&admin, Permission::UserWrite)?;
    let user_id = caller.user_id().to_owned();
    admin.change(caller.author(), move |store, now| operations::expire_tokens(store, &user_id, now)).await?;
    Ok(Json(Message { message: "Tokens expired" }))
}

/// Changes the caller's password. All sessions end but the one that is answered.
#[utoipa::path(put, path = "/v1/me/password", tag = "me", security(("token" = [])), request_body = PasswordChange,
    responses(
        (status = OK, body = NewSession),
        (status = TOO_MANY_REQUESTS, body = ErrorBody),
    ))]
async fn change_password(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    JsonBody(change): JsonBody<PasswordChange>,
) -> Result<Json<NewSession>, ApiError> {
    let user = myself(&admin, &caller).await?;
    let proved = prove(&admin, &caller, &user, change.password).await?;
    let hash = proving::hash(&admin, "new_password", change.new_password, &user.email, &user.name).await?;
    let terms = admin.login.session.beginning(admin.now());
    let session = admin
        .change(caller.author(), move |store, now| {
            operations::change_password(store, &proved, &hash, terms, now)
        })
        .await?;
    Ok(Json(NewSession { token: session.fresh.full.expose_secret().to_owned() }))
}

/// Begins to switch two-factor authentication on, or switches it off.
#[utoipa::path(put, path = "/v1/me/2fa", tag = "me", security(("token" = [])), request_body = TwoFactorChange,
    responses(
        (status = OK, body = TwoFactorBegun),
        (status = TOO_MANY_REQUESTS, body = ErrorBody),
    ))]
async fn begin_two_factor(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    JsonBody(change): JsonBody<TwoFactorChange>,
) -> Result<Json<TwoFactorBegun>, ApiError> {
    let user = myself(&admin, &caller).await?;
    match change.method.as_str() {
        "totp" if user.two_factor_enabled => {
            Err(ApiError::conflict("Two-factor authentication is on already; switch it off first."))
        }
        "totp" => {
            prove(&admin, &caller, &user, change.password).await?;
            let app = Authenticator::generate(&issuer(&admin), &user.email);
            Ok(Json(TwoFactorBegun { method: "totp", uri: app.uri(), qrcode: app.qr_code() }))
        }
        "" => {
            prove(&admin, &caller, &user, change.password).await?;
            admin
                .change(caller.author(), move |store, now| {
                    operations::set_two_factor(store, &user.id, false, now)
                })
                .await?;
            Ok(Json(TwoFactorBegun { method: "", uri: String::new(), qrcode: String::new() }))
        }
        _ => Err(ApiError::bad_request("method", "must be `totp`, or empty to switch it off")),
    }
}

/// Switches two-factor authentication on, once the app has shown that it has the secret.
#[utoipa::path(put, path = "/v1/me/2fa/otp", tag = "me", security(("token" = [])), request_body = TwoFactorProof,
    responses(
        (status = OK, body = TwoFactorEnabled),
        (status = TOO_MANY_REQUESTS, body = ErrorBody),
    ))]
async fn finish_two_factor(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    JsonBody(proof): JsonBody<TwoFactorProof>,
) -> Result<Json<TwoFactorEnabled>, ApiError> {
    let user = myself(&admin, &caller).await?;
    let proved = prove(&admin, &caller, &user, proof.password).await?;
    let app = Authenticator::from_uri(proof.uri.expose_secret(), &issuer(&admin), &user.email)
        .map_err(|foreign| ApiError::bad_request("uri", foreign))?;
    let step = app.check(&proof.otp, u64::from(admin.now().0), 0).ok_or_else(|| {
        ApiError::bad_request("otp", "is not what the app shows now; does the clock of its device run right?")
    })?;
    let sealed = admin.login.sealer.seal(Purpose::Totp(&user.id), &app.secret()).map_err(|error| {
        tracing::error!(%error, "a one-time password's secret cannot be sealed");
        ApiError::internal()
    })?;
    let terms = admin.login.session.beginning(admin.now());
    let session = admin
        .change(caller.author(), move |store, now| {
            operations::enable_two_factor(store, &proved, &sealed, step, terms, now)
        })
        .await?;
    let token = session.fresh.full.expose_secret().to_owned();
    Ok(Json(TwoFactorEnabled { method: "totp", token }))
}

/// Lists the caller's ways to log in.
#[utoipa::path(get, path = "/v1/me/authentication_methods", tag = "me", security(("token" = [])), responses((status = OK, body = ShownMethodList)))]
async fn methods(State(admin): State<Arc<Admin>>, caller: Caller) -> Result<Json<ShownMethodList>, ApiError> {
    caller.require_own(&admin, Permission::UserRead)?;
    let user_id = caller.user_id().to_owned();
    let methods = admin.read(move |records| ShownMethod::all_of(records, &user_id)).await?;
    Ok(Json(ShownMethodList { authentication_methods: methods }))
}

/// Deletes one of the caller's ways to log in, and ends the tokens that are bound to it.
#[utoipa::path(delete, path = "/v1/me/authentication_methods/{user_authentication_method_id}", tag = "me",
    security(("token" = [])), params(("user_authentication_method_id" = String, Path)),
    responses((status = OK, body = Empty)))]
async fn delete_method(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters(id): PathParameters<String>,
) -> Result<Json<Empty>, ApiError> {
    caller.require_own(&admin, Permission::UserWrite)?;
    caller.require_session()?;
    let user_id = caller.user_id().to_owned();
    admin
        .change(caller.author(), move |store, now| operations::delete_own_method(store, &user_id, &id, now))
        .await?;
    Ok(Json(Empty {}))
}

/// The caller, who must be a person who has logged in.
async fn myself(admin: &Admin, caller: &Caller) -> Result<User, ApiError> {
    caller.require_own(admin, Permission::UserWrite)?;
    if caller.user_kind() != UserKind::OrganizationUser {
        return Err(ApiError::forbidden(
            "application_user",
            "An application user cannot log in: it has no password and no two-factor authentication.",
        ));
    }
    caller.require_session()?;
    let user_id = caller.user_id().to_owned();
    let user = admin.read(move |records| records.user(&user_id)).await?;
    user.ok_or_else(|| ApiError::not_found("user", caller.user_id()))
}

/// A stolen token is not the password: who changes how to log in has to know it.
async fn prove(
    admin: &Arc<Admin>,
    caller: &Caller,
    user: &User,
    password: SecretString,
) -> Result<operations::Proved, ApiError> {
    let address = caller.address();
    let claim = Claim { email: user.email.clone(), password, second: Second::NotAsked, address };
    proving::prove(admin, claim).await
}

fn issuer(admin: &Admin) -> String {
    format!("Postern {}", admin.settings().organization.name)
}
