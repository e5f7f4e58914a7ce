//! From a TOML tree to typed tables, all problems noted: one list of keys makes a table's struct, its known keys,
//! their defaults and its decoder.
//!
//! What the tables are is in [`super::file`]; what their values mean, in [`super::resolve`].

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::report::{Located, Location, Report};
use super::source::shortened;
use super::unknown;

/// Something a key can hold.
pub(crate) trait Value: Sized {
    /// What is expected, as in "expected …".
    const EXPECTED: &'static str;
    /// The table's keys, if it is one or a list of them.
    const NESTED: Option<&'static Schema> = None;
    /// Whether what stands there must not be shown.
    const SENSITIVITY: Sensitivity = Sensitivity::Plain;

    /// The value, or `None` with the problem noted.
    fn decode(value: &DeValue<'_>, at: &Location, report: &mut Report<'_>) -> Option<Self>;
}

/// Whether a key's value may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sensitivity {
    Plain,
    Secret,
}

/// A table with known keys.
pub(crate) trait Table: Sized {
    /// Its keys.
    const SCHEMA: Schema;

    /// All its values, problems noted.
    fn take(entries: &mut Entries<'_, '_, '_>) -> Self;
}

/// The known keys of a table.
#[derive(Debug)]
pub(crate) struct Schema {
    /// How its header is written, such as `[[upstreams]]`; empty: the file's top level.
    pub(crate) header: &'static str,
    pub(crate) keys: &'static [Key],
}

/// A known key.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    #[cfg_attr(not(test), expect(dead_code, reason = "tests hold the reference file against it"))]
    pub(crate) presence: Presence,
    pub(crate) nested: Option<&'static Schema>,
    pub(crate) sensitivity: Sensitivity,
}

/// Whether a key has to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    Required,
    /// Left out, there is none.
    Optional,
    /// Left out, it follows from something else; says from what.
    Derived(&'static str),
    /// The TOML value it has when it is not there.
    Default(&'static str),
}

/// One table's entries, being taken out.
pub(crate) struct Entries<'t, 'a, 'r> {
    table: &'t DeTable<'t>,
    at: &'t Location,
    report: &'r mut Report<'a>,
}

/// Makes a table's struct, its list of known keys and its decoder from one list.
macro_rules! table {
    ($(#[$attribute:meta])* $name:ident = $header:literal { $($key:ident: $type:ty = $presence:expr,)* }) => {
        $(#[$attribute])*
        #[derive(Debug)]
        pub(crate) struct $name {
            $(pub(crate) $key: Option<$crate::config::report::Located<$type>>,)*
        }

        impl $crate::config::decode::Table for $name {
            const SCHEMA: $crate::config::decode::Schema = $crate::config::decode::Schema {
                header: $header,
                keys: &[$($crate::config::decode::Key {
                    name: stringify!($key),
                    presence: $presence,
                    nested: <$type as $crate::config::decode::Value>::NESTED,
                    sensitivity: <$type as $crate::config::decode::Value>::SENSITIVITY,
                },)*],
            };

            fn take(entries: &mut $crate::config::decode::Entries<'_, '_, '_>) -> Self {
                Self { $($key: entries.take(stringify!($key), $presence),)* }
            }
        }

        impl $crate::config::decode::Value for $name {
            const EXPECTED: &'static str = "a table";
            const NESTED: Option<&'static $crate::config::decode::Schema> =
                Some(&<Self as $crate::config::decode::Table>::SCHEMA);

            fn decode(
                value: &toml::de::DeValue<'_>,
                at: &$crate::config::report::Location,
                report: &mut $crate::config::report::Report<'_>,
            ) -> Option<Self> {
                $crate::config::decode::decode_table(value, at, report)
            }
        }
    };
}
pub(crate) use table;

/// The table, unknown keys noted; `None` if the value is none.
pub(crate) fn decode_table<T: Table>(
    value: &DeValue<'_>,
    at: &Location,
    report: &mut Report<'_>,
) -> Option<T> {
    let DeValue::Table(table) = value else {
        // What stands where a table belongs could be anything, a password included.
        report.mask(at);
        let header = T::SCHEMA.header;
        let remedy = match value {
            DeValue::Array(_) => format!("write it once, as `{header}`, with single brackets"),
            _ => format!("make it a table, `{header}`, with {}", unknown::key_list(&T::SCHEMA)),
        };
        wrong_type(value, "a table", remedy, at, report);
        return None;
    };
    Some(decode_entries(table, at, report))
}

/// All of a table's keys, unknown ones noted.
pub(crate) fn decode_entries<T: Table>(table: &DeTable<'_>, at: &Location, report: &mut Report<'_>) -> T {
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        if T::SCHEMA.keys.iter().any(|known| known.name == name) {
            continue;
        }
        // Nobody knows what an unknown key's value is: `pasword = "…"` is one.
        mask_all(value, report);
        let unknown::Explanation { reason, remedy, meant } = unknown::explain(name, &T::SCHEMA);
        if let Some(meant) = meant {
            report.mark_misspelt(&at.child(meant, None));
        }
        report.place_problem(&at.child(&shortened(name), Some(key.span())), reason, remedy);
    }
    T::take(&mut Entries { table, at, report })
}

impl Entries<'_, '_, '_> {
    /// The value of `key`, its default, or `None` with the problem noted unless it is optional.
    pub(crate) fn take<T: Value>(&mut self, key: &'static str, presence: Presence) -> Option<Located<T>> {
        if let Some(entry) = self.table.get(key) {
            let at = self.at.child(key, Some(entry.span()));
            let value = T::decode(entry.get_ref(), &at, self.report)?;
            return Some(Located { value, at });
        }
        let at = self.at.child(key, self.at.span.clone());
        match presence {
            Presence::Optional | Presence::Derived(_) => None,
            Presence::Default(text) => {
                let default =
                    DeValue::parse(text).expect("every default is a TOML value, a test decodes all");
                let value = T::decode(default.get_ref(), &at, self.report)?;
                Some(Located { value, at })
            }
            Presence::Required if self.report.is_noted(&at) => None,
            Presence::Required => {
                let (reason, remedy) = match T::NESTED {
                    Some(schema) => (
                        format!("missing table `{}`", schema.header),
                        format!("add `{}`, with {}", schema.header, unknown::key_list(schema)),
                    ),
                    None => (format!("missing key `{key}`"), format!("add `{key} = …`, {}", T::EXPECTED)),
                };
                self.report.place_problem(&at, reason, remedy);
                None
            }
        }
    }
}

impl<T: Value> Value for Vec<Located<T>> {
    const EXPECTED: &'static str = "a list";
    const NESTED: Option<&'static Schema> = T::NESTED;
    const SENSITIVITY: Sensitivity = T::SENSITIVITY;

    fn decode(value: &DeValue<'_>, at: &Location, report: &mut Report<'_>) -> Option<Self> {
        let DeValue::Array(elements) = value else {
            let remedy = match (T::NESTED, value) {
                (Some(schema), _) => format!("write `{}`, with two brackets on each side", schema.header),
                (None, DeValue::String(_)) => format!("put it in brackets: `{} = [\"…\"]`", at.name()),
                (None, _) => format!("write `{} = […]`", at.name()),
            };
            if T::NESTED.is_some() || T::SENSITIVITY == Sensitivity::Secret {
                report.mask(at);
            }
            wrong_type(value, Self::EXPECTED, remedy, at, report);
            return None;
        };
        let located = elements.iter().enumerate().filter_map(|(index, element)| {
            let at = at.element(index, Some(element.span()));
            let value = T::decode(element.get_ref(), &at, report)?;
            Some(Located { value, at })
        });
        Some(located.collect())
    }
}

impl Value for String {
    const EXPECTED: &'static str = "a string";

    fn decode(value: &DeValue<'_>, at: &Location, report: &mut Report<'_>) -> Option<Self> {
        let DeValue::String(text) = value else {
            let remedy = match value {
                DeValue::Table(_) | DeValue::Array(_) => format!("write `{} = \"…\"`", at.name()),
                _ => format!("write text in double quotes: `{} = \"…\"`", at.name()),
            };
            wrong_type(value, Self::EXPECTED, remedy, at, report);
            return None;
        };
        // `user:password@host`: no key wants that, and the password must not end up in a log.
        if text.contains('@') {
            report.mask(at);
        }
        Some(text.clone().into_owned())
    }
}

impl Value for bool {
    const EXPECTED: &'static str = "`true` or `false`";

    fn decode(value: &DeValue<'_>, at: &Location, report: &mut Report<'_>) -> Option<Self> {
        if let DeValue::Boolean(boolean) = value {
            return Some(*boolean);
        }
        let remedy = format!("write `{0} = true` or `{0} = false`, without quotes", at.name());
        wrong_type(value, Self::EXPECTED, remedy, at, report);
        None
    }
}

/// Masks every value in this one; the header or key of a table is not its value.
fn mask_all(value: &Spanned<DeValue<'_>>, report: &mut Report<'_>) {
    match value.get_ref() {
        DeValue::Table(table) => table.iter().for_each(|(_, value)| mask_all(value, report)),
        DeValue::Array(elements) => elements.iter().for_each(|element| mask_all(element, report)),
        _ => report.mask(&Location { span: Some(value.span()), key: String::new() }),
    }
}

/// Notes that a value is of the wrong type. What is in a table or list that does not belong there is not shown.
pub(crate) fn wrong_type(
    value: &DeValue<'_>,
    expected: &str,
    remedy: String,
    at: &Location,
    report: &mut Report<'_>,
) {
    match value {
        DeValue::Table(table) => table.iter().for_each(|(_, value)| mask_all(value, report)),
        DeValue::Array(elements) => elements.iter().for_each(|element| mask_all(element, report)),
        _ => {}
    }
    let found = match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    report.value_problem(at, format!("expected {expected}, found {found}"), remedy);
}
