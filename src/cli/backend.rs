//! Where commands find the directory: in the store beside them, or behind the management API of a running sidecar. What a
//! command asks for and prints is the same; only [`open`] knows which it is.

mod api;
mod local;
mod remote;
mod wire;

use std::fmt::Debug;
use std::path::PathBuf;

use clap::Args;
use secrecy::SecretString;

use super::arguments::ConfigArguments;
use super::directory::Directory;
use super::failure::Failure;
use super::nearest::suggestion;
use super::output::Output;
use crate::directory::model::{Grant, Group, Member, Principal, Resource, Timestamp, Token, TokenWithUsage};
use crate::directory::operations::{
    ApplicationUserUpdate, AssignmentOperation, NewApplicationUser, NewToken, PolicyUpdate,
};
use crate::policy::AuthenticationPolicy;
use crate::policy::facts::UserState;

use api::Api;
pub(super) use api::{Refusal, Unanswered};
use local::Local;
pub(super) use local::policy_of_store;
pub(super) use remote::Remote;

/// Which directory: that of a configuration's store, or that of a running sidecar.
#[derive(Clone, Debug, Args)]
pub(super) struct PlaceArguments {
    #[command(flatten)]
    pub(super) config: ConfigArguments,
    #[command(flatten)]
    pub(super) remote: RemoteArguments,
}

/// The management API to ask instead of the store.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Remote")]
pub(super) struct RemoteArguments {
    /// Ask the management API there instead of the store, such as https://postern.example.com:8181; the token comes from
    /// POSTERN_TOKEN or --token-file.
    #[arg(long, value_name = "URL", env = "POSTERN_URL", global = true, hide_env_values = true)]
    url: Option<String>,
    /// File with the token to ask with; POSTERN_TOKEN if not given.
    #[arg(long, value_name = "FILE", env = "POSTERN_TOKEN_FILE", global = true, hide_env_values = true)]
    token_file: Option<PathBuf>,
    /// Believe only the certificates in this PEM file; those of the system if not given.
    #[arg(long, value_name = "FILE", env = "POSTERN_CA_FILE", global = true, hide_env_values = true)]
    ca_file: Option<PathBuf>,
    /// Which organization, for a token whose user is in several.
    #[arg(long, value_name = "ID", env = "POSTERN_ORGANIZATION_ID", global = true, hide_env_values = true)]
    organization_id: Option<String>,
}

impl RemoteArguments {
    /// What is for elsewhere must not be taken for something to do here.
    fn check_unused(&self) -> Result<(), Failure> {
        let given = [
            ("--token-file", "POSTERN_TOKEN_FILE", self.token_file.is_some()),
            ("--ca-file", "POSTERN_CA_FILE", self.ca_file.is_some()),
            ("--organization-id", "POSTERN_ORGANIZATION_ID", self.organization_id.is_some()),
        ];
        let Some((option, variable, _)) = given.into_iter().find(|(.., is_given)| *is_given) else {
            return Ok(());
        };
        Err(Failure::Usage(format!(
            "{option} (or {variable}) is for a management API, and none is named: add --url, or leave it out to work on \
             the store beside the configuration"
        )))
    }
}

/// Whether a policy is put in force that would not let in who puts it in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lockout {
    /// It is not.
    Refused,
    /// It is meant so.
    Meant,
}

/// The directory of one organization, as commands need it.
pub(super) trait Backend: Debug {
    /// The organization all commands are about.
    fn organization_id(&self) -> &str;

    /// The application users.
    fn application_users(&self) -> Result<Vec<Member>, Failure>;
    /// The people.
    fn people(&self) -> Result<Vec<Member>, Failure>;
    /// The users of both kinds.
    fn users(&self) -> Result<Vec<Member>, Failure>;
    /// The groups.
    fn groups(&self) -> Result<Vec<Group>, Failure>;
    /// The names of the projects.
    fn projects(&self) -> Result<Vec<String>, Failure>;
    /// Whether there is a unit with this id.
    fn has_unit(&self, id: &str) -> Result<bool, Failure>;

    /// Makes an application user.
    fn create_application_user(&self, new: &NewApplicationUser) -> Result<Member, Failure>;
    /// Changes an application user.
    fn update_application_user(&self, id: &str, update: &ApplicationUserUpdate) -> Result<Member, Failure>;
    /// Deletes an application user.
    fn delete_application_user(&self, id: &str) -> Result<(), Failure>;

    /// How a person logs in, and when they were active.
    fn person_facts(&self, member: &Member) -> Result<PersonFacts, Failure>;
    /// Switches a person off or on again.
    fn set_user_state(&self, id: &str, state: UserState) -> Result<(), Failure>;
    /// Makes a person a super admin, or an ordinary member again.
    fn set_super_admin(&self, id: &str, is_super_admin: bool) -> Result<(), Failure>;
    /// Deletes a person, or takes them out of the organization where that is all that the caller may do.
    fn delete_person(&self, member: &Member) -> Result<PersonEnded, Failure>;

    /// Invites an address.
    fn invite(&self, email: &str) -> Result<InvitedPerson, Failure>;
    /// Switches a person's two-factor authentication off.
    fn reset_two_factor(&self, id: &str) -> Result<(), Failure>;

    /// Where it is, for what the two do in ways of their own.
    fn place(&self) -> Place<'_>;

    /// The tokens of a user, ended ones included, newest first.
    fn tokens(&self, user_id: &str) -> Result<Vec<TokenWithUsage>, Failure>;
    /// A token and the name of its user.
    fn token(&self, prefix: &str) -> Result<NamedToken, Failure>;
    /// Makes a token.
    fn create_token(&self, new: &NewToken) -> Result<MadeToken, Failure>;
    /// Puts a new token in the place of an old one, which goes on for so many seconds.
    fn rotate_token(&self, old: &Token, overlap_seconds: u32) -> Result<MadeToken, Failure>;
    /// Revokes a token; to repeat it does no harm.
    fn revoke_token(&self, prefix: &str) -> Result<(), Failure>;

    /// The authentication policy in force.
    fn policy(&self) -> Result<PolicyInForce, Failure>;
    /// Changes what the update names of the policy, and returns the whole.
    fn set_policy(&self, update: &PolicyUpdate, lockout: Lockout) -> Result<AuthenticationPolicy, Failure>;

    /// All grants on a resource.
    fn grants(&self, resource: &Resource) -> Result<Vec<Grant>, Failure>;
    /// Changes what a principal has on a resource; returns what it has then.
    fn change_grant(
        &self,
        principal: &Principal,
        resource: &Resource,
        operation: AssignmentOperation,
        names: &[String],
    ) -> Result<Grant, Failure>;
}

/// How a person logs in, and when they were active.
#[derive(Debug)]
pub(super) struct PersonFacts {
    pub(super) has_password: bool,
    pub(super) two_factor_enabled: bool,
    pub(super) last_activity_time: Option<Timestamp>,
}

/// What became of a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PersonEnded {
    /// Deleted, with all their tokens.
    Deleted,
    /// Only out of the organization: it does not manage the account.
    Removed,
}

/// Somebody who has been invited.
#[derive(Debug)]
pub(super) struct InvitedPerson {
    pub(super) user_email: String,
    pub(super) expiry_time: Timestamp,
    /// With which somebody who has no account makes one; to be shown once.
    pub(super) code: Option<SecretString>,
}

/// Where a directory is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'a> {
    /// In the store beside the command.
    Store(&'a Directory),
    /// Behind a management API.
    Api(&'a Remote),
}

/// A token with the name of its user.
#[derive(Debug)]
pub(super) struct NamedToken {
    pub(super) token: TokenWithUsage,
    pub(super) user_name: String,
}

/// A token just made.
#[derive(Debug)]
pub(super) struct MadeToken {
    /// The whole token, to be shown once.
    pub(super) full: SecretString,
    pub(super) token: TokenWithUsage,
}

/// The policy in force, and what pins it.
#[derive(Debug)]
pub(super) struct PolicyInForce {
    pub(super) policy: AuthenticationPolicy,
    /// The configuration file that pins it.
    pub(super) pinned_by: Option<PathBuf>,
}

/// The directory that the arguments say.
pub(super) fn open(arguments: &PlaceArguments, output: Output) -> Result<Box<dyn Backend>, Failure> {
    match remote(&arguments.remote, output)? {
        Some(remote) => Ok(Box::new(remote)),
        None => Ok(Box::new(Local::new(Directory::open(&arguments.config)?))),
    }
}

/// The management API that the arguments name; `None` if they name none.
pub(super) fn remote(arguments: &RemoteArguments, output: Output) -> Result<Option<Remote>, Failure> {
    Api::open(arguments, output)?.map(Remote::new).transpose()
}

impl dyn Backend + '_ {
    /// The application user with this id or, if only one has it, this name.
    pub(super) fn application_user(&self, wanted: &str) -> Result<Member, Failure> {
        choose(
            self.application_users()?,
            Wanted { kind: "application user", text: wanted, list: "postern application-user list" },
            |member| [&member.user.id, &member.user.name, &member.user.email],
        )
    }

    /// The user of either kind with this id or, if only one has it, this name or email address.
    pub(super) fn user(&self, wanted: &str) -> Result<Member, Failure> {
        choose(
            self.users()?,
            Wanted { kind: "user", text: wanted, list: "postern application-user list" },
            |member| [&member.user.id, &member.user.name, &member.user.email],
        )
    }

    /// The person with this id or, if only one has it, this address or name.
    pub(super) fn person(&self, wanted: &str) -> Result<Member, Failure> {
        choose(self.people()?, Wanted { kind: "user", text: wanted, list: "postern user list" }, |member| {
            [&member.user.id, &member.user.email, &member.user.name]
        })
    }

    /// The group with this id or name.
    pub(super) fn group(&self, wanted: &str) -> Result<Group, Failure> {
        let wanted = Wanted { kind: "group", text: wanted, list: "postern permission list --organization" };
        choose(self.groups()?, wanted, |group| [&group.id, &group.name, &group.name])
    }
}

/// What somebody asked for by id or name.
pub(super) struct Wanted<'a> {
    pub(super) kind: &'static str,
    pub(super) text: &'a str,
    /// A command that shows what there is.
    pub(super) list: &'static str,
}

/// The one with this id, else the only one with this name. `keys`: the id, then the names.
pub(super) fn choose<T>(
    all: Vec<T>,
    wanted: Wanted<'_>,
    keys: impl Fn(&T) -> [&String; 3],
) -> Result<T, Failure> {
    let Wanted { kind, text, list } = wanted;
    let mut by_id = None;
    let mut by_name = Vec::new();
    let mut names = Vec::new();
    for one in all {
        let [id, name, other] = keys(&one);
        if id == text {
            by_id = Some(one);
            break;
        }
        names.push(name.clone());
        if name == text || other == text {
            by_name.push(one);
        }
    }
    match (by_id, by_name.len()) {
        (Some(one), _) => Ok(one),
        (None, 1) => Ok(by_name.remove(0)),
        (None, 0) => Err(Failure::Failed(format!(
            "{kind} {text:?} does not exist{}; `{list}` shows what there is",
            suggestion(text, names.iter().map(String::as_str))
        ))),
        (None, count) => {
            let ids: Vec<&str> = by_name.iter().map(|one| keys(one)[0].as_str()).collect();
            let ids = ids.join(", ");
            Err(Failure::Failed(format!("{count} {kind}s are called {text:?}; say which by id: {ids}")))
        }
    }
}

/// What a principal has among some grants on a resource; nothing left is a grant of nothing.
fn grant_of(grants: Vec<Grant>, principal: &Principal, resource: &Resource, now: Timestamp) -> Grant {
    grants.into_iter().find(|grant| grant.principal == *principal).unwrap_or_else(|| Grant {
        principal: principal.clone(),
        resource: resource.clone(),
        permissions: Vec::new(),
        create_time: now,
        update_time: now,
    })
}
