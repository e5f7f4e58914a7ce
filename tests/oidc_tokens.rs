//! ID tokens that a provider may or may not have made: which are believed. The provider is a small server that signs
//! whatever a case says, since a real one does not make wrong tokens.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use data_encoding::BASE64URL_NOPAD;
use postern::config::OutgoingConfig;
use postern::login::identity::{Email, Identity};
use postern::login::oidc::{Flavour, Oidc, OidcError, OidcSettings, Providers};
use postern::login::outgoing::{Names, Outgoing};
use serde_json::{Value, json};
use support::browser::query;
use support::directory::now;
use support::stub;

const CLIENT: &str = "postern";
const SECRET: &str = "a client secret of tests that is long enough to sign with";
const KEY_ID: &str = "key-1";

/// How a token is signed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Signed {
    Rightly,
    /// With a key that the provider does not publish.
    ByAnother,
    /// With the client secret, which the client would know as well.
    WithSecret,
    Not,
}

struct Provider {
    issuer: String,
    /// What the token endpoint answers as the ID token.
    token: Arc<Mutex<String>>,
    key: Ed25519KeyPair,
}

impl Provider {
    /// `template` goes behind the issuer in the discovery document.
    fn start(template: &'static str) -> Self {
        let key = Ed25519KeyPair::generate().unwrap();
        let public = BASE64URL_NOPAD.encode(key.public_key().as_ref());
        let token = Arc::new(Mutex::new(String::new()));
        let answered = Arc::clone(&token);
        let address = Arc::new(Mutex::new(String::new()));
        let own = Arc::clone(&address);
        let server = stub::http(None, move |asked| {
            let origin = own.lock().unwrap().clone();
            let body = match asked.target.as_str() {
                "/.well-known/openid-configuration" => json!({
                    "issuer": format!("{origin}{template}"),
                    "authorization_endpoint": format!("{origin}/authorize"),
                    "token_endpoint": format!("{origin}/token"),
                    "jwks_uri": format!("{origin}/keys"),
                    "response_types_supported": ["code"],
                    "subject_types_supported": ["public"],
                    "id_token_signing_alg_values_supported": ["EdDSA", "HS256", "none"],
                }),
                "/keys" => json!({"keys": [
                    {"kty": "OKP", "crv": "Ed25519", "x": public, "kid": KEY_ID, "use": "sig", "alg": "EdDSA"},
                ]}),
                "/token" => json!({
                    "access_token": "access",
                    "token_type": "Bearer",
                    "id_token": *answered.lock().unwrap(),
                }),
                _ => return (404, String::new(), String::new()),
            };
            (200, "Content-Type: application/json\r\n".into(), body.to_string())
        });
        let issuer = format!("http://{server}");
        address.lock().unwrap().clone_from(&issuer);
        Self { issuer, token, key }
    }

    fn sign(&self, header: &Value, claims: &Value, signed: Signed) -> String {
        let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let text = format!("{}.{}", part(header), part(claims));
        let signature = match signed {
            Signed::Rightly => self.key.sign(text.as_bytes()).as_ref().to_vec(),
            Signed::ByAnother => Ed25519KeyPair::generate().unwrap().sign(text.as_bytes()).as_ref().to_vec(),
            Signed::WithSecret => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
                hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
            }
            Signed::Not => Vec::new(),
        };
        format!("{text}.{}", BASE64URL_NOPAD.encode(&signature))
    }

    /// The whole flow, with a token whose header and claims are the usual ones but for what is given.
    fn answer(
        &self,
        flavour: Flavour,
        header: Value,
        claims: Value,
        signed: Signed,
    ) -> Result<Identity, OidcError> {
        let outgoing = OutgoingConfig {
            ca_file: None,
            connect_timeout: Duration::from_secs(5),
            total_timeout: Duration::from_secs(15),
            private_networks: vec!["127.0.0.0/8".parse().unwrap()],
            domain_check_port: 443,
        };
        let names = Names::new(&["127.0.0.1:9".parse().unwrap()]).unwrap();
        let (outgoing, providers) = (Outgoing::new(&outgoing, &names).unwrap(), Providers::default());
        let settings = OidcSettings {
            issuer: self.issuer.clone(),
            client_id: CLIENT.into(),
            client_secret: Some(SECRET.into()),
            scopes: vec!["email".into()],
            flavour,
            authorization_endpoint: None,
            token_endpoint: None,
        };
        let oidc = Oidc {
            settings: &settings,
            redirect_uri: "https://postern.test/callback",
            providers: &providers,
            outgoing: &outgoing,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (url, secrets) = oidc.begin(None, now()).await?;
            let mut whole_header = json!({"alg": "EdDSA", "kid": KEY_ID, "typ": "JWT"});
            let mut whole_claims = json!({
                "iss": self.issuer,
                "sub": "subject",
                "aud": CLIENT,
                "exp": now().0 + 300,
                "iat": now().0,
                "nonce": query(&url, "nonce").unwrap(),
                "email": "jane@example.com",
                "email_verified": true,
            });
            merge(&mut whole_header, header);
            merge(&mut whole_claims, claims);
            *self.token.lock().unwrap() = self.sign(&whole_header, &whole_claims, signed);
            oidc.finish("code", None, &secrets, now()).await
        })
    }
}

/// What is null is taken out.
fn merge(whole: &mut Value, more: Value) {
    let whole = whole.as_object_mut().unwrap();
    for (key, value) in more.as_object().unwrap() {
        match value {
            Value::Null => whole.remove(key),
            value => whole.insert(key.clone(), value.clone()),
        };
    }
}

#[test]
fn a_token_is_believed_if_everything_about_it_is_right() {
    let provider = Provider::start("");
    let seconds = now().0;
    let right: [(Value, Value); 6] = [
        (json!({}), json!({})),
        (json!({"typ": null}), json!({})),
        (json!({"kid": null}), json!({})),
        (json!({}), json!({"aud": [CLIENT]})),
        (json!({}), json!({"azp": CLIENT})),
        // Clocks differ.
        (json!({}), json!({"iat": seconds + 30, "exp": seconds - 30})),
    ];
    for (header, claims) in right {
        let identity = provider.answer(Flavour::Standard, header.clone(), claims.clone(), Signed::Rightly);
        let identity = identity.unwrap_or_else(|error| panic!("{header} {claims}: {error}"));
        assert_eq!(identity.email, Email::Verified("jane@example.com".into()));
        assert_eq!(identity.subject, format!("{} subject", provider.issuer));
    }
}

#[test]
fn a_token_is_not_believed_if_anything_about_it_is_wrong() {
    let provider = Provider::start("");
    let seconds = now().0;
    let wrong: [(Value, Value, Signed); 22] = [
        (json!({}), json!({}), Signed::ByAnother),
        (json!({}), json!({}), Signed::Not),
        (json!({"alg": "none"}), json!({}), Signed::Not),
        (json!({"alg": "none"}), json!({}), Signed::Rightly),
        (json!({"alg": "HS256"}), json!({}), Signed::WithSecret),
        (json!({"alg": "HS256", "kid": null}), json!({}), Signed::WithSecret),
        (json!({"alg": "RS256"}), json!({}), Signed::Rightly),
        (json!({"kid": "key-2"}), json!({}), Signed::Rightly),
        (json!({"crit": ["exp"]}), json!({}), Signed::Rightly),
        (json!({}), json!({"iss": "https://attacker.example"}), Signed::Rightly),
        (json!({}), json!({"iss": null}), Signed::Rightly),
        (json!({}), json!({"aud": "another"}), Signed::Rightly),
        (json!({}), json!({"aud": [CLIENT, "another"]}), Signed::Rightly),
        (json!({}), json!({"aud": []}), Signed::Rightly),
        (json!({}), json!({"azp": "another"}), Signed::Rightly),
        (json!({}), json!({"exp": seconds - 120}), Signed::Rightly),
        (json!({}), json!({"exp": null}), Signed::Rightly),
        (json!({}), json!({"iat": seconds - 3600}), Signed::Rightly),
        (json!({}), json!({"iat": seconds + 3600}), Signed::Rightly),
        (json!({}), json!({"nonce": "another"}), Signed::Rightly),
        (json!({}), json!({"nonce": null}), Signed::Rightly),
        (json!({}), json!({"sub": null}), Signed::Rightly),
    ];
    for (header, claims, signed) in wrong {
        let answer = provider.answer(Flavour::Standard, header.clone(), claims.clone(), signed);
        assert!(
            matches!(answer, Err(OidcError::NotBelieved { .. })),
            "{header} {claims} {signed:?}: {answer:?}"
        );
    }
}

#[test]
fn a_tenants_tokens_are_of_that_tenant() {
    let provider = Provider::start("/{tenantid}/v2.0");
    let tenant = "72f988bf-86f1-41af-91ab-2d7cd011db47";
    let issuer = |tenant: &str| format!("{}/{tenant}/v2.0", provider.issuer);
    let answer = |claims: Value| provider.answer(Flavour::Microsoft, json!({}), claims, Signed::Rightly);
    let owned = json!({"iss": issuer(tenant), "tid": tenant, "xms_edov": true, "email_verified": null});
    let identity = answer(owned).unwrap();
    assert_eq!(identity.email, Email::Verified("jane@example.com".into()));
    // The same subject in another tenant is somebody else.
    assert_eq!(identity.subject, format!("{} subject", issuer(tenant)));
    let claimed = json!({"iss": issuer(tenant), "tid": tenant, "email_verified": null});
    assert_eq!(answer(claimed).unwrap().email, Email::Unverified("jane@example.com".into()));
    for wrong in [
        json!({"iss": issuer("another"), "tid": tenant}),
        json!({"iss": issuer("{tenantid}"), "tid": null}),
        json!({"iss": issuer(tenant), "tid": null}),
        json!({"iss": "https://attacker.example/72f988bf/v2.0", "tid": "72f988bf"}),
        json!({"iss": issuer("a/b"), "tid": "a/b"}),
    ] {
        let answer = answer(wrong.clone());
        assert!(matches!(answer, Err(OidcError::NotBelieved { .. })), "{wrong}: {answer:?}");
    }
    // Who is set up to be exactly one issuer is not taken for a template.
    let exact = provider.answer(Flavour::Standard, json!({}), json!({}), Signed::Rightly);
    assert!(matches!(exact, Err(OidcError::Unusable { .. })), "{exact:?}");
}
