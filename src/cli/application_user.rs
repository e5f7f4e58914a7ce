//! `postern application-user`: the organization's non-human users.

use clap::{Args, Subcommand};
use serde::Serialize;

use super::Exit;
use super::backend::{self, Backend, PlaceArguments};
use super::confirm::Question;
use super::failure::Failure;
use super::output::{Output, fields, printable, table};
use crate::directory::OperationError;
use crate::directory::model::{Member, Timestamp, Word as _};
use crate::directory::operations::{ApplicationUserUpdate, NewApplicationUser};

pub(super) const EXAMPLES: &str = "\
Examples:
  postern application-user create ingest --description 'writes the metrics'
  postern application-user list
  postern application-user show ingest --json
  postern application-user update ingest --name ingest-eu
  postern application-user delete ingest-eu

Users are named by id, or by name where only one has it.";

const CREATE_EXAMPLES: &str = "\
Examples:
  postern application-user create ingest --description 'writes the metrics'
  postern application-user create operator --super-admin

A new application user may do nothing yet: see `postern permission grant` and `postern token create`.";

const LIST_EXAMPLES: &str = "\
Examples:
  postern application-user list
  postern application-user list --json | jq -r '.application_users[].user_id'";

const SHOW_EXAMPLES: &str = "\
Examples:
  postern application-user show ingest
  postern application-user show u1a2b3c4d5e6f --json";

const UPDATE_EXAMPLES: &str = "\
Examples:
  postern application-user update ingest --name ingest-eu
  postern application-user update ingest --description '' --super-admin false";

const DELETE_EXAMPLES: &str = "\
Examples:
  postern application-user delete ingest
  postern application-user delete u1a2b3c4d5e6f --yes

All tokens of the user end at once, and its grants go. It cannot be undone.";

#[derive(Debug, Args)]
pub(super) struct ApplicationUserArguments {
    #[command(flatten)]
    place: PlaceArguments,
    #[command(subcommand)]
    command: ApplicationUserCommand,
}

#[derive(Debug, Subcommand)]
enum ApplicationUserCommand {
    /// Make an application user.
    #[command(after_help = CREATE_EXAMPLES)]
    Create {
        /// Name as people know it.
        name: String,
        /// What it is for.
        #[arg(long, default_value = "", hide_default_value = true)]
        description: String,
        /// Let it hold every permission in the organization.
        #[arg(long)]
        super_admin: bool,
    },
    /// List the application users.
    #[command(after_help = LIST_EXAMPLES)]
    List,
    /// Show an application user.
    #[command(after_help = SHOW_EXAMPLES)]
    Show {
        /// Its id or name.
        user: String,
    },
    /// Change an application user; what is not given stays.
    #[command(after_help = UPDATE_EXAMPLES)]
    Update {
        /// Its id or name.
        user: String,
        #[command(flatten)]
        changes: Changes,
    },
    /// Delete an application user: its tokens end for good.
    #[command(after_help = DELETE_EXAMPLES)]
    Delete {
        /// Its id or name.
        user: String,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Changes {
    /// New name.
    #[arg(long)]
    name: Option<String>,
    /// New description.
    #[arg(long)]
    description: Option<String>,
    /// Whether it holds every permission in the organization.
    #[arg(long, value_name = "true|false")]
    super_admin: Option<bool>,
}

/// An application user as it is printed; field names as in Aiven's API.
#[derive(Debug, Serialize)]
struct Shown {
    user_id: String,
    name: String,
    user_email: String,
    description: String,
    is_super_admin: bool,
    state: &'static str,
    create_time: Timestamp,
}

#[derive(Debug, Serialize)]
struct ShownList {
    application_users: Vec<Shown>,
}

#[derive(Debug, Serialize)]
struct Deleted {
    user_id: String,
    name: String,
    deleted: bool,
}

pub(super) fn execute(arguments: ApplicationUserArguments, output: Output) -> Result<Exit, Failure> {
    let directory = &*backend::open(&arguments.place, output)?;
    match arguments.command {
        ApplicationUserCommand::Create { name, description, super_admin } => {
            create(directory, name, description, super_admin, output)
        }
        ApplicationUserCommand::List => list(directory, output),
        ApplicationUserCommand::Show { user } => {
            output.result(&Shown::from(directory.application_user(&user)?), Shown::text)
        }
        ApplicationUserCommand::Update { user, changes } => update(directory, &user, changes, output),
        ApplicationUserCommand::Delete { user, yes: true } => {
            delete(directory, &directory.application_user(&user)?, output)
        }
        ApplicationUserCommand::Delete { user, yes: false } => {
            let member = directory.application_user(&user)?;
            confirm(directory, &member, output)?;
            delete(directory, &member, output)
        }
    }?;
    Ok(Exit::Done)
}

fn create(
    directory: &dyn Backend,
    name: String,
    description: String,
    is_super_admin: bool,
    output: Output,
) -> Result<(), Failure> {
    if let Some(twin) = directory.application_users()?.into_iter().find(|member| member.user.name == name) {
        // Neither could be meant by its name any more.
        let id = twin.user.id;
        return Err(OperationError::AlreadyExists {
            entity: "application user",
            id: format!("{name} ({id})"),
        }
        .into());
    }
    let organization_id = directory.organization_id().to_owned();
    let new = NewApplicationUser { organization_id, name, description, is_super_admin };
    output.result(&Shown::from(directory.create_application_user(&new)?), Shown::text)
}

fn list(directory: &dyn Backend, output: Output) -> Result<(), Failure> {
    let users = directory.application_users()?.into_iter().map(Shown::from);
    output.result(&ShownList { application_users: users.collect() }, |list| {
        if list.application_users.is_empty() {
            return "no application users; make one with `postern application-user create NAME`".to_owned();
        }
        table(
            ["USER ID", "NAME", "STATE", "SUPER ADMIN", "CREATED", "DESCRIPTION"],
            list.application_users.iter().map(|user| {
                [
                    user.user_id.clone(),
                    user.name.clone(),
                    user.state.to_owned(),
                    yes_no(user.is_super_admin),
                    user.create_time.to_string(),
                    user.description.clone(),
                ]
            }),
        )
    })
}

fn update(directory: &dyn Backend, user: &str, changes: Changes, output: Output) -> Result<(), Failure> {
    let member = directory.application_user(user)?;
    let update = ApplicationUserUpdate {
        name: changes.name,
        description: changes.description,
        is_super_admin: changes.super_admin,
    };
    let updated = directory.update_application_user(&member.user.id, &update)?;
    output.result(&Shown::from(updated), Shown::text)
}

fn delete(directory: &dyn Backend, member: &Member, output: Output) -> Result<(), Failure> {
    directory.delete_application_user(&member.user.id)?;
    let deleted = Deleted { user_id: member.user.id.clone(), name: member.user.name.clone(), deleted: true };
    output.result(&deleted, |deleted| {
        format!(
            "deleted application user {} ({}); its tokens have ended",
            printable(&deleted.name),
            deleted.user_id
        )
    })
}

/// Asks the person at the terminal; without one, nobody can have meant it but by `--yes`.
fn confirm(directory: &dyn Backend, member: &Member, output: Output) -> Result<(), Failure> {
    let id = &member.user.id;
    let tokens = directory.tokens(id)?;
    let live = tokens.iter().filter(|token| token.token.revoked_time.is_none()).count();
    let name = printable(&member.user.name);
    let question = Question {
        text: &format!("Delete application user {name} ({id})? Its {live} tokens end for good."),
        otherwise: "nothing was deleted",
        deed: &format!("delete user {id} with its tokens"),
    };
    question.ask(output)
}

impl From<Member> for Shown {
    fn from(member: Member) -> Self {
        Self {
            user_id: member.user.id,
            name: member.user.name,
            user_email: member.user.email,
            description: member.user.description,
            is_super_admin: member.is_super_admin,
            state: member.user.state.word(),
            create_time: member.user.create_time,
        }
    }
}

impl Shown {
    fn text(&self) -> String {
        fields([
            ("user id", self.user_id.clone()),
            ("name", self.name.clone()),
            ("email", self.user_email.clone()),
            ("description", self.description.clone()),
            ("super admin", yes_no(self.is_super_admin)),
            ("state", self.state.to_owned()),
            ("created", self.create_time.to_string()),
        ])
    }
}

fn yes_no(answer: bool) -> String {
    if answer { "yes" } else { "no" }.to_owned()
}
