//! Headers as proxies write them, and everything that only resembles one; whole and cut at every place.

#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;

fn client(address: &str) -> Source {
    Source::Client(address.parse().unwrap())
}

/// A header of version 2 with this rest, its length right.
fn version_2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    header.extend([0x20 | command, family]);
    header.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
    header.extend_from_slice(rest);
    header
}

fn tcp4() -> Vec<u8> {
    [&[203, 0, 113, 9][..], &[192, 0, 2, 1], &[0x30, 0x39], &[0x01, 0xbb]].concat()
}

fn tcp6(source: &str) -> Vec<u8> {
    let [source, destination] =
        [source, "2001:db8::2"].map(|text| text.parse::<Ipv6Addr>().unwrap().octets());
    [&source[..], &destination, &[0x30, 0x39, 0x01, 0xbb]].concat()
}

/// Every beginning has to be waited with, and nothing behind the header may matter.
#[track_caller]
fn check(header: &[u8], expect: Source) {
    let shown = String::from_utf8_lossy(header);
    for cut in 1..header.len() {
        assert_eq!(parse(&header[..cut]), Ok(None), "{shown:?} cut at {cut}");
    }
    for behind in [&b""[..], b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", b"PROXY UNKNOWN\r\n"] {
        assert_eq!(parse(&[header, behind].concat()), Ok(Some((expect, header.len()))), "{shown:?}");
    }
}

/// Refused, and never taken for one that has more to come, however much does.
#[track_caller]
fn refused(header: &[u8]) {
    let filled = [header, &[b'x'; LINE_BYTES + REST_BYTES]].concat();
    let parsed = parse(&filled);
    assert!(parsed.is_err(), "{:?} is {parsed:?}", String::from_utf8_lossy(header));
}

#[test]
fn lines_of_version_1() {
    check(b"PROXY TCP4 203.0.113.9 192.0.2.1 12345 443\r\n", client("203.0.113.9"));
    check(b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", client("255.255.255.255"));
    check(b"PROXY TCP4 1.1.1.1 1.1.1.1 0 0\r\n", client("1.1.1.1"));
    check(b"PROXY TCP6 2001:db8::7 ::1 12345 443\r\n", client("2001:db8::7"));
    check(b"PROXY TCP6 ::ffff:10.1.2.3 ::1 12345 443\r\n", client("10.1.2.3"));
    let longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    check(format!("PROXY TCP6 {longest} {longest} 65535 65535\r\n").as_bytes(), client(longest));
    check(b"PROXY UNKNOWN\r\n", Source::Unknown);
    check(format!("PROXY UNKNOWN {longest} {longest} 65535 65535\r\n").as_bytes(), Source::Unknown);
}

#[test]
fn lines_that_are_none() {
    for line in [
        "proxy TCP4 1.1.1.1 1.1.1.1 1 1\r\n",
        "PROXY  TCP4 1.1.1.1 1.1.1.1 1 1\r\n",
        "PROXY TCP4  1.1.1.1 1.1.1.1 1 1\r\n",
        "PROXY TCP4 1.1.1.1 1.1.1.1 1 1 \r\n",
        "PROXY TCP4 1.1.1.1 1.1.1.1 1 1 1\r\n",
        "PROXY TCP4 1.1.1.1 1.1.1.1 1\r\n",
        "PROXY TCP4 1.1.1.1 1.1.1.1 +1 1\r\n",
        "PROXY TCP4 1.1.1.1 1.1.1.1 01 1\r\n",
        "PROXY TCP4 1.1.1.1 1.1.1.1 1 65536\r\n",
        "PROXY TCP4 1.1.1.1 1.1.1.1 1 -1\r\n",
        "PROXY TCP4 1.1.1.1 1.1.1.1 1 \r\n",
        "PROXY TCP4 01.1.1.1 1.1.1.1 1 1\r\n",
        "PROXY TCP4 1.1.1 1.1.1.1 1 1\r\n",
        "PROXY TCP4 1.1.1.256 1.1.1.1 1 1\r\n",
        "PROXY TCP4 ::1 ::1 1 1\r\n",
        "PROXY TCP6 1.1.1.1 1.1.1.1 1 1\r\n",
        "PROXY TCP6 [::1] ::1 1 1\r\n",
        "PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n",
        "PROXY UDP4 1.1.1.1 1.1.1.1 1 1\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY \r\n",
        "PROXY\r\n",
        "PROXY TCP4 1.1.1.1 1.1.1.1 1 1\n",
        "PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\r\n",
        "PROXY TCP4 1.1.1.1\t1.1.1.1 1 1\r\n",
        "PROXY UNKNOWN \u{e9}\r\n",
        "GET / HTTP/1.1\r\n",
        "\r\n\r\n\0\r\nQUIT ",
        "\0",
    ] {
        refused(line.as_bytes());
    }
    // The end of a line has to come within 107 bytes.
    let fits = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LINE_BYTES - 16));
    check(fits.as_bytes(), Source::Unknown);
    refused(format!("PROXY UNKNOWN {}\r\n", "x".repeat(LINE_BYTES - 15)).as_bytes());
}

#[test]
fn headers_of_version_2() {
    check(&version_2(1, 0x11, &tcp4()), client("203.0.113.9"));
    check(&version_2(1, 0x21, &tcp6("2001:db8::7")), client("2001:db8::7"));
    check(&version_2(1, 0x21, &tcp6("::ffff:10.1.2.3")), client("10.1.2.3"));
    check(&version_2(1, 0x31, &[7; 216]), Source::Unknown);
    check(&version_2(1, 0x00, &[]), Source::Unknown);
    check(&version_2(1, 0x00, b"whatever this is"), Source::Unknown);
    check(&version_2(0, 0x00, &[]), Source::Proxy);
    check(&version_2(0, 0xff, b"a family that is not known yet"), Source::Proxy);
    let with_extensions = [&tcp4()[..], &[0x03, 0, 4, 1, 2, 3, 4], &[0x04, 0, 0], &[0xea, 0, 1, 7]].concat();
    check(&version_2(1, 0x11, &with_extensions), client("203.0.113.9"));
    let mut longest = tcp4();
    longest.extend([0x04, 0x3f, 0xf1]);
    longest.resize(REST_BYTES, 0);
    let header = version_2(1, 0x11, &longest);
    assert_eq!(parse(&header), Ok(Some((client("203.0.113.9"), header.len()))));
}

#[test]
fn headers_that_are_none() {
    refused(&version_2(1, 0x11, &tcp4()[..11]));
    refused(&version_2(1, 0x11, &[]));
    refused(&version_2(1, 0x21, &tcp6("::1")[..35]));
    refused(&version_2(1, 0x21, &tcp4()));
    refused(&version_2(1, 0x31, &[7; 215]));
    for family in [0x01, 0x10, 0x12, 0x20, 0x22, 0x30, 0x32, 0x13, 0x41, 0xff] {
        refused(&version_2(1, family, &[0; 216]));
    }
    for command in [2, 15] {
        refused(&version_2(command, 0x11, &tcp4()));
    }
    let mut version_1 = version_2(1, 0x11, &tcp4());
    version_1[12] = 0x11;
    refused(&version_1);
    for extension in [&[0x04][..], &[0x04, 0], &[0x04, 0, 1], &[0x04, 0, 0, 0x04], &[0x04, 0xff, 0xff, 0]] {
        refused(&version_2(1, 0x11, &[&tcp4()[..], extension].concat()));
    }
    refused(&version_2(1, 0x11, &vec![0; REST_BYTES + 1]));
    refused(&version_2(0, 0x00, &vec![0; usize::from(u16::MAX)]));
}

proptest! {
    /// A header that is cut differently is still the same header, or the same refusal at the latest at its end.
    #[test]
    fn nothing_panics_and_no_cut_changes_the_meaning(
        beginning in prop_oneof![Just(&b""[..]), Just(&WORD[..]), Just(&b"PROXY TCP4 "[..]), Just(&SIGNATURE[..])],
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let bytes = [beginning, &bytes].concat();
        let whole = parse(&bytes);
        for cut in 1..bytes.len() {
            match parse(&bytes[..cut]) {
                Ok(None) => {}
                decided => {
                    prop_assert_eq!(decided, whole);
                    break;
                }
            }
        }
    }

    #[test]
    fn what_version_1_says_is_what_is_taken(source: IpAddr, destination in any::<u128>(), ports: (u16, u16)) {
        let (family, destination) = match source {
            IpAddr::V4(_) => ("TCP4", IpAddr::from(Ipv4Addr::from(destination as u32))),
            IpAddr::V6(_) => ("TCP6", IpAddr::from(Ipv6Addr::from(destination))),
        };
        let line = format!("PROXY {family} {source} {destination} {} {}\r\n", ports.0, ports.1);
        let parsed = parse(line.as_bytes());
        prop_assert_eq!(parsed, Ok(Some((Source::Client(source.to_canonical()), line.len()))));
    }
}
