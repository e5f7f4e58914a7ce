//! `postern user`: the people of the organization. This is also how its first admin comes into being.

mod elsewhere;
mod typed_password;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::Exit;
use super::backend::{self, Backend, PersonEnded, Place, PlaceArguments};
use super::confirm::Question;
use super::directory::Directory;
use super::failure::Failure;
use super::output::{Output, fields, or_dash, printable, table};
use crate::directory::OperationError;
use crate::directory::model::{Member, Timestamp, Word as _};
use crate::directory::operations::{self, NewPerson};
use crate::policy::facts::UserState;

use typed_password::new_password;

pub(super) const EXAMPLES: &str = "\
Examples:
  postern user create jane@example.com --name 'Jane Miller' --super-admin
  postern user invite jane@example.com
  postern user list
  postern user show jane@example.com --json
  postern user set-password jane@example.com
  postern user reset-two-factor jane@example.com
  postern user deactivate jane@example.com
  postern user activate jane@example.com
  postern user set-super-admin jane@example.com true
  postern user delete jane@example.com

Users are named by id, or by address or name where only one has it.";

const CREATE_EXAMPLES: &str = "\
Examples:
  postern user create jane@example.com --name 'Jane Miller' --super-admin
  postern user create jane@example.com < password.txt
  postern user create jane@example.com --without-password

The password is asked for at the terminal, or is the first line of standard input. It is never an argument: `ps` would
show it to everybody on this machine.

With --url nobody chooses another one's name and password: the person is invited, as by `postern user invite`.";

const INVITE_EXAMPLES: &str = "\
Examples:
  postern user invite jane@example.com
  postern user invite jane@example.com --json | jq -r .code

Who has an account accepts the invitation: `avn user-invite` or POST …/invitation/EMAIL. Who has none gets a code from you,
and makes the account with it at POST /v1/userauth/setup.";

const LIST_EXAMPLES: &str = "\
Examples:
  postern user list
  postern user list --json | jq -r '.users[].user_email'";

const SHOW_EXAMPLES: &str = "\
Examples:
  postern user show jane@example.com
  postern user show u1a2b3c4d5e6f --json";

const SET_PASSWORD_EXAMPLES: &str = "\
Examples:
  postern user set-password jane@example.com
  postern user set-password jane@example.com < password.txt

All sessions of the person end; personal tokens go on. With --url an admin does not choose the password: the old one goes, \
two-factor
authentication too, and the code that is printed lets the person set a new one. The organization must manage the person.";

const RESET_TWO_FACTOR_EXAMPLES: &str = "\
Examples:
  postern user reset-two-factor jane@example.com

For somebody who has lost their authenticator app. Personal tokens that were made with a password login end. \
With --url
the organization must manage the person.";

const DEACTIVATE_EXAMPLES: &str = "\
Examples:
  postern user deactivate jane@example.com

Every token of the person is refused until they are activated again.";

const ACTIVATE_EXAMPLES: &str = "\
Examples:
  postern user activate jane@example.com";

const SET_SUPER_ADMIN_EXAMPLES: &str = "\
Examples:
  postern user set-super-admin jane@example.com true
  postern user set-super-admin jane@example.com false

The last super admin of an organization stays one.";

const DELETE_EXAMPLES: &str = "\
Examples:
  postern user delete jane@example.com
  postern user delete u1a2b3c4d5e6f --yes

All tokens of the person end at once, and their grants go. It cannot be undone.";

#[derive(Debug, Args)]
pub(super) struct UserArguments {
    #[command(flatten)]
    place: PlaceArguments,
    #[command(subcommand)]
    command: UserCommand,
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// Make a person who is a member of the organization.
    #[command(after_help = CREATE_EXAMPLES)]
    Create {
        /// Their email address.
        email: String,
        /// Their name.
        #[arg(long, value_name = "NAME", help = "Their name [default: the address]")]
        name: Option<String>,
        /// Let them hold every permission in the organization.
        #[arg(long)]
        super_admin: bool,
        /// Let them log in through a third party or an identity provider only.
        #[arg(long)]
        without_password: bool,
    },
    /// Invite a person to the organization.
    #[command(after_help = INVITE_EXAMPLES)]
    Invite {
        /// Their email address.
        email: String,
    },
    /// List the people of the organization.
    #[command(after_help = LIST_EXAMPLES)]
    List,
    /// Show a person.
    #[command(after_help = SHOW_EXAMPLES)]
    Show {
        /// Their id, address or name.
        user: String,
    },
    /// Give a person another password.
    #[command(after_help = SET_PASSWORD_EXAMPLES)]
    SetPassword {
        /// Their id, address or name.
        user: String,
        /// With --url: do not ask.
        #[arg(long, short)]
        yes: bool,
    },
    /// Switch a person's two-factor authentication off.
    #[command(after_help = RESET_TWO_FACTOR_EXAMPLES)]
    ResetTwoFactor {
        /// Their id, address or name.
        user: String,
    },
    /// Switch a person off.
    #[command(after_help = DEACTIVATE_EXAMPLES)]
    Deactivate {
        /// Their id, address or name.
        user: String,
    },
    /// Switch a person on again.
    #[command(after_help = ACTIVATE_EXAMPLES)]
    Activate {
        /// Their id, address or name.
        user: String,
    },
    /// Make a person a super admin, or an ordinary member again.
    #[command(after_help = SET_SUPER_ADMIN_EXAMPLES)]
    SetSuperAdmin {
        /// Their id, address or name.
        user: String,
        /// Whether they hold every permission in the organization.
        #[arg(value_name = "true|false", action = clap::ArgAction::Set)]
        is_super_admin: bool,
    },
    /// Delete a person: their tokens end for good.
    #[command(after_help = DELETE_EXAMPLES)]
    Delete {
        /// Their id, address or name.
        user: String,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
}

/// A person as printed; field names as in Aiven's API.
#[derive(Debug, Serialize)]
struct Shown {
    user_id: String,
    user_email: String,
    real_name: String,
    state: &'static str,
    is_super_admin: bool,
    has_password: bool,
    two_factor_enabled: bool,
    managing_organization_id: Option<String>,
    join_time: Timestamp,
    create_time: Timestamp,
    last_activity_time: Option<Timestamp>,
}

#[derive(Debug, Serialize)]
struct ShownList {
    users: Vec<Shown>,
}

#[derive(Debug, Serialize)]
struct Deleted {
    user_id: String,
    user_email: String,
    deleted: bool,
}

pub(super) fn execute(arguments: UserArguments, output: Output) -> Result<Exit, Failure> {
    let directory = &*backend::open(&arguments.place, output)?;
    match arguments.command {
        UserCommand::Create { email, name, super_admin, without_password } => {
            let wanted = Wanted { name, is_super_admin: super_admin, without_password };
            match directory.place() {
                Place::Store(beside) => show(directory, create(beside, email, wanted, output)?, output)?,
                Place::Api(_) => {
                    wanted.check_can_be_invited(&email)?;
                    elsewhere::invite(directory, &email, output)?;
                }
            }
        }
        UserCommand::Invite { email } => elsewhere::invite(directory, &email, output)?,
        UserCommand::List => list(directory, output)?,
        UserCommand::Show { user } => show(directory, directory.person(&user)?, output)?,
        UserCommand::SetPassword { user, yes } => {
            let member = directory.person(&user)?;
            match directory.place() {
                Place::Store(beside) => {
                    let hash = new_password(beside, &member.user.email, &member.user.name, output)?;
                    operations::set_password(&*beside.store, &member.user.id, &hash, Timestamp::now())?;
                    show(directory, member, output)?;
                }
                Place::Api(remote) => {
                    if !yes {
                        elsewhere::confirm_reset(&member, output)?;
                    }
                    elsewhere::reset_password(remote, &member, output)?;
                }
            }
        }
        UserCommand::ResetTwoFactor { user } => {
            let member = directory.person(&user)?;
            directory.reset_two_factor(&member.user.id)?;
            show_again(directory, &member, output)?;
        }
        UserCommand::Deactivate { user } => {
            set_state(directory, &user, UserState::Deactivated, output)?;
        }
        UserCommand::Activate { user } => set_state(directory, &user, UserState::Active, output)?,
        UserCommand::SetSuperAdmin { user, is_super_admin } => {
            let member = directory.person(&user)?;
            directory.set_super_admin(&member.user.id, is_super_admin)?;
            show_again(directory, &member, output)?;
        }
        UserCommand::Delete { user, yes } => {
            let member = directory.person(&user)?;
            if !yes {
                confirm(directory, &member, output)?;
            }
            delete(directory, &member, output)?;
        }
    }
    Ok(Exit::Done)
}

/// What is asked for of a person to be made.
struct Wanted {
    name: Option<String>,
    is_super_admin: bool,
    without_password: bool,
}

impl Wanted {
    /// What people who are invited have they choose themselves, or are given once they have accepted.
    fn check_can_be_invited(&self, email: &str) -> Result<(), Failure> {
        let email = printable(email);
        let (option, instead) = match self {
            Self { name: Some(_), .. } => {
                ("--name", "the person says their name when they accept".to_owned())
            }
            Self { is_super_admin: true, .. } => (
                "--super-admin",
                format!("when they have accepted, do `postern user set-super-admin {email} true`"),
            ),
            Self { without_password: true, .. } => {
                ("--without-password", "the person chooses how to log in when they accept".to_owned())
            }
            Self { .. } => return Ok(()),
        };
        Err(Failure::Usage(format!(
            "{option} is for making a person where the store is; with --url they are invited: {instead}"
        )))
    }
}

fn create(directory: &Directory, email: String, wanted: Wanted, output: Output) -> Result<Member, Failure> {
    let Wanted { name, is_super_admin, without_password } = wanted;
    // Nobody types a password for an address that cannot be taken.
    let taken = directory.store.read(|records| records.user_by_email(&email.trim().to_lowercase()))?;
    if taken.is_some() {
        return Err(OperationError::AlreadyExists { entity: "user", id: email }.into());
    }
    let real_name = name.unwrap_or_else(|| email.clone());
    let password_hash = match without_password {
        true => None,
        false => Some(new_password(directory, &email, &real_name, output)?),
    };
    let organization_id = directory.organization_id().to_owned();
    let new = NewPerson { email, real_name, organization_id, is_super_admin, password_hash };
    Ok(operations::create_person(&*directory.store, &new, Timestamp::now())?.value)
}

fn list(directory: &dyn Backend, output: Output) -> Result<(), Failure> {
    let people = directory.people()?.into_iter().map(|member| shown(directory, member));
    let users = people.collect::<Result<Vec<_>, _>>()?;
    output.result(&ShownList { users }, |list| {
        if list.users.is_empty() {
            return "no people; make one with `postern user create EMAIL --super-admin`".to_owned();
        }
        table(
            ["USER ID", "EMAIL", "NAME", "STATE", "SUPER ADMIN", "TWO-FACTOR", "LAST ACTIVE"],
            list.users.iter().map(|user| {
                [
                    user.user_id.clone(),
                    user.user_email.clone(),
                    user.real_name.clone(),
                    user.state.to_owned(),
                    yes_no(user.is_super_admin),
                    yes_no(user.two_factor_enabled),
                    or_dash(user.last_activity_time),
                ]
            }),
        )
    })
}

fn set_state(directory: &dyn Backend, user: &str, state: UserState, output: Output) -> Result<(), Failure> {
    let member = directory.person(user)?;
    directory.set_user_state(&member.user.id, state)?;
    show_again(directory, &member, output)
}

fn delete(directory: &dyn Backend, member: &Member, output: Output) -> Result<(), Failure> {
    let ended = directory.delete_person(member)?;
    let deleted = Deleted {
        user_id: member.user.id.clone(),
        user_email: member.user.email.clone(),
        deleted: ended == PersonEnded::Deleted,
    };
    output.result(&deleted, |deleted| {
        let who = format!("{} ({})", printable(&deleted.user_email), deleted.user_id);
        match ended {
            PersonEnded::Deleted => format!("deleted {who}; their tokens have ended"),
            PersonEnded::Removed => {
                format!("took {who} out of the organization, which does not manage the account itself")
            }
        }
    })
}

fn confirm(directory: &dyn Backend, member: &Member, output: Output) -> Result<(), Failure> {
    let id = &member.user.id;
    let tokens = directory.tokens(id)?;
    let live = tokens.iter().filter(|token| token.token.revoked_time.is_none()).count();
    let question = Question {
        text: &format!("Delete {} ({id})? Their {live} tokens end for good.", printable(&member.user.email)),
        otherwise: "nothing was deleted",
        deed: &format!("delete user {id} with their tokens"),
    };
    question.ask(output)
}

fn show_again(directory: &dyn Backend, member: &Member, output: Output) -> Result<(), Failure> {
    show(directory, directory.person(&member.user.id)?, output)
}

fn show(directory: &dyn Backend, member: Member, output: Output) -> Result<(), Failure> {
    output.result(&shown(directory, member)?, Shown::text)
}

fn shown(directory: &dyn Backend, member: Member) -> Result<Shown, Failure> {
    let facts = directory.person_facts(&member)?;
    let Member { user, is_super_admin, join_time } = member;
    Ok(Shown {
        user_id: user.id,
        user_email: user.email,
        real_name: user.name,
        state: user.state.word(),
        is_super_admin,
        has_password: facts.has_password,
        two_factor_enabled: facts.two_factor_enabled,
        managing_organization_id: user.managing_organization_id,
        join_time,
        create_time: user.create_time,
        last_activity_time: facts.last_activity_time,
    })
}

impl Shown {
    fn text(&self) -> String {
        fields([
            ("user id", self.user_id.clone()),
            ("email", self.user_email.clone()),
            ("name", self.real_name.clone()),
            ("state", self.state.to_owned()),
            ("super admin", yes_no(self.is_super_admin)),
            ("password", if self.has_password { "set" } else { "none" }.to_owned()),
            ("two-factor", if self.two_factor_enabled { "on" } else { "off" }.to_owned()),
            ("managed by", or_dash(self.managing_organization_id.as_ref())),
            ("joined", self.join_time.to_string()),
            ("created", self.create_time.to_string()),
            ("last active", or_dash(self.last_activity_time)),
        ])
    }
}

fn yes_no(answer: bool) -> String {
    if answer { "yes" } else { "no" }.to_owned()
}
