//! A browser, as far as logging in needs one: cookies with their paths, redirects one by one, forms. The sidecar's public
//! address, a name that leads nowhere, is its management API.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use reqwest::blocking::{Client, Response};
use reqwest::{Url, redirect};

/// The sidecar's public address in these tests.
pub const PUBLIC_URL: &str = "https://postern.test";

/// One person's browser.
pub struct Browser {
    client: Client,
    admin: SocketAddr,
    /// By host, name and path.
    cookies: BTreeMap<(String, String, String), String>,
    /// What programs ask for, in place of pages.
    pub accept: &'static str,
}

/// What came of going somewhere.
#[derive(Debug)]
pub struct Shown {
    pub url: Url,
    pub status: u16,
    pub location: Option<String>,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Browser {
    pub fn new(admin: SocketAddr) -> Self {
        let builder =
            Client::builder().redirect(redirect::Policy::none()).no_proxy().timeout(super::PATIENCE);
        Self {
            client: builder.build().unwrap(),
            admin,
            cookies: BTreeMap::new(),
            accept: "text/html,*/*;q=0.8",
        }
    }

    /// Goes somewhere, and no further.
    #[track_caller]
    pub fn get(&mut self, url: &str) -> Shown {
        self.go(url, None)
    }

    /// Submits a form.
    #[track_caller]
    pub fn post(&mut self, url: &str, fields: &[(&str, &str)]) -> Shown {
        self.go(url, Some(fields))
    }

    /// Follows redirects until there is a page, or until they lead to an address that begins with `until`.
    #[track_caller]
    pub fn follow(&mut self, mut shown: Shown, until: &str) -> Shown {
        for _ in 0..20 {
            let Some(location) = &shown.location else { return shown };
            let next = shown.url.join(location).unwrap();
            if next.as_str().starts_with(until) {
                return Shown { location: Some(next.into()), ..shown };
            }
            shown = self.get(next.as_str());
        }
        panic!("redirects without end: {shown:?}");
    }

    /// From the address of a provider's login to the address that it sends the browser back to.
    #[track_caller]
    pub fn log_in_at_provider(&mut self, url: &str, login: &str) -> String {
        let back = format!("{PUBLIC_URL}/");
        let mut shown = self.get(url);
        shown = self.follow(shown, &back);
        for _ in 0..3 {
            if let Some(location) = &shown.location {
                return location.clone();
            }
            let action = between(&shown.text, "action=\"", "\"").expect("a form");
            let prompt = between(&shown.text, "name=\"prompt\" value=\"", "\"").expect("a prompt").to_owned();
            let action = shown.url.join(action).unwrap();
            shown = match prompt.as_str() {
                "login" => self.post(
                    action.as_str(),
                    &[("prompt", "login"), ("login", login), ("password", "anything")],
                ),
                _ => self.post(action.as_str(), &[("prompt", &prompt)]),
            };
            shown = self.follow(shown, &back);
        }
        shown.location.unwrap_or_else(|| panic!("the provider did not send the browser back: {}", shown.text))
    }

    /// A cookie's value.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies.iter().find(|((_, known, _), _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Puts a cookie back.
    pub fn set_cookie(&mut self, host: &str, name: &str, value: &str) {
        self.cookies.insert((host.into(), name.into(), "/".into()), value.into());
    }

    #[track_caller]
    fn go(&mut self, url: &str, fields: Option<&[(&str, &str)]>) -> Shown {
        let url = Url::parse(url).unwrap();
        let request = match fields {
            None => self.client.get(self.real(&url)),
            Some(fields) => self.client.post(self.real(&url)).form(fields),
        };
        let request = request.header("accept", self.accept).header("cookie", self.cookies_for(&url));
        let response = request.send().unwrap_or_else(|error| panic!("{url}: {error:?}"));
        self.keep_cookies(&url, &response);
        Shown {
            status: response.status().as_u16(),
            location: response.headers().get("location").map(|value| value.to_str().unwrap().to_owned()),
            headers: response.headers().clone(),
            url,
            text: response.text().unwrap(),
        }
    }

    /// Where the public address really is.
    fn real(&self, url: &Url) -> Url {
        let real = url.as_str().replace(PUBLIC_URL, &format!("http://{}", self.admin));
        Url::parse(&real).unwrap()
    }

    fn cookies_for(&self, url: &Url) -> String {
        let host = url.host_str().unwrap_or_default();
        let fitting = self
            .cookies
            .iter()
            .filter(|((domain, _, path), _)| domain == host && url.path().starts_with(path.as_str()));
        fitting.map(|((_, name, _), value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }

    fn keep_cookies(&mut self, url: &Url, response: &Response) {
        let host = url.host_str().unwrap_or_default().to_owned();
        for line in response.headers().get_all("set-cookie") {
            let line = line.to_str().unwrap();
            let mut parts = line.split(';').map(str::trim);
            let (name, value) = parts.next().unwrap().split_once('=').unwrap();
            let (mut path, mut over) = ("/", value.is_empty());
            for part in parts {
                match part.split_once('=') {
                    Some((key, value)) if key.eq_ignore_ascii_case("path") => path = value,
                    Some((key, value)) if key.eq_ignore_ascii_case("max-age") => over |= value == "0",
                    Some((key, value)) if key.eq_ignore_ascii_case("expires") => {
                        over |= value.contains(" 1970 ")
                    }
                    _ => {}
                }
            }
            let key = (host.clone(), name.to_owned(), path.to_owned());
            if over {
                self.cookies.remove(&key);
            } else {
                self.cookies.insert(key, value.to_owned());
            }
        }
    }
}

impl Shown {
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// What a page shows to be copied.
    #[track_caller]
    pub fn copied(&self) -> String {
        between(&self.text, "<pre>", "</pre>")
            .unwrap_or_else(|| panic!("nothing to copy: {}", self.text))
            .to_owned()
    }

    #[track_caller]
    pub fn assert_refused(&self, status: u16, code: &str) {
        let json = self.json();
        assert_eq!(
            (self.status, json["errors"][0]["error_code"].as_str()),
            (status, Some(code)),
            "{}",
            self.text
        );
    }
}

/// An address with one query parameter set to something else.
pub fn with_query(url: &str, name: &str, value: &str) -> String {
    let mut url = Url::parse(url).unwrap();
    let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    url.query_pairs_mut().clear().extend_pairs(
        pairs.iter().map(|(key, old)| (key.as_str(), if key == name { value } else { old.as_str() })),
    );
    url.into()
}

/// A query parameter of an address.
pub fn query(url: &str, name: &str) -> Option<String> {
    let url = Url::parse(url).unwrap();
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let start = text.find(before)? + before.len();
    let length = text[start..].find(after)?;
    Some(&text[start..start + length])
}
