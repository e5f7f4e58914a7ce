//! What a user agent is in a person's words: `curl/8.5.0` is "curl 8.5.0", a browser is "Firefox 128 on Linux".
//!
//! Clients choose their user agent themselves: it is shown as a hint and decides nothing. What is returned is short and
//! has no control characters, whatever came in.

/// Characters that are shown at most.
const LONGEST_SHOWN: usize = 64;

/// What programs call themselves, and what people call them. Compared in lower case.
const PROGRAMS: &[(&str, &str)] = &[
    ("aiven-client", "Aiven CLI"),
    ("aiven-go-client", "Aiven Go client"),
    ("aiven-operator", "Aiven Operator for Kubernetes"),
    ("apache-httpclient", "Apache HttpClient"),
    ("axios", "Axios"),
    ("bun", "Bun"),
    ("clickhouse-java", "ClickHouse Java client"),
    ("curl", "curl"),
    ("deno", "Deno"),
    ("elastic-filebeat", "Filebeat"),
    ("elastic-metricbeat", "Metricbeat"),
    ("fluent-bit", "Fluent Bit"),
    ("go-client-codegen", "Aiven Go client"),
    ("go-http-client", "Go HTTP client"),
    ("grafana", "Grafana"),
    ("grpc-c++", "gRPC for C++"),
    ("grpc-dotnet", "gRPC for .NET"),
    ("grpc-go", "gRPC for Go"),
    ("grpc-java-netty", "gRPC for Java"),
    ("grpc-node-js", "gRPC for Node.js"),
    ("grpc-python", "gRPC for Python"),
    ("hashicorp terraform", "Terraform"),
    ("httpie", "HTTPie"),
    ("java", "Java"),
    ("java-http-client", "Java HTTP client"),
    ("k6", "k6"),
    ("logstash", "Logstash"),
    ("node", "Node.js"),
    ("node-fetch", "node-fetch"),
    ("okhttp", "OkHttp"),
    ("opensearch-js", "OpenSearch JavaScript client"),
    ("opensearch-py", "OpenSearch Python client"),
    ("opentofu", "OpenTofu"),
    ("otel", "OpenTelemetry"),
    ("postern", "Postern CLI"),
    ("postmanruntime", "Postman"),
    ("prometheus", "Prometheus"),
    ("python-httpx", "Python HTTPX"),
    ("python-requests", "Python Requests"),
    ("python-urllib", "Python urllib"),
    ("reqwest", "reqwest"),
    ("telegraf", "Telegraf"),
    ("terraform", "Terraform"),
    ("terraform-provider-aiven", "Terraform provider for Aiven"),
    ("undici", "Node.js"),
    ("vector", "Vector"),
    ("vmagent", "vmagent"),
    ("wget", "Wget"),
];

/// How a browser is told apart: the first that is there is it, as those that imitate others name them as well.
const BROWSERS: &[(&str, &str)] = &[
    ("Edg/", "Microsoft Edge"),
    ("EdgA/", "Microsoft Edge"),
    ("EdgiOS/", "Microsoft Edge"),
    ("OPR/", "Opera"),
    ("Vivaldi/", "Vivaldi"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("FxiOS/", "Firefox"),
    ("Firefox/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("HeadlessChrome/", "Headless Chrome"),
    ("Chrome/", "Chrome"),
    ("Version/", "Safari"),
];

/// The same for what the browser runs on.
const SYSTEMS: &[(&str, &str)] = &[
    ("iPhone", "iOS"),
    ("iPad", "iPadOS"),
    ("Android", "Android"),
    ("CrOS", "ChromeOS"),
    ("Windows", "Windows"),
    ("Macintosh", "macOS"),
    ("Linux", "Linux"),
];

/// A user agent in a person's words; `None` if it says nothing.
///
/// A program that is not known here is shown as it names itself.
pub(super) fn readable(user_agent: &str) -> Option<String> {
    let visible = |&character: &char| character == ' ' || character.is_ascii_graphic();
    let text: String = user_agent.chars().filter(visible).collect();
    let readable = browser(&text).or_else(|| program(&text))?;
    Some(readable.chars().take(LONGEST_SHOWN).collect())
}

fn browser(text: &str) -> Option<String> {
    // All browsers, and hardly anything else, say that they are a Mozilla.
    let after_mozilla = text.strip_prefix("Mozilla/")?;
    let (name, version) = BROWSERS.iter().find_map(|(mark, name)| {
        let (_, rest) = after_mozilla.split_once(mark)?;
        Some((*name, major(rest)))
    })?;
    let named = if version.is_empty() { name.to_owned() } else { format!("{name} {version}") };
    let system = SYSTEMS.iter().find(|(mark, _)| after_mozilla.contains(mark));
    Some(system.map_or(named.clone(), |(_, system)| format!("{named} on {system}")))
}

/// The digits before the first other character: nobody reads the rest of a browser's version.
fn major(version: &str) -> &str {
    version.split(|character: char| !character.is_ascii_digit()).next().unwrap_or_default()
}

/// A program's first product, `NAME/VERSION`; the rest says what it is made of.
fn program(text: &str) -> Option<String> {
    // The comment in brackets, and what follows it, is about the first product.
    let text = text.split('(').next().unwrap_or_default().trim();
    let (name, version) = match text.split_once('/') {
        Some((name, rest)) => (name.trim(), rest.split(' ').next().unwrap_or_default()),
        None => (text, ""),
    };
    let known = PROGRAMS.iter().find(|(product, _)| name.eq_ignore_ascii_case(product));
    let name = known.map_or(name, |(_, readable)| readable);
    match (name, version) {
        ("", _) => None,
        (name, "") => Some(name.to_owned()),
        (name, version) => Some(format!("{name} {version}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(user_agent: &str, expected: Option<&str>) {
        assert_eq!(readable(user_agent).as_deref(), expected, "{user_agent:?}");
    }

    #[test]
    fn programs_are_called_as_people_call_them() {
        check("curl/8.5.0", Some("curl 8.5.0"));
        check("aiven-client/4.18.0", Some("Aiven CLI 4.18.0"));
        check("python-requests/2.34.2", Some("Python Requests 2.34.2"));
        check("Go-http-client/2.0", Some("Go HTTP client 2.0"));
        check(
            "Terraform/1.9.8 (+https://www.terraform.io) Terraform-Plugin-SDK/2.34.0",
            Some("Terraform 1.9.8"),
        );
        check("HashiCorp Terraform/1.9.8 (+https://www.terraform.io)", Some("Terraform 1.9.8"));
        check(
            "terraform-provider-aiven/4.31.0 go-client-codegen/0.60.0",
            Some("Terraform provider for Aiven 4.31.0"),
        );
        check("PostmanRuntime/7.43.0", Some("Postman 7.43.0"));
        check("grpc-go/1.68.0", Some("gRPC for Go 1.68.0"));
        check("Prometheus/2.53.1", Some("Prometheus 2.53.1"));
    }

    #[test]
    fn browsers_have_a_system() {
        let cases = [
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
                "Firefox 128 on Linux",
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 \
                 Safari/537.36 Edg/130.0.2849.68",
                "Microsoft Edge 130 on Windows",
            ),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) \
                 Version/18.1 Safari/605.1.15",
                "Safari 18 on macOS",
            ),
            (
                "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 \
                 Mobile Safari/537.36",
                "Chrome 130 on Android",
            ),
        ];
        for (user_agent, expected) in cases {
            check(user_agent, Some(expected));
        }
    }

    #[test]
    fn what_is_not_known_is_shown_as_it_names_itself() {
        check("importer/2.1", Some("importer 2.1"));
        check("importer", Some("importer"));
        check("Mozilla/5.0 (compatible; robot)", Some("Mozilla 5.0"));
        check("", None);
        check("   ", None);
        check("(nothing but a comment)", None);
        check("/1.0", None);
    }

    #[test]
    fn nothing_reaches_a_terminal_but_short_visible_text() {
        check("curl/8\u{1b}[31m\r\n.5", Some("curl 8[31m.5"));
        check("importer/\u{202e}1", Some("importer 1"));
        let endless = readable(&"x".repeat(100_000)).map(|shown| shown.len());
        assert_eq!(endless, Some(LONGEST_SHOWN));
    }
}
