//! A query's parameters, in the one reading that Postern has of them: pairs between `&`, form-encoded.
//!
//! A service may read a query otherwise; nothing here may be what protects it. What must not live here: what a parameter
//! means.

/// A query's parameters as they stand there: names and values, still encoded. One without `=` has an empty value.
pub fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")))
}

/// The bytes that are meant by a name or value. A `%` without two hexadecimal digits stands for itself.
pub fn decoded(encoded: &str) -> impl Iterator<Item = u8> {
    let mut rest = encoded.as_bytes();
    std::iter::from_fn(move || {
        let (&byte, behind) = rest.split_first()?;
        rest = behind;
        Some(match (byte, behind) {
            (b'%', [high, low, behind @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    rest = behind;
                    high << 4 | low
                }
                _ => b'%',
            },
            (b'+', _) => b' ',
            (byte, _) => byte,
        })
    })
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    //! What is meant.

    use super::{decoded, parameters};

    #[test]
    fn names_and_values_are_decoded() {
        for (encoded, expect) in [
            ("plain", "plain"),
            ("a+b%20c", "a b c"),
            ("%61ccess%5Ftoken", "access_token"),
            ("100%", "100%"),
            ("%zz%4", "%zz%4"),
            ("", ""),
        ] {
            assert_eq!(decoded(encoded).collect::<Vec<_>>(), expect.as_bytes(), "{encoded}");
        }
    }

    #[test]
    fn parameters_stand_between_ampersands() {
        let read = |query| parameters(query).collect::<Vec<_>>();
        assert_eq!(read("a=1&b&c=2=3&=4"), [("a", "1"), ("b", ""), ("c", "2=3"), ("", "4")]);
        assert_eq!(read(""), [("", "")]);
    }
}
