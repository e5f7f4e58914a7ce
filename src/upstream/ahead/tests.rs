//! How much may be read with so much lying about.

use super::*;

#[test]
fn the_more_lies_about_the_less_is_read() {
    let ahead = Ahead::default();
    let and_read = |bytes: usize| {
        ahead.hold(bytes);
        ahead.read_bytes()
    };
    assert_eq!(and_read(0), MOST_READ_BYTES);
    assert_eq!(and_read(LARGE_READS_BELOW_BYTES - MOST_READ_BYTES), MOST_READ_BYTES, "it still fits");
    assert_eq!(and_read(MOST_READ_BYTES / 2), MOST_READ_BYTES / 2);
    assert_eq!(and_read(LARGE_READS_BELOW_BYTES), LEAST_READ_BYTES, "an answer never waits for others");
    ahead.let_go(LARGE_READS_BELOW_BYTES + MOST_READ_BYTES / 2);
    assert_eq!(ahead.read_bytes(), MOST_READ_BYTES);
}
