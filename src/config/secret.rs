//! Secrets: where the file says they are, and their values, in a type that cannot print.
//!
//! `{ env = "NAME" }` and `{ file = "PATH" }` are for use; a string in the file itself is for examples. A value
//! never gets into a reason, a remedy or a shown source line.

use secrecy::SecretString;
use toml::de::DeValue;

use super::decode::Presence::Optional;
use super::decode::{Sensitivity, Value, decode_table, table, wrong_type};
use super::input;
use super::report::{Located, Location, Report};
use super::resolve::Resolution;
use super::source::shortened;

const SHAPE: &str = "`{ env = \"NAME\" }` or `{ file = \"PATH\" }`";

/// Where a secret is.
#[derive(Debug)]
pub(crate) enum SecretReference {
    /// In the configuration file itself; for examples only.
    Inline(SecretString),
    /// In an environment variable.
    Environment(Located<String>),
    /// In a file, without its trailing line break.
    File(Located<String>),
}

table! {
    SecretTable = "{ env = … } or { file = … }" {
        env: String = Optional,
        file: String = Optional,
    }
}

impl Value for SecretReference {
    const EXPECTED: &'static str = "a secret, `{ env = \"NAME\" }` or `{ file = \"PATH\" }`";
    const SENSITIVITY: Sensitivity = Sensitivity::Secret;

    fn decode(value: &DeValue<'_>, at: &Location, report: &mut Report<'_>) -> Option<Self> {
        match value {
            DeValue::String(text) => {
                report.mask(at);
                Some(Self::Inline(SecretString::from(text.as_ref())))
            }
            DeValue::Table(_) => {
                let SecretTable { env, file } = decode_table(value, at, report)?;
                match (env, file) {
                    (Some(name), None) => Some(Self::Environment(name)),
                    (None, Some(path)) => Some(Self::File(path)),
                    (Some(_), Some(_)) => {
                        report.place_problem(
                            at,
                            "a secret is in one place",
                            format!("write {SHAPE}, not both"),
                        );
                        None
                    }
                    (None, None) => {
                        report.place_problem(
                            at,
                            "it is not said where the secret is",
                            format!("write {SHAPE}"),
                        );
                        None
                    }
                }
            }
            DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_) => {
                report.mask(at);
                wrong_type(value, "a secret", format!("write {SHAPE}"), at, report);
                None
            }
        }
    }
}

impl Located<SecretReference> {
    /// The secret itself, never empty; `None` with the problem noted.
    pub(crate) fn resolve(&self, resolution: &mut Resolution<'_, '_>) -> Option<SecretString> {
        match &self.value {
            SecretReference::Inline(secret) => {
                use secrecy::ExposeSecret;
                if secret.expose_secret().is_empty() {
                    resolution.report.value_problem(
                        &self.at,
                        "the secret is empty",
                        format!("write {SHAPE}"),
                    );
                    return None;
                }
                Some(secret.clone())
            }
            SecretReference::Environment(name) => from_environment(name, resolution),
            SecretReference::File(path) => from_file(path, resolution),
        }
    }
}

fn from_environment(name: &Located<String>, resolution: &mut Resolution<'_, '_>) -> Option<SecretString> {
    let Located { value: variable, at } = name;
    let is_name = variable.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !variable.bytes().next().is_none_or(|byte| byte.is_ascii_digit());
    if !is_name {
        // Likely the secret itself.
        resolution.report.mask(at);
        resolution.report.value_problem(
            at,
            "this is no name of an environment variable",
            "name a variable, in letters, digits and `_`; its value is the secret",
        );
        return None;
    }
    let variable = shortened(variable);
    let Some(value) = (resolution.surroundings.environment)(&variable) else {
        let reason = format!("the environment variable `{variable}` is not set");
        let remedy = format!("set `{variable}` in postern's environment, or name another place: {SHAPE}");
        resolution.report.value_problem(at, reason, remedy);
        return None;
    };
    match value.into_string() {
        Ok(value) if value.is_empty() => {
            let reason = format!("the environment variable `{variable}` is empty");
            resolution.report.value_problem(at, reason, format!("give `{variable}` the secret as its value"));
            None
        }
        Ok(value) => Some(SecretString::from(value)),
        Err(_) => {
            let reason = format!("the environment variable `{variable}` is not UTF-8 text");
            resolution.report.value_problem(at, reason, "give it a value in UTF-8");
            None
        }
    }
}

fn from_file(path: &Located<String>, resolution: &mut Resolution<'_, '_>) -> Option<SecretString> {
    let file = resolution.referenced_file(path)?;
    let shown = file.display();
    let (reason, remedy) = match input::read(&file).map(String::from_utf8) {
        Ok(Ok(text)) => {
            let secret = text.trim_end_matches(['\r', '\n']);
            if !secret.is_empty() {
                return Some(SecretString::from(secret));
            }
            (format!("the secret file `{shown}` is empty"), "write the secret into it")
        }
        Ok(Err(_)) => {
            (format!("the secret file `{shown}` is not UTF-8 text"), "write the secret into it in UTF-8")
        }
        Err(error) => (
            format!("cannot read the secret file `{shown}`: {}", input::why(&error)),
            input::what_to_do(&error),
        ),
    };
    resolution.report.value_problem(&path.at, reason, remedy);
    None
}
