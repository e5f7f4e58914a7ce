//! Tables whose keys are the operator's own: names of headers, parameters and methods, each with a value of one kind.
//!
//! What the names may be is checked in [`super::resolve`].

use toml::de::DeValue;

use super::decode::{Value, wrong_type};
use super::report::{Located, Location, Report};

/// Names and values, in the file's order.
#[derive(Clone, Debug)]
pub(crate) struct Map<T>(pub(crate) Vec<(Located<String>, Located<T>)>);

/// A text, or whether something is there at all.
#[derive(Clone, Debug)]
pub(crate) enum TextOrPresence {
    Text(String),
    Presence(bool),
}

impl<T: Value> Value for Map<T> {
    const EXPECTED: &'static str = "a table of names and values";

    fn decode(value: &DeValue<'_>, at: &Location, report: &mut Report<'_>) -> Option<Self> {
        let DeValue::Table(table) = value else {
            let remedy = format!("write `{} = {{ name = … }}`", at.name());
            wrong_type(value, Self::EXPECTED, remedy, at, report);
            return None;
        };
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        let located = entries.into_iter().filter_map(|(name, value)| {
            let of_value = at.child(name.get_ref(), Some(value.span()));
            let value = Located { value: T::decode(value.get_ref(), &of_value, report)?, at: of_value };
            let of_name = at.child(name.get_ref(), Some(name.span()));
            Some((Located { value: name.get_ref().clone().into_owned(), at: of_name }, value))
        });
        Some(Self(located.collect()))
    }
}

impl Value for TextOrPresence {
    const EXPECTED: &'static str = "a string, `true` or `false`";

    fn decode(value: &DeValue<'_>, at: &Location, report: &mut Report<'_>) -> Option<Self> {
        match value {
            DeValue::Boolean(is_there) => Some(Self::Presence(*is_there)),
            DeValue::String(_) => String::decode(value, at, report).map(Self::Text),
            _ => {
                let remedy = format!(
                    "write a text in double quotes, or `{0} = true` for any value, `{0} = false` for none",
                    at.name()
                );
                wrong_type(value, Self::EXPECTED, remedy, at, report);
                None
            }
        }
    }
}
