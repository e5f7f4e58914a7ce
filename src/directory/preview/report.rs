//! A preview as it is shown, by the management API and by the command line alike: names, last use and request counts for
//! the numbers that memory has. Never more of a token than its prefix.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{AffectedToken, AffectedTokens, AffectedUser, Preview};
use crate::directory::concern::is_concerned;
use crate::directory::error::StoreError;
use crate::directory::store::Records;
use crate::directory::summary::TokenSummary;
use crate::directory::view::DirectoryView;
use crate::policy::AuthenticationPolicy;
use crate::policy::facts::UserKind;

/// What another policy would do.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = PolicyPreview)]
pub struct PreviewReport {
    /// Whose policy.
    pub organization_id: String,
    /// The policy in force.
    pub policy_before: AuthenticationPolicy,
    /// The other one.
    pub policy_after: AuthenticationPolicy,
    /// What was asked, and what the answer means.
    pub question: QuestionReport,
    /// Tokens of the organization's users, revoked and expired ones included.
    pub tokens_considered: usize,
    /// Tokens that work and would no longer.
    pub stopping: AffectedReport,
    /// Tokens that do not work and would.
    pub starting: AffectedReport,
    /// Users of whose tokens some work and none would any more.
    pub users_stopping: usize,
    /// Users of whose tokens none works and some would.
    pub users_starting: usize,
    /// Users with tokens that stop or start, those who lose all of them first; as many as the limit allows.
    pub users: Vec<UserReport>,
    /// Ask again with this to see what follows; absent: nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<u32>,
}

/// What was asked.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = PreviewQuestion)]
pub struct QuestionReport {
    /// The project that requests are for; `None`: any, and scopes and grants are not asked.
    pub project: Option<String>,
    /// The permission that they need.
    pub permission: Option<String>,
    /// Where they come from; `None`: from where each token was used last.
    #[schema(value_type = Option<String>)]
    pub client_address: Option<IpAddr>,
    /// The same in a sentence.
    pub meaning: String,
}

/// Tokens that are affected in one way.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = AffectedTokens)]
pub struct AffectedReport {
    /// How many there are.
    pub count: usize,
    /// How many for which reason: of a token that stops why it would, of one that starts why it does not now.
    #[schema(value_type = BTreeMap<String, usize>)]
    pub by_reason: BTreeMap<Cow<'static, str>, usize>,
    /// The first of them; `next_cursor` leads to more. Those of people who belong to other organizations as well, and whom
    /// this one does not manage, are listed without description, times and use.
    pub tokens: Vec<TokenReport>,
}

/// One token that stops or starts.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = AffectedToken)]
pub struct TokenReport {
    /// The token.
    #[serde(flatten)]
    pub token: TokenSummary,
    /// The address it was judged for; `null`: it was never used, and the checks of addresses were left out, or it is not
    /// the organization's to know.
    #[schema(value_type = Option<String>)]
    pub client_address: Option<IpAddr>,
    /// Why it does not work now; `null`: it does.
    #[schema(value_type = Option<String>)]
    pub reason_before: Option<Cow<'static, str>>,
    /// Why it would not work; `null`: it would.
    #[schema(value_type = Option<String>)]
    pub reason_after: Option<Cow<'static, str>>,
}

/// One user.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = AffectedUser)]
pub struct UserReport {
    /// Who.
    pub user_id: String,
    /// Name.
    pub user_name: String,
    /// Email address.
    pub user_email: String,
    /// Whether it is an application user.
    pub is_application_user: bool,
    /// Tokens that work now.
    pub tokens_working_before: usize,
    /// Tokens that would.
    pub tokens_working_after: usize,
    /// Tokens that work and would no longer.
    pub tokens_stopping: usize,
    /// Tokens that do not and would.
    pub tokens_starting: usize,
}

impl QuestionReport {
    /// About requests for anything (`asked`: none), or for a project with a permission.
    pub fn new(asked: Option<(&str, &str)>, client_address: Option<IpAddr>) -> Self {
        let what = match asked {
            Some((project, permission)) => {
                format!("requests that need {permission} on project {project}: every check is made")
            }
            None => {
                "requests for anything: whether the token's scopes and the user's grants suffice is not asked"
                    .to_owned()
            }
        };
        let from = match client_address {
            Some(address) => format!("from {address}"),
            None => "each token from the address of its last use; tokens that were never used without the checks of \
                     addresses"
                .to_owned(),
        };
        Self {
            project: asked.map(|(project, _)| project.to_owned()),
            permission: asked.map(|(_, permission)| permission.to_owned()),
            client_address,
            meaning: format!("{what}; {from}"),
        }
    }
}

impl PreviewReport {
    /// Finds the names.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn new(
        records: &dyn Records,
        view: &DirectoryView,
        organization_id: &str,
        policies: [&AuthenticationPolicy; 2],
        question: QuestionReport,
        preview: &Preview,
    ) -> Result<Self, StoreError> {
        let affected = |affected: &AffectedTokens| -> Result<_, StoreError> {
            let tokens =
                affected.listed.iter().map(|token| TokenReport::new(records, view, organization_id, token));
            Ok(AffectedReport {
                count: affected.count(),
                by_reason: affected
                    .by_reason
                    .iter()
                    .map(|(reason, count)| (reason.code().into(), *count))
                    .collect(),
                tokens: tokens.filter_map(Result::transpose).collect::<Result<_, _>>()?,
            })
        };
        let users = preview.users.iter().map(|user| UserReport::new(records, view, user));
        let [before, after] = policies;
        Ok(Self {
            organization_id: organization_id.to_owned(),
            policy_before: before.clone(),
            policy_after: after.clone(),
            question,
            tokens_considered: preview.tokens_considered,
            stopping: affected(&preview.stopping)?,
            starting: affected(&preview.starting)?,
            users_stopping: preview.users_stopping,
            users_starting: preview.users_starting,
            users: users.filter_map(Result::transpose).collect::<Result<_, _>>()?,
            next_cursor: preview.next,
        })
    }
}

impl TokenReport {
    /// `None`: it has gone in the meantime.
    fn new(
        records: &dyn Records,
        view: &DirectoryView,
        organization_id: &str,
        affected: &AffectedToken,
    ) -> Result<Option<Self>, StoreError> {
        let Some(token) = TokenSummary::of_number(records, view, affected.number)? else { return Ok(None) };
        let (token, client_address) = if is_concerned(records, &token.user_id, organization_id)? {
            (token, affected.client_address)
        } else {
            (token.for_others(), None)
        };
        Ok(Some(Self {
            token,
            client_address,
            reason_before: affected.reason_before.map(|denial| denial.code().into()),
            reason_after: affected.reason_after.map(|denial| denial.code().into()),
        }))
    }
}

impl UserReport {
    /// `None`: it has gone in the meantime.
    fn new(
        records: &dyn Records,
        view: &DirectoryView,
        affected: &AffectedUser,
    ) -> Result<Option<Self>, StoreError> {
        let current = view.users.current(affected.user);
        let Ok(id) = current.id.to_str() else { return Ok(None) };
        Ok(records.user(id)?.map(|user| Self {
            user_id: user.id,
            user_name: user.name,
            user_email: user.email,
            is_application_user: user.kind == UserKind::ApplicationUser,
            tokens_working_before: affected.working_before,
            tokens_working_after: affected.working_after,
            tokens_stopping: affected.stopping,
            tokens_starting: affected.starting,
        }))
    }
}
