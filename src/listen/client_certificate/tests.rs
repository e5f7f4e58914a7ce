//! Subjects as upstreams read them, also those that somebody has made to be misread.

#![allow(clippy::unwrap_used, reason = "tests")]

use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair};

use super::*;

fn lines(attributes: &[(DnType, DnValue)]) -> String {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    for (kind, value) in attributes {
        params.distinguished_name.push(kind.clone(), value.clone());
    }
    let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    String::from_utf8(CertificateLines::of(certificate.der()).unwrap().as_bytes().to_vec()).unwrap()
}

#[track_caller]
fn check(attributes: &[(DnType, &str)], expect: &str) {
    let attributes: Vec<_> = attributes
        .iter()
        .map(|(kind, text)| (kind.clone(), DnValue::Utf8String((*text).to_owned())))
        .collect();
    let lines = lines(&attributes);
    let (subject, rest) = lines.split_once("\r\n").unwrap();
    assert_eq!(subject, format!("x-postern-client-certificate-subject: {expect}"));
    let digest = rest.strip_prefix("x-postern-client-certificate-sha256: ").unwrap();
    assert_eq!(digest.len(), 64 + 2, "{digest:?}");
}

#[test]
fn subjects_are_written_as_rfc_4514_has_it() {
    use DnType::{CommonName, CountryName, CustomDnType, OrganizationName};
    check(
        &[(CountryName, "DE"), (OrganizationName, "Example"), (CommonName, "reader")],
        "CN=reader,O=Example,C=DE",
    );
    check(&[(CommonName, "a, b+c=d\"e\\f<g>;")], r#"CN=a\, b\+c\=d\"e\\f\<g\>\;"#);
    check(&[(CommonName, "#1")], r"CN=\#1");
    check(&[(CommonName, "a#1")], "CN=a#1");
    check(&[(CommonName, " a ")], r"CN=\ a\ ");
    check(&[(CommonName, " ")], r"CN=\ ");
    check(&[(CommonName, "J\u{e4}ger")], r"CN=J\c3\a4ger");
    check(&[(CommonName, "a\r\nx-postern-user-id: root\0")], r"CN=a\0d\0ax-postern-user-id: root\00");
    check(&[(CommonName, "a\u{7f}\t")], r"CN=a\7f\09");
    // One name cannot be made to look like two.
    check(&[(CommonName, "reader,O=Example")], r"CN=reader\,O\=Example");
    check(&[(CustomDnType(vec![1, 2, 840, 113_549, 1, 9, 1]), "a@b")], "1.2.840.113549.1.9.1=a@b");
}

#[test]
fn strings_that_are_no_text_are_told_by_their_bytes() {
    let value = DnValue::BmpString("ab".parse().unwrap());
    assert!(
        lines(&[(DnType::CommonName, value)])
            .starts_with("x-postern-client-certificate-subject: CN=#00610062\r\n")
    );
}

#[test]
fn a_subject_that_is_empty_or_overlong_is_left_out() {
    let only_digest = |lines: &str| {
        assert!(lines.starts_with("x-postern-client-certificate-sha256: "), "{lines}");
    };
    only_digest(&lines(&[]));
    only_digest(&lines(&[(DnType::CommonName, DnValue::Utf8String("x".repeat(SUBJECT_BYTES)))]));
    check(
        &[(DnType::CommonName, &"x".repeat(SUBJECT_BYTES - 3))],
        &format!("CN={}", "x".repeat(SUBJECT_BYTES - 3)),
    );
}

#[test]
fn what_is_no_certificate_is_refused() {
    assert!(CertificateLines::of(&CertificateDer::from(vec![0x30, 0x03, 1, 2, 3])).is_err());
}
