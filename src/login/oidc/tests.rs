//! Issuers of providers with many tenants. The rest of the flow is tested against a real provider.

#![allow(clippy::unwrap_used, reason = "tests")]

use openidconnect::IssuerUrl;

use super::metadata::fill_in_tenant;

#[track_caller]
fn check(issuer: &str, tenant: Option<&str>, expect: Option<&str>) {
    let issuer = IssuerUrl::new(issuer.to_owned()).unwrap();
    let filled = fill_in_tenant(&issuer, tenant);
    assert_eq!(filled.as_ref().map(|issuer| issuer.as_str()), expect, "{issuer:?} {tenant:?}");
}

#[test]
fn a_template_is_filled_in_with_the_tenant_of_the_token() {
    let template = "https://login.microsoftonline.com/{tenantid}/v2.0";
    check(template, Some("72f988bf-86f1"), Some("https://login.microsoftonline.com/72f988bf-86f1/v2.0"));
    check(template, None, None);
    check(template, Some(""), None);
    check(template, Some("../evil"), None);
    check(template, Some("a/b"), None);
}

#[test]
fn an_issuer_without_one_stays_as_it_is() {
    let issuer = "https://login.example.com/one";
    check(issuer, None, Some(issuer));
    check(issuer, Some("other"), Some(issuer));
}
