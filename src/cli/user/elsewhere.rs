//! What people finish themselves, with a code that whoever ran the command hands over: there is no mail server. The codes are
//! printed once, to standard output.

use http::Method;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::cli::backend::{Backend, Remote};
use crate::cli::confirm::Question;
use crate::cli::failure::Failure;
use crate::cli::output::{Output, fields, printable};
use crate::directory::model::{Member, Timestamp};

/// Where a code is turned in, and with what.
const SETUP: &str = "POST /v1/userauth/setup, with `code` and `password` (docs/two-factor.md)";

#[derive(Serialize)]
struct Invited<'a> {
    user_email: &'a str,
    expiry_time: Timestamp,
    /// `null` for somebody who has an account.
    code: Option<&'a str>,
}

#[derive(Serialize)]
struct Reset<'a> {
    user_id: &'a str,
    user_email: &'a str,
    code: &'a str,
    expiry_time: Timestamp,
}

/// As the API answers it.
#[derive(Deserialize)]
struct StartedReset {
    code: SecretString,
    expiry_time: Timestamp,
}

pub(super) fn invite(directory: &dyn Backend, email: &str, output: Output) -> Result<(), Failure> {
    let invited = directory.invite(email)?;
    let shown = Invited {
        user_email: &invited.user_email,
        expiry_time: invited.expiry_time,
        code: invited.code.as_ref().map(|code| code.expose_secret()),
    };
    output.result(&shown, |shown| {
        let rows = fields([
            ("email", printable(shown.user_email)),
            ("expires", shown.expiry_time.to_string()),
            ("code", shown.code.unwrap_or("-").to_owned()),
        ]);
        let next = match shown.code {
            Some(_) => {
                format!(
                    "Hand the code over; it is shown this once. With it they make their account at {SETUP}."
                )
            }
            None => "They have an account, and accept the invitation with it.".to_owned(),
        };
        format!("{rows}\n{next}")
    })
}

pub(super) fn confirm_reset(member: &Member, output: Output) -> Result<(), Failure> {
    let email = printable(&member.user.email);
    let question = Question {
        text: &format!(
            "Take password, two-factor authentication and sessions from {email}? They get back in with a code that is \
             printed here."
        ),
        otherwise: "nothing was changed",
        deed: &format!("take the password from {email} and print a code to set another one"),
    };
    question.ask(output)
}

pub(super) fn reset_password(remote: &Remote, member: &Member, output: Output) -> Result<(), Failure> {
    let path = ["user", &member.user.id, "reset_password"];
    let body = serde_json::json!({});
    let started: StartedReset = remote.ask_with(Method::POST, &path, &[], Some(&body))?;
    let shown = Reset {
        user_id: &member.user.id,
        user_email: &member.user.email,
        code: started.code.expose_secret(),
        expiry_time: started.expiry_time,
    };
    output.result(&shown, |shown| {
        let rows = fields([
            ("user id", shown.user_id.to_owned()),
            ("email", printable(shown.user_email)),
            ("expires", shown.expiry_time.to_string()),
            ("code", shown.code.to_owned()),
        ]);
        format!(
            "{rows}\nThe old password and two-factor authentication are gone. Hand the code over; it is shown this once. With \
             it they set a new password at {SETUP}."
        )
    })
}
