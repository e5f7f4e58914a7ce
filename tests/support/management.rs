//! The management API as its callers see it: requests with a token and JSON, on a connection each.

use std::net::SocketAddr;
use std::path::PathBuf;

use postern::directory::model::{Principal, Resource};
use postern::directory::operations;
use serde_json::Value;

use super::certificates::Authority;
use super::directory::{Credential, Directory, now};
use super::{Client, Response, Sidecar, SidecarBuilder};

pub use super::directory::ORGANIZATION;

/// Another one, of which nobody in the test is a member.
pub const OTHER_ORGANIZATION: &str = "org0f0f0f0f0f0";

/// Somebody who asks the management API.
#[derive(Clone)]
pub struct Api {
    address: SocketAddr,
    token: String,
    scheme: &'static str,
}

impl Api {
    pub fn new(address: SocketAddr, token: &str) -> Self {
        Self { address, token: token.into(), scheme: "aivenv1" }
    }

    /// The same with another token.
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: token.into(), ..self.clone() }
    }

    /// The same with another scheme.
    pub fn with_scheme(&self, scheme: &'static str) -> Self {
        Self { scheme, ..self.clone() }
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        self.send("GET", path, None)
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: Value) -> Response {
        self.send("POST", path, Some(&body.to_string()))
    }

    #[track_caller]
    pub fn patch(&self, path: &str, body: Value) -> Response {
        self.send("PATCH", path, Some(&body.to_string()))
    }

    #[track_caller]
    pub fn put(&self, path: &str, body: Value) -> Response {
        self.send("PUT", path, Some(&body.to_string()))
    }

    #[track_caller]
    pub fn delete(&self, path: &str) -> Response {
        self.send("DELETE", path, None)
    }

    #[track_caller]
    pub fn send(&self, method: &str, path: &str, body: Option<&str>) -> Response {
        self.send_with(method, path, "", body)
    }

    /// With further header lines, each ended by CRLF.
    #[track_caller]
    pub fn send_with(&self, method: &str, path: &str, lines: &str, body: Option<&str>) -> Response {
        let Self { address, token, scheme } = self;
        let body = body.unwrap_or_default();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: api.test\r\nAuthorization: {scheme} {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n{lines}\r\n"
        );
        Client::connect(*address).request(head + body)
    }
}

impl Sidecar {
    /// The management API, asked by an admin of the organization.
    #[track_caller]
    pub fn managed(&self) -> Api {
        self.managed_as(&self.super_admin())
    }

    /// The management API, asked by somebody.
    #[track_caller]
    pub fn managed_as(&self, credential: &Credential) -> Api {
        Api::new(self.admin.expect("the test's configuration has [admin]"), &credential.token)
    }
}

impl Directory {
    /// An application user with these permissions on the organization, and its token.
    pub fn organization_user_with(&self, permissions: &[&str]) -> Credential {
        let user = self.application_user();
        if permissions.is_empty() {
            return self.token(&user);
        }
        let names: Vec<String> = permissions.iter().map(|name| (*name).to_owned()).collect();
        let organization = Resource::Organization(ORGANIZATION.into());
        operations::grant(&*self.store, &Principal::User(user.clone()), &organization, &names, now())
            .unwrap();
        self.token(&user)
    }
}

/// A management API over TLS: what to add to the configuration, and the authority's file once it runs.
pub struct OverTls;

impl OverTls {
    pub fn add_to(builder: SidecarBuilder) -> SidecarBuilder {
        Self::with_admin(builder, "")
    }

    /// With further tables below `[admin]`.
    pub fn with_admin(builder: SidecarBuilder, tables: &str) -> SidecarBuilder {
        let authority = Authority::new();
        let certificate = authority.certificate(&["localhost", "127.0.0.1"]);
        builder
            .file("authority.pem", &authority.pem())
            .file("admin.pem", &certificate.pem)
            .file("admin.key", &certificate.key_pem)
            .admin(&format!(
                "{tables}\n[[admin.tls.certificates]]\ncertificate_file = \"admin.pem\"\n\
                 key_file = \"admin.key\"\n"
            ))
    }

    /// The certificate that a client has to believe.
    pub fn authority_file(sidecar: &Sidecar) -> PathBuf {
        sidecar.folder().join("authority.pem")
    }

    /// A request that `avn` has no command for.
    #[track_caller]
    pub fn request(sidecar: &Sidecar, token: &str, method: &str, path: &str, body: &Value) -> Response {
        let pem = std::fs::read(Self::authority_file(sidecar)).unwrap();
        let config = super::certificates::client_of(&pem);
        let address = sidecar.admin.expect("the test's configuration has [admin]");
        let mut client = Client::connect_tls(address, "localhost", config).unwrap();
        let body = body.to_string();
        client.request(format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ))
    }

    pub fn url(sidecar: &Sidecar) -> String {
        format!("https://{}", sidecar.admin.expect("the test's configuration has [admin]"))
    }
}
