//! Why a value cannot be read, in the words of people who write JSON. What was there is not repeated: it may be a password
//! in the wrong place.

/// What is expected, as the deserializer says it and as people do.
const EXPECTED: [(&str, &str); 11] = [
    ("u16", "a whole number"),
    ("u32", "a whole number"),
    ("u64", "a whole number"),
    ("usize", "a whole number"),
    ("a string", "a text"),
    ("string", "a text"),
    ("a boolean", "true or false"),
    ("a sequence", "a list"),
    ("an object", "an object"),
    ("a map", "an object"),
    ("option", "a value or null"),
];

/// Why JSON cannot be read. Of a field that may hold a secret, what nobody foresaw is not repeated either.
pub(super) fn of_json(error: &serde_json::Error, is_secret: bool) -> String {
    let text = error.to_string();
    if !error.is_data() {
        return format!("this is not JSON: {text}");
    }
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    if text.starts_with("unknown field ") {
        return match choices(text) {
            Some(known) => format!("there is no such field here; there are {known}"),
            None => "there is no such field here; there are none".to_owned(),
        };
    }
    if text.starts_with("unknown variant ") {
        return format!("must be one of {}", choices(text).unwrap_or_default());
    }
    if let Some(field) = text.strip_prefix("missing field ") {
        return format!("the field {field} is missing");
    }
    if let Some(field) = text.strip_prefix("duplicate field ") {
        return format!("the field {field} is there twice");
    }
    let wrong = text.starts_with("invalid type: ") || text.starts_with("invalid value: ");
    if let Some((_, expected)) = text.rsplit_once(", expected ").filter(|_| wrong) {
        let words = EXPECTED.iter().find(|(theirs, _)| *theirs == expected);
        return match words {
            Some((_, ours)) => format!("must be {ours}"),
            None if expected.starts_with("struct ") => "must be an object".to_owned(),
            None => format!("must be {expected}"),
        };
    }
    if is_secret { "must be a text".to_owned() } else { text.to_owned() }
}

/// Why query parameters cannot be read, from what the extractor says: the parameter, where it is named, and the reason.
pub(super) fn of_query(text: &str) -> (String, String) {
    let text = text.rsplit_once("query string: ").map_or(text, |(_, text)| text);
    if let Some(name) = text.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        return (name.to_owned(), "this query parameter is missing".to_owned());
    }
    let (name, reason) = text.split_once(": ").unwrap_or(("query", text));
    let reason = match reason {
        "invalid digit found in string" | "cannot parse integer from empty string" => {
            "must be a whole number"
        }
        "number too large to fit in target type" => "is too large a number",
        "provided string was not `true` or `false`" => "must be true or false",
        other => other,
    };
    (name.to_owned(), reason.to_owned())
}

/// The names that the deserializer knows, from what it says.
fn choices(text: &str) -> Option<String> {
    let (_, known) = text.rsplit_once("`, expected ")?;
    let known = known.strip_prefix("one of ").unwrap_or(known);
    Some(known.replace('`', "").replace(" or ", ", "))
}
