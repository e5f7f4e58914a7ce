//! Which bytes may stand where: one table for all of HTTP/1's and a URL's character classes.
//!
//! What must not live here: any grammar above single bytes.

/// `tchar` of RFC 9110: methods and header names.
pub(in crate::serve) const TOKEN: u8 = 1;
/// A URL's path: `pchar` of RFC 3986, the slash, and brackets, which browsers leave as they are.
pub(in crate::serve) const PATH: u8 = 2;
/// A URL's query: as the path, and what real clients do not encode there (``? ^ ` { | }``).
pub(in crate::serve) const QUERY: u8 = 4;
/// A URL's path within a segment: as [`PATH`], without what can make it ambiguous (`/`, `%`, `;`).
pub(in crate::serve) const SEGMENT: u8 = 16;
/// A host name: letters, digits, `-`, `.`, `_` and `~`.
pub(in crate::serve) const HOST: u8 = 8;
/// Unreserved characters of RFC 3986, for which an encoded and a plain form mean the same.
pub(in crate::serve) const UNRESERVED: u8 = HOST;

/// Whether a byte is in one of the classes.
#[inline]
pub(in crate::serve) fn is(byte: u8, class: u8) -> bool {
    CLASSES[usize::from(byte)] & class != 0
}

/// How many bytes at the start are in the class.
#[inline]
pub(in crate::serve) fn run(bytes: &[u8], class: u8) -> usize {
    bytes.iter().position(|&byte| !is(byte, class)).unwrap_or(bytes.len())
}

static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut class = 0;
        let character = byte as u8;
        if character.is_ascii_alphanumeric() {
            class |= TOKEN | PATH | QUERY | HOST;
        }
        if matches!(character, b'-' | b'.' | b'_' | b'~') {
            class |= TOKEN | PATH | QUERY | HOST;
        }
        if matches!(character, b'!' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+') {
            class |= TOKEN | PATH | QUERY;
        }
        if matches!(character, b'(' | b')' | b',' | b';' | b'=' | b':' | b'@' | b'/' | b'[' | b']') {
            class |= PATH | QUERY;
        }
        if matches!(character, b'^' | b'`' | b'|') {
            class |= TOKEN | QUERY;
        }
        if matches!(character, b'?' | b'{' | b'}') {
            class |= QUERY;
        }
        if character == b'#' {
            class |= TOKEN;
        }
        if class & PATH != 0 && !matches!(character, b'/' | b'%' | b';') {
            class |= SEGMENT;
        }
        classes[byte] = class;
        byte += 1;
    }
    classes
}

/// How many bytes at the start a header's value may have: visible characters, spaces, tabs, and from 0x80 on.
#[inline]
pub(in crate::serve) fn field_value_run(bytes: &[u8]) -> usize {
    let mut length = 0;
    while let Some(word) = bytes[length..].first_chunk::<8>() {
        let controls = controls(*word);
        if controls == 0 {
            length += 8;
            continue;
        }
        // Only the first marked byte is sure to be one: a borrow may have marked those behind it.
        length += controls.trailing_zeros() as usize / 8;
        if bytes[length] != b'\t' {
            return length;
        }
        length += 1;
    }
    let rest = &bytes[length..];
    length + rest.iter().position(|&byte| !is_field_byte(byte)).unwrap_or(rest.len())
}

/// A byte that a header's value may have.
#[inline]
pub(in crate::serve) fn is_field_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Marks the first of eight bytes that is below 0x20 (a tab too) or 0x7f, and maybe bytes behind it.
#[inline]
fn controls(word: [u8; 8]) -> u64 {
    const LOW: u64 = u64::MAX / 0xff;
    const HIGH: u64 = LOW << 7;
    let word = u64::from_le_bytes(word);
    let below_space = word.wrapping_sub(LOW * 0x20) & !word;
    let delete = word ^ (LOW * 0x7f);
    let is_delete = delete.wrapping_sub(LOW) & !delete;
    (below_space | is_delete) & HIGH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_judged_the_same_at_every_length_and_position() {
        for length in 1..40 {
            for at in 0..length {
                for byte in 0..=255u8 {
                    let mut value = vec![b'v'; length];
                    value[at] = byte;
                    let expected = if is_field_byte(byte) { length } else { at };
                    assert_eq!(field_value_run(&value), expected, "{byte:#x} at {at} of {length}");
                }
            }
        }
        assert_eq!(field_value_run(b""), 0);
        assert_eq!(field_value_run(b"\t\t \t\t\ta\t\t\t\t\tb\t\x01"), 14);
    }

    #[test]
    fn no_class_has_a_control_a_space_a_backslash_or_a_byte_above_ascii() {
        for byte in (0..=b' ').chain([b'\\', 0x7f]).chain(0x80..=0xff) {
            assert!(!is(byte, TOKEN | PATH | QUERY | HOST), "{byte:#x}");
        }
    }
}
