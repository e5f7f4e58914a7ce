//! Bad configurations, one row each: what is said, exactly where, and what to do about it. Only the public API is
//! used; the reference file and the parts of the decoder are tested beside them.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::path::Path;

use postern::config::{Config, ConfigError, ListenAddress, Problem, RouteTarget};

/// What must never be seen in any report.
const CANARY: &str = "canary-1f9a7c";

/// A configuration without problems, to be spoilt.
const GOOD: &str = r#"workers = 2
[store]
path = "postern.db"
[[listeners]]
name = "public"
address = "127.0.0.1:8080"
trusted_proxies = ["10.0.0.0/8"]
[ops]
address = "127.0.0.1:9464"
[organization]
id = "org1a2b3c4d5e6"
name = "Example"
[organization.authentication]
oauth_enabled = false
[[upstreams]]
name = "search"
endpoints = ["localhost:9200"]
connect_seconds = 5
[upstreams.credential]
kind = "basic"
username = "postern"
password = "canary-1f9a7c"
[[upstreams]]
name = "metrics"
endpoints = ["127.0.0.1:9090"]
[[routes]]
hosts = ["search.example.com"]
path_prefix = "/"
project = "demo"
service = "search"
upstream = "search"
[[routes]]
hosts = ["metrics.example.com"]
upstream = "metrics"
authentication = "off"
[usage]
flush_interval_seconds = 10
[limits]
header_bytes = 65536
[timeouts]
header_read_seconds = 10
[logging]
level = "info"
[logging.access_log]
output = "stdout"
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("/etc/postern/postern.toml"))
}

/// Spoils one part of [`GOOD`]; `‸` in `to` stands where the one problem has to be, or nowhere if it is to be of
/// the file as a whole.
#[track_caller]
fn check(from: &str, to: &str, reason: &str, remedy: &str) {
    assert!(GOOD.contains(from), "{from:?} is not in the good configuration");
    let marked = GOOD.replacen(from, to, 1);
    let position = marked.find('‸').map(|at| {
        let before = &marked[..at];
        let line = before.matches('\n').count() + 1;
        (line, before.rsplit('\n').next().unwrap().chars().count() + 1)
    });
    let error = parse(&marked.replace('‸', "")).unwrap_err();
    let [problem] = &error.problems[..] else { panic!("not one problem:\n{error}") };
    let found = problem.excerpt.as_ref().map(|excerpt| (excerpt.line, excerpt.column));
    assert_eq!(found, position, "\n{error}");
    assert!(problem.reason.contains(reason), "reason without {reason:?}:\n{error}");
    assert!(problem.remedy.contains(remedy), "remedy without {remedy:?}:\n{error}");
    assert_secret(&error);
}

#[track_caller]
fn assert_secret(error: &ConfigError) {
    let shown = format!("{error}\n{error:?}\n{}", serde_json::to_string(error).unwrap());
    assert!(!shown.contains(CANARY), "a secret is shown:\n{shown}");
}

#[test]
fn the_good_configuration_is_good() {
    let config = parse(GOOD).unwrap();
    assert_eq!(config.routes[0].name, "search.example.com/");
    assert_eq!(config.routes[1].target, RouteTarget::Upstream(1));
    assert_eq!(config.store.path, Path::new("/etc/postern/postern.db"));
    assert!(!format!("{config:?}").contains(CANARY));
}

#[test]
fn unknown_keys_are_refused_with_what_was_meant() {
    check("[ops]\naddress", "[ops]\n‸adress", "unknown key `adress` in `[ops]`", "did you mean `address`?");
    check("workers", "‸wokers", "unknown key `wokers` in the top level", "did you mean `workers`?");
    check("[ops]", "[‸op]", "unknown key `op`", "did you mean `ops`?");
    check(
        "[ops]",
        "[‸operations]",
        "unknown key `operations`",
        "has the keys `workers`, `core_dumps`, `store`",
    );
    check("id = \"org", "‸workers = 3\nid = \"org", "unknown key `workers`", "belongs to the top level");
    check("[usage]", "[‸quota]\n[usage]", "unknown key `quota`", "remove it");
}

#[test]
fn who_may_speak_the_proxy_protocol_is_said_where_it_is_required() {
    let after = "trusted_proxies = [\"10.0.0.0/8\"]";
    let spoil = |lines: &str, reason, remedy| check(after, lines, reason, remedy);
    spoil("proxy_protocol = ‸\"v2\"", "how a listener takes the PROXY protocol", "write `required`");
    spoil("proxy_protocol = ‸\"required\"", "nobody could connect", "in `proxy_protocol_from`");
    spoil(
        "proxy_protocol_from = ‸[\"10.0.0.0/8\"]",
        "has no effect while `proxy_protocol` is off",
        "`proxy_protocol = \"required\"`",
    );
    spoil(
        "proxy_protocol = \"required\"\nproxy_protocol_from = [‸\"10.0.0.1\"]",
        "is no network",
        "`10.0.0.1/32`",
    );
}

#[test]
fn unix_sockets() {
    let spoil = |listener: &str, reason: &str, remedy: &str| {
        check("address = \"127.0.0.1:8080\"\ntrusted_proxies = [\"10.0.0.0/8\"]", listener, reason, remedy);
    };
    spoil("address = ‸\"unix:\"", "this is no path", "name a file");
    let long = format!("address = ‸\"unix:/{}\"", "x".repeat(107));
    spoil(&long, "the path has 108 bytes", "a shorter one");
    let address = "address = \"unix:a.sock\"\n";
    for mode in ["660", "0660"] {
        let text =
            GOOD.replacen("address = \"127.0.0.1:8080\"\n", &format!("{address}mode = \"{mode}\"\n"), 1);
        let config = parse(&text).unwrap();
        assert_eq!(config.listeners[0].address.to_string(), "unix:/etc/postern/a.sock");
        let ListenAddress::Unix(socket) = &config.listeners[0].address else { panic!("{config:?}") };
        assert_eq!(socket.mode, 0o660);
    }
    for mode in ["0o660", "1660", "00660", "0668", "66", "rw-rw----", ""] {
        spoil(&format!("{address}mode = ‸\"{mode}\""), "is no mode of a file", "such as `0660`");
    }
    spoil("address = \"127.0.0.1:8080\"\nmode = ‸\"0660\"", "only a Unix socket has a mode", "leave it out");
    let tcp = "address = \"127.0.0.1:8080\"\n";
    spoil(&format!("{tcp}trusted_proxies = [‸\"unix\"]"), "nobody comes over a Unix socket", "`unix:PATH`");
    spoil(
        &format!("{address}proxy_protocol = ‸\"required\"\nproxy_protocol_from = [\"10.0.0.0/8\"]"),
        "nobody could connect",
        "`proxy_protocol_from = [\"unix\"]`",
    );
    spoil(
        &format!(
            "{address}proxy_protocol = \"required\"\nproxy_protocol_from = [\"unix\"]\ntrusted_proxies = ‸[\"unix\"]"
        ),
        "whoever sends headers is a client",
        "leave `unix` out",
    );
    let twice = format!("{address}[[listeners]]\nname = \"b\"\naddress = ‸\"unix:/etc/postern/a.sock\"");
    spoil(&twice, "is already taken by `listeners[0].address`", "its own port or address");
    check(
        "[ops]\naddress = \"127.0.0.1:9464\"",
        "[ops]\naddress = ‸\"unix:a\"",
        "is no address",
        "only [[listeners]]",
    );
}

#[test]
fn wrong_units_are_told_the_right_key_or_shape() {
    check(
        "header_read_seconds = 10",
        "‸header_read_ms = 10000",
        "unknown key",
        "write `header_read_seconds`",
    );
    check(
        "header_read_seconds = 10",
        "‸header_read_timeout = 10",
        "unknown key",
        "write `header_read_seconds`",
    );
    check("flush_interval_seconds", "‸flush_interval", "unknown key", "write `flush_interval_seconds`");
    check(
        "header_bytes = 65536",
        "‸header_kb = 64",
        "unknown key",
        "sizes are whole bytes: write `header_bytes`",
    );
    let seconds = "expected a whole number of seconds, found a string";
    check("read_seconds = 10", "read_seconds = ‸\"10s\"", seconds, "write `header_read_seconds = 10`");
    check("read_seconds = 10", "read_seconds = ‸\"2m\"", seconds, "write `header_read_seconds = 120`");
    check("read_seconds = 10", "read_seconds = ‸\"500ms\"", seconds, "whole number from 1 to 300 seconds");
    check(
        "read_seconds = 10",
        "read_seconds = ‸1.5",
        "found a number with a fraction",
        "from 1 to 300 seconds",
    );
    check("= 65536", "= ‸\"64KiB\"", "expected a whole number of bytes", "write `header_bytes = 65536`");
}

#[test]
fn wrong_types_and_ranges_are_refused() {
    check(
        "workers = 2",
        "workers = ‸\"2\"",
        "expected a whole number, found a string",
        "write `workers = 2`",
    );
    check("workers = 2", "workers = ‸0", "out of range: 0", "from 1 to 1024");
    check("workers = 2", "workers = ‸-1", "out of range: -1", "from 1 to 1024");
    check(
        "workers = 2",
        "workers = ‸0xffffffffffffffff",
        "out of range: 0xffffffffffffffff",
        "from 1 to 1024",
    );
    check("header_bytes = 65536", "header_bytes = ‸1", "out of range", "from 8192 to 1048576 bytes");
    check("oauth_enabled = false", "oauth_enabled = ‸\"no\"", "expected `true` or `false`", "without quotes");
    check(
        "[\"localhost:9200\"]",
        "‸\"localhost:9200\"",
        "expected a list, found a string",
        "put it in brackets: `endpoints = [\"…\"]`",
    );
    check("\"localhost:9200\"", "‸9200", "expected a string, found a whole number", "in double quotes");
    check("[usage]\n", "‸[[usage]]\n", "expected a table, found a list", "`[usage]`");
    check(
        "[[listeners]]",
        "‸[listeners]",
        "expected a list, found a table",
        "`[[listeners]]`, with two brackets",
    );
    check(
        "id = \"org1a2b3c4d5e6\"",
        "id = ‸1979-05-27",
        "expected a string, found a date or time",
        "in double quotes",
    );
    check("header_bytes = 65536", "header_bytes = 8192\nuri_bytes = ‸9000", "ends at 8192 bytes", "lower");
}

#[test]
fn missing_keys_and_tables_are_named() {
    check("[store]\npath = \"postern.db\"", "‸[store]", "missing key `path`", "add `path = …`, a string");
    check("[store]\npath = \"postern.db\"", "", "missing table `[store]`", "with the keys `path`");
    check("[store]\npath = \"postern.db\"", "store = ‸{}", "missing key `path`", "add `path = …`");
    check("[[upstreams]]\nname = \"metrics\"", "‸[[upstreams]]", "missing key `name`", "add `name = …`");
    check(
        "[[routes]]\nhosts = [\"search.example.com\"]\npath_prefix = \"/\"\nproject = \"demo\"\nservice = \"search\"",
        "‸[[routes]]\nhosts = [\"search.example.com\"]\nservice = \"search\"",
        "missing key `project`: a route that asks for a token needs it",
        "as the directory knows it",
    );
}

#[test]
fn addresses_are_ip_addresses_with_ports() {
    let reason = "is no address with a port";
    check("\"127.0.0.1:8080\"", "‸\"127.0.0.1\"", reason, "add a port: `127.0.0.1:8080`");
    check("\"127.0.0.1:8080\"", "‸\":8080\"", reason, "write `0.0.0.0:8080`");
    check("\"127.0.0.1:8080\"", "‸\"8080\"", reason, "write `0.0.0.0:8080`");
    check("\"127.0.0.1:8080\"", "‸\"localhost:8080\"", reason, "write `127.0.0.1:8080` or `[::1]:8080`");
    check("\"127.0.0.1:8080\"", "‸\"127.0.0.1:99999\"", reason, "such as `127.0.0.1:8080`");
    check("\"127.0.0.1:8080\"", "‸\"127.0.0.1:9464\"", "taken by `ops.address` on line 9", "its own port");
    check(
        "\"10.0.0.0/8\"",
        "‸\"10.0.0.1/8\"",
        "bits beyond",
        "`10.0.0.0/8` for the network or `10.0.0.1/32`",
    );
    check("\"10.0.0.0/8\"", "‸\"10.0.0.1\"", "is no network", "`10.0.0.1/32`");
    check("\"10.0.0.0/8\"", "‸\"::ffff:10.0.0.0/104\"", "is no network", "IPv4 networks as IPv4");
    check("\"10.0.0.0/8\"", "‸\"10.0.0.0/33\"", "is no network", "prefix length");
}

#[test]
fn listeners_have_their_own_names_and_addresses() {
    let second =
        |name: &str, address: &str| format!("[[listeners]]\nname = {name}\naddress = {address}\n[ops]\n");
    check(
        "[ops]\n",
        &second("‸\"public\"", "\"[::1]:80\""),
        "another listener named `public` on line 5",
        "own name",
    );
    check(
        "[ops]\n",
        &second("\"b\"", "‸\"127.0.0.1:8080\""),
        "taken by `listeners[0].address` on line 6",
        "own port",
    );
    check("[ops]\n", &second("‸\"a b\"", "\"[::1]:80\""), "`a b` is no name", "letters, digits");
    let twice = GOOD.replace("127.0.0.1:8080", "127.0.0.1:0").replacen(
        "[ops]\n",
        &second("\"b\"", "\"127.0.0.1:0\""),
        1,
    );
    assert_eq!(parse(&twice).unwrap().listeners.len(), 2, "port 0 may repeat");
}

#[test]
fn endpoints_are_hosts_with_ports() {
    let reason = "is no `host:port`";
    check("\"localhost:9200\"", "‸\"localhost\"", reason, "add the port: `localhost:80`");
    check("\"localhost:9200\"", "‸\"http://localhost:9200/\"", reason, "write `localhost:9200`");
    check("\"localhost:9200\"", "‸\"::1\"", reason, "in brackets");
    check("\"localhost:9200\"", "‸\"[::z]:80\"", reason, "IPv6 address in the brackets");
    check("\"localhost:9200\"", "‸\"localhost:0\"", reason, "1 to 65535");
    check("\"localhost:9200\"", "‸\"256.1.1.1:80\"", reason, "host name or IP address");
    check("\"localhost:9200\"", "‸\"u:canary-1f9a7c@h:80\"", reason, "leave the user and password out");
    check("\"localhost:9200\"", "\"a:1\", ‸\"A:1\"", "listed twice, first on line 17", "once");
    check("[\"localhost:9200\"]", "‸[]", "has no endpoint", "at least one");
    let again = "[[upstreams]]\nname = ‸\"search\"\nendpoints = [\"a:1\"]\n[[routes]]";
    check("[[routes]]", again, "another upstream named `search`", "its own name");
}

#[test]
fn upstreams_are_balanced_in_known_ways() {
    check(
        "connect_seconds = 5",
        "balance = ‸\"random\"",
        "no way to balance called `random`",
        "least_requests",
    );
    check("connect_seconds = 5", "balance = ‸3", "found a whole number", "balance = \"…\"");
}

#[test]
fn checks_of_upstreams_can_be_made() {
    let checked = |lines: &str| format!("connect_seconds = 5\n[upstreams.health]\n{lines}");
    let bad = |lines: &str, reason: &str, remedy: &str| {
        check("connect_seconds = 5", &checked(lines), reason, remedy);
    };
    bad("kind = ‸\"ping\"", "no kind of check called `ping`", "`http`, `tcp` or `grpc`");
    bad("kind = \"http\"\npath = ‸\"healthz\"", "`healthz` is no path", "begin it with a slash");
    bad("kind = \"http\"\npath = ‸\"/a b\"", "`/a b` is no path", "as it is sent");
    bad("kind = \"tcp\"\npath = ‸\"/\"", "`path` has no meaning with `kind = \"tcp\"`", "remove it");
    bad("kind = \"tcp\"\nservice = ‸\"a\"", "`service` has no meaning", "remove it");
    bad("kind = ‸\"grpc\"", "gRPC needs HTTP/2", "protocol = \"http2\"");
    bad(
        "kind = \"tcp\"\ninterval_seconds = 2\ntimeout_seconds = ‸3",
        "a check may take 3 seconds, and the next is due after 2",
        "no more than `interval_seconds`",
    );
    bad("kind = \"http\"\npath = \"/\"\nexpected_status = ‸99", "out of range: 99", "100 to 599");
}

#[test]
fn resolvers_are_addresses() {
    check("connect_seconds = 5", "resolvers = [‸\"10.0.0.1\"]", "is no address with a port", "add a port");
    check(
        "connect_seconds = 5",
        "resolvers = [‸\"ns.internal:53\"]",
        "is no address with a port",
        "IP address",
    );
    check(
        "connect_seconds = 5",
        "resolvers = [‸\"10.0.0.1:0\"]",
        "no server answers at port 0",
        "usually 53",
    );
}

#[test]
fn unix_sockets_have_absolute_paths() {
    check("\"localhost:9200\"", "‸\"unix:search.sock\"", "is no Unix socket", "absolute path");
    check("\"localhost:9200\"", "‸\"unix:/run/\"", "is no Unix socket", "absolute path");
    let long = format!("‸\"unix:/{}\"", "x".repeat(107));
    check("\"localhost:9200\"", &long, "no path of that length", "107 bytes");
    check("\"localhost:9200\"", "\"unix:/a\", ‸\"unix:/a\"", "listed twice, first on line 17", "once");
}

#[test]
fn a_certificate_needs_its_key_and_a_unix_socket_a_name() {
    let table = "[upstreams.credential]\nkind";
    check(
        table,
        &format!("‸[upstreams.tls]\nkey_file = \"key.pem\"\n{table}"),
        "`tls` needs `certificate_file`",
        "add",
    );
    let marked = GOOD.replace("\"localhost:9200\"", "\"unix:/run/search.sock\"").replacen(
        table,
        &format!("[upstreams.tls]\n{table}"),
        1,
    );
    let error = parse(&marked).unwrap_err();
    let [problem] = &error.problems[..] else { panic!("not one problem:\n{error}") };
    assert!(problem.reason.contains("cannot be checked without a name"), "{error}");
    assert!(problem.remedy.contains("server_name"), "{error}");
}

#[test]
fn rests_of_addresses_grow() {
    check(
        "connect_seconds = 5",
        "connect_seconds = 5\n[upstreams.ejection]\nrest_seconds = 30\nlongest_rest_seconds = ‸20",
        "the longest rest, 20 seconds, is shorter than the first, 30",
        "no less than `rest_seconds`",
    );
}

#[test]
fn routes_are_matched_in_one_way_only() {
    check(
        "upstream = \"search\"",
        "upstream = ‸\"serch\"",
        "no upstream named `serch`",
        "did you mean `search`?",
    );
    check(
        "upstream = \"search\"",
        "upstream = ‸\"x\"",
        "no upstream named `x`",
        "name one of `metrics`, `search`",
    );
    check(
        "[[routes]]\nhosts = [\"metrics.example.com\"]",
        "‸[[routes]]\nhosts = [\"x.example.com\", \"SEARCH.example.com\"]",
        "two routes are alike: this one on line 32 and the one on line 26 are both for `search.example.com` and `/`",
        "remove one",
    );
    check(
        "[[routes]]\nhosts = [\"metrics.example.com\"]",
        "[[routes]]\nname = \"a.com/\"\nauthentication = \"off\"\nupstream = \"search\"\n‸[[routes]]\nhosts = [\"a.com\"]",
        "this route is called `a.com/` like another one on line 33",
        "a `name` of its own",
    );
    check("[\"search.example.com\"]", "[\"a.com\", ‸\"A.com\"]", "the host `a.com` is listed twice", "once");
    check(
        "[[routes]]\nhosts = [\"metrics.example.com\"]",
        "[[routes]]\nname = ‸\"none\"\nhosts = [\"metrics.example.com\"]",
        "`none` is what metrics call requests that match no route",
        "another name",
    );
}

#[test]
fn hosts_and_paths_have_one_spelling() {
    let host = "is no host that a route can have";
    check("\"search.example.com\"", "‸\"search.example.com:80\"", host, "leave the port out");
    check("\"search.example.com\"", "‸\"https://search.example.com\"", host, "`search.example.com`");
    check("\"search.example.com\"", "‸\"search.example.com/x\"", host, "`path_prefix = \"/x\"`");
    check("\"search.example.com\"", "‸\"search.example.com.\"", host, "leave the last dot out");
    check("\"search.example.com\"", "‸\"*\"", host, "leave `hosts` out");
    check("\"search.example.com\"", "‸\"a.*.com\"", host, "`*.example.com`");
    check("\"search.example.com\"", "‸\"bücher.de\"", host, "xn--");
    check("\"search.example.com\"", "‸\"-a.com\"", host, "such as `api.example.com`");
    check("\"search.example.com\"", "‸\"::1\"", host, "`[::1]`");
    let prefix = "is no path prefix";
    check("path_prefix = \"/\"", "path_prefix = ‸\"api\"", prefix, "begin it with a slash: `/api`");
    check("path_prefix = \"/\"", "path_prefix = ‸\"\"", prefix, "begin it with a slash");
    check("path_prefix = \"/\"", "path_prefix = ‸\"/api/\"", prefix, "leave the last slash out");
    check("path_prefix = \"/\"", "path_prefix = ‸\"/a//b\"", prefix, "single slashes");
    check("path_prefix = \"/\"", "path_prefix = ‸\"//\"", prefix, "single slashes");
    check("path_prefix = \"/\"", "path_prefix = ‸\"/a/../b\"", prefix, "segments of dots");
    check("path_prefix = \"/\"", "path_prefix = ‸\"/a?b\"", prefix, "leave the query out");
    check("path_prefix = \"/\"", "path_prefix = ‸\"/a#b\"", prefix, "leave the fragment out");
    check("path_prefix = \"/\"", "path_prefix = ‸\"/a%20b\"", prefix, "write it decoded");
    check("path_prefix = \"/\"", "path_prefix = ‸\"/a*\"", prefix, "leave the star out");
    check("path_prefix = \"/\"", "path_prefix = ‸\"/a b\"", prefix, "use letters");
}

/// Spoils the first route by further lines.
#[track_caller]
fn check_route(lines: &str, reason: &str, remedy: &str) {
    check("path_prefix = \"/\"\n", &format!("{lines}\n"), reason, remedy);
}

#[test]
fn routes_match_by_what_can_be_told_apart() {
    let prefix = "is no path prefix";
    check_route("path_prefix = ‸\"/a{b}\"", prefix, "a parameter is a whole segment");
    check_route("path_prefix = ‸\"/{}\"", prefix, "a parameter is a whole segment");
    check_route("path_prefix = ‸\"/{a-b}\"", prefix, "a parameter is a whole segment");
    check_route(
        "path_prefix = ‸\"/{a}/x/{a}\"",
        "it has the parameter `a` twice",
        "call one of them otherwise",
    );
    check_route("path = ‸\"/a/\"", "is no path", "leave the last slash out: `/a`");
    check_route("path = ‸\"/a/*\"", "is no path", "leave the star out");
    check_route("path_prefix = \"/\"\npath = ‸\"/a\"", "either `path` or `path_prefix`", "remove one");
    check_route("methods = [‸\"get\"]", "`get` is no method", "`GET`");
    check_route("methods = [‸\"TRACE\"]", "`TRACE` is no method", "refused on every route");
    check_route("methods = [‸\"G T\"]", "is no method", "name a method such as `GET`");
    check_route("match_headers = { ‸Authorization = \"x\" }", "holds credentials", "another header");
    check_route(
        "match_headers = { ‸\"a b\" = true }",
        "is no name of a header",
        "letters, digits and dashes",
    );
    check_route(
        "match_headers = { x-a = ‸1 }",
        "expected a string, `true` or `false`",
        "`x-a = true` for any value",
    );
    check_route(
        "match_query = ‸[\"a\"]",
        "expected a table of names and values",
        "`match_query = { name = … }`",
    );
    check_route("encoded_slashes = ‸\"decode\"", "`encoded_slashes` cannot be `decode`", "write `refuse`");
    let alike =
        "two routes are alike: this one on line 39 and the one on line 26 are both for `search.example.com`";
    check(
        "path_prefix = \"/\"\nproject = \"demo\"\nservice = \"search\"\nupstream = \"search\"\n[[routes]]\nhosts = [\"metrics.example.com\"]",
        "path = \"/{a}/b\"\nmatch_query = { x = \"1\" }\nproject = \"demo\"\nservice = \"search\"\nupstream = \"search\"\n\
         [[routes]]\nhosts = [\"search.example.com\"]\nname = \"other\"\npath = \"/{c}/b\"\nupstream = \"search\"\nauthentication = \"off\"\n\
         ‸[[routes]]\nhosts = [\"search.example.com\"]\nname = \"alike\"\npath = \"/{d}/b\"\nmatch_query = { x = \"1\" }",
        alike,
        "another host, path or conditions",
    );
}

#[test]
fn routes_change_only_what_they_may() {
    for (name, why) in [
        ("X-Postern-User-Id", "which only a decision may say"),
        ("x_postern_project", "which only a decision may say"),
        ("authorization", "`pass_authorization`"),
        ("host", "postern itself"),
        ("x-forwarded-for", "postern itself"),
        ("forwarded", "postern itself"),
        ("traceparent", "postern itself"),
        ("x-original-url", "postern itself"),
        ("keep-alive", "postern itself"),
        ("expect", "postern itself"),
        ("content-length", "where a message ends"),
        ("Content_Length", "where a message ends"),
        ("transfer-encoding", "where a message ends"),
        ("connection", "where a message ends"),
        ("te", "where a message ends"),
        ("sec-websocket-key", "a WebSocket's handshake"),
    ] {
        for change in ["set = { ‸\"NAME\" = \"x\" }", "add = { ‸\"NAME\" = \"x\" }", "remove = [‸\"NAME\"]"]
        {
            let lines = format!("request_headers = {{ {} }}", change.replace("NAME", name));
            check_route(&lines, why, "leave it out");
        }
    }
    for (name, why) in [
        ("X-Postern-Request-Id", "which only a decision may say"),
        ("content-length", "where a message ends"),
        ("proxy-authenticate", "concerns one connection"),
        ("date", "when a message was made"),
    ] {
        let lines = format!("response_headers = {{ set = {{ ‸\"{name}\" = \"x\" }} }}");
        check_route(&lines, why, "leave it out");
    }
    let bad_value = "request_headers = { set = { x-key = ‸\"canary-1f9a7c\\r\\nX: y\" } }";
    check_route(bad_value, "cannot carry this value", "in one line");
    check_route("request_headers = { remove = [‸\"a:b\"] }", "no name of a header", "letters, digits");
    check_route("permissions = { ‸delete = \"service:data:write\" }", "`delete` is no method", "`DELETE`");
    check_route("permissions = { DELETE = ‸\"developer\" }", "is a role", "the one permission");
    check(
        "authentication = \"off\"",
        "authentication = \"off\"\npermissions = { DELETE = ‸\"service:data:write\" }",
        "`DELETE` is never asked for where `authentication` is off",
        "remove it",
    );
    check(
        "authentication = \"off\"",
        "authentication = \"off\"\ncors_preflight = ‸\"pass\"",
        "no meaning where `authentication` is off",
        "remove one",
    );
    let upstream = "upstream = \"metrics\"\nauthentication = \"off\"\n";
    let open = "upstream = \"metrics\"\nauthentication = \"off\"\ncredentials = ‸[\"basic\"]\n";
    check(upstream, open, "never asked for where `authentication` is off", "remove one");
    check_route("credentials = ‸[]", "taken from nowhere", "at least one");
    check_route("credentials = [‸\"cookie\"]", "not taken from `cookie`", "some of `bearer`");
    check_route("credentials = [\"basic\", ‸\"basic\"]", "listed twice", "once");
    check_route("query_parameter = ‸\"a b\"", "no name of a parameter", "1 to 64 letters");
    let in_the_clear = "credentials = [\"query\"]\nredirect = ‸\"https\"";
    check_route(in_the_clear, "sent in the clear", "remove `redirect`");
    check_route("cors_preflight = ‸\"off\"", "`cors_preflight` cannot be `off`", "write `pass`");
}

#[test]
fn no_upgrade_hides_requests_from_decisions() {
    for name in ["h2c", "H2C", "h2", "HTTP/2.0", "http2", "HTTP/1.1"] {
        check_route(&format!("upgrades = [‸\"{name}\"]"), "nobody would decide about them", "leave it out");
    }
    for name in ["TLS/1.0", "tls", "TLS"] {
        check_route(&format!("upgrades = [\"tcp\", ‸\"{name}\"]"), "from every decision", "leave it out");
    }
    check_route("upgrades = [‸\"WebSocket\"]", "WebSockets pass on every route", "leave it out");
    check_route("upgrades = [‸\"websocket/13\"]", "WebSockets pass on every route", "leave it out");
    for name in ["", "a b", "tcp, h2c", "a/b/c", "tcp/", "/1", "a\\r\\nX: y", "täp", &"a".repeat(65)] {
        check_route(&format!("upgrades = [‸\"{name}\"]"), "no name of a protocol", "SPDY/3.1");
    }
    check_route("upgrades = [\"tcp\", ‸\"TCP\"]", "listed twice", "capitals make no difference");
    check(
        "upstream = \"metrics\"\n",
        "upgrades = ‸[\"tcp\"]\nresponse = { status = 200 }\n",
        "`upgrades` has no meaning where nothing is sent on",
        "name an `upstream`",
    );
    let http2 = GOOD.replacen(
        "endpoints = [\"127.0.0.1:9090\"]",
        "endpoints = [\"127.0.0.1:9090\"]\nprotocol = \"http2\"",
        1,
    );
    let with =
        http2.replacen("authentication = \"off\"", "authentication = \"off\"\nupgrades = [\"tcp\"]", 1);
    assert!(parse(&http2).is_ok());
    let error = parse(&with).unwrap_err();
    let [problem] = &error.problems[..] else { panic!("not one problem:\n{error}") };
    assert_eq!(problem.key, "routes[1].upgrades");
    assert!(problem.reason.contains("speaks HTTP/2, which has no `Upgrade`"), "{error}");
    let config = parse(&GOOD.replacen(
        "authentication = \"off\"",
        "authentication = \"off\"\nupgrades = [\"tcp\", \"SPDY/3.1\"]",
        1,
    ));
    assert_eq!(config.unwrap().routes[1].upgrades, ["tcp", "SPDY/3.1"]);
}

#[test]
fn limits_limit_something() {
    check_route("rate_limit = ‸{}", "this limits nothing", "`requests`, `concurrent_requests` or both");
    check_route("token_rate_limit = ‸{ per_seconds = 5 }", "this limits nothing", "or remove the table");
    let burst = "rate_limit = { burst = ‸5, concurrent_requests = 1 }";
    check_route(burst, "a burst of no rate has no meaning", "add `requests`");
    check_route("rate_limit = { requests = ‸0 }", "out of range", "from 1 to");
    check_route("rate_limit = { requests = ‸\"5\" }", "expected a whole number", "without quotes");
    check(
        "authentication = \"off\"",
        "authentication = \"off\"\ntoken_rate_limit = ‸{ requests = 1 }",
        "limits nothing where `authentication` is off",
        "use `rate_limit`",
    );
    check(
        "[usage]",
        "[authentication_throttle]\nipv4_prefix_bits = ‸33\n[usage]",
        "out of range",
        "from 8 to 32",
    );
}

#[test]
fn routes_answer_in_one_way() {
    check_route(
        "rewrite = ‸\"/{tenant}\"",
        "the path `/` has no parameter `tenant`",
        "put `{tenant}` into the path",
    );
    check_route("rewrite = ‸\"x\"", "is no path", "begin it with a slash");
    check_route("rewrite = ‸\"/a/../b\"", "is no path", "segments of dots");
    check_route("redirect = ‸\"http\"", "`redirect` cannot be `http`", "write `https`");
    check_route("redirect = ‸\"https:0\"", "`redirect` cannot be `https:0`", "`https:8443`");
    check_route(
        "total_seconds = 5\nresponse_header_seconds = ‸6",
        "the whole may take 5 seconds, so its head cannot take 6",
        "raise `total_seconds`",
    );
    let upstream = "upstream = \"metrics\"\n";
    check(
        upstream,
        "upstream = ‸\"metrics\"\nresponse = { status = 200 }\n",
        "has no upstream",
        "remove `upstream`",
    );
    check(upstream, "response = { status = ‸600 }\n", "out of range", "from 200 to 599");
    check(
        upstream,
        "response = { status = ‸204, body = \"x\" }\n",
        "the status 204 has no body",
        "leave `body` out",
    );
    check(upstream, "response = { status = 200, content_type = ‸\"text\" }\n", "no type", "`text/plain`");
    check(
        upstream,
        "response = { status = 200 }\nrewrite = ‸\"/x\"\n",
        "`rewrite` has no meaning where nothing is sent on",
        "name an `upstream`",
    );
    check(
        "[[routes]]\nhosts = [\"metrics.example.com\"]\nupstream = \"metrics\"\n",
        "‸[[routes]]\nhosts = [\"metrics.example.com\"]\n",
        "missing key `upstream`",
        "or a `[routes.response]`",
    );
}

#[test]
fn no_mistake_opens_a_route() {
    for word in ["none", "Off", "false", "", "on", "required"] {
        let to = format!("authentication = ‸\"{word}\"");
        let spoilt = GOOD.replacen("authentication = \"off\"", &to.replace('‸', ""), 1);
        let error = parse(&spoilt).unwrap_err();
        assert!(error.problems.iter().any(|problem| problem.key == "routes[1].authentication"), "{error}");
    }
    check(
        "= \"off\"\n",
        "= ‸false\nproject = \"p\"\nservice = \"s\"\n",
        "expected a string, found a boolean",
        "double quotes",
    );
}

#[test]
fn permissions_are_known() {
    let with = |name: &str| format!("upstream = \"search\"\nwrite_permission = ‸\"{name}\"");
    check(
        "upstream = \"search\"",
        &with("service:data:wrte"),
        "no permission",
        "did you mean `service:data:write`?",
    );
    check("upstream = \"search\"", &with("developer"), "is a role", "`service:data:write`");
    check("upstream = \"search\"", &with("user:read"), "nobody can be granted", "`service:data:write`");
    check("\"off\"", "\"off\"\nread_permission = ‸\"project:services:read\"", "never asked for", "remove");
}

#[test]
fn organizations_policies_and_logs_are_checked() {
    check("\"org1a2b3c4d5e6\"", "‸\"\"", "is no name", "1 to 64 letters");
    check("\"Example\"", "‸\"a\\\"b\"", "is no name of an organization", "without quotes");
    check("oauth_enabled = false", "‸oauth_enable = false", "unknown key", "did you mean `oauth_enabled`?");
    check("oauth_enabled = false", "allowed_ip_ranges = [‸\"10/8\"]", "is no network", "prefix length");
    check("\"info\"", "‸\"inf\"", "no log level `inf`", "did you mean `info`?");
    check("\"info\"", "‸\"info,postern=loud\"", "is no log filter", "info,postern=debug");
    check("\"info\"", "\"info\"\nformat = ‸\"yaml\"", "no log format `yaml`", "`text` or `json`");
    check("\"stdout\"", "‸\"/nonexistent/access.log\"", "no folder `/nonexistent`", "make the folder");
    check("\"stdout\"", "‸\"/\"", "is a folder", "name a file");
}

#[test]
fn signing_in_through_others_is_checked() {
    let admin = |lines: &str| format!("[admin]\n{lines}\n[organization]");
    let party = |lines: &str| {
        admin(&format!(
            "[[admin.third_parties]]\nclient_id = \"id\"\nclient_secret = \"canary-1f9a7c\"\n{lines}"
        ))
    };
    let place = "[organization]";
    check(place, &admin("public_url = ‸\"postern.example.com\""), "no public address", "`https://");
    check(place, &admin("public_url = ‸\"http://postern.example.com\""), "no public address", "`https://`");
    check(place, &admin("public_url = ‸\"https://postern.example.com/?x\""), "no public address", "leave");
    check(place, &party("kind = ‸\"gitlab\""), "no third party `gitlab`", "identity providers");
    check(
        place,
        &party("kind = \"github\"\nissuer = ‸\"https://github.com\""),
        "`issuer` has no meaning",
        "remove it",
    );
    check(
        place,
        &party("kind = \"google\"\nuser_endpoint = ‸\"https://github.com\""),
        "`user_endpoint` has no meaning",
        "remove it",
    );
    check(place, &party("kind = \"google\"\nissuer = ‸\"accounts\""), "is no address", "whole address");
    check(place, &party("kind = \"google\"\nissuer = ‸\"http://a.example\""), "is no address", "https://");
    check(
        place,
        &party(
            "kind = \"google\"\n[[admin.third_parties]]\nclient_id = \"id\"\nclient_secret = \"x\"\nkind = ‸\"google\"",
        ),
        "set up twice",
        "once",
    );
    check(
        place,
        &admin("[admin.http]\nprivate_networks = [‸\"10.0.0.1\"]"),
        "is no network",
        "`10.0.0.1/32`",
    );
    check(place, &admin("[admin.http]\nca_file = ‸\"/nonexistent\""), "cannot read", "");
    check(
        place,
        &admin("[admin.resolver]\naddresses = [‸\"dns.example\"]"),
        "no address of a name server",
        "9.9.9.9",
    );
}

#[test]
fn secrets_have_one_place_and_are_never_shown() {
    let secret = "\"canary-1f9a7c\"";
    check(
        secret,
        "{ env = ‸\"POSTERN_TEST_NOT_SET\" }",
        "`POSTERN_TEST_NOT_SET` is not set",
        "set `POSTERN_TEST",
    );
    check(secret, "‸{}", "not said where the secret is", "`{ env = \"NAME\" }`");
    check(secret, "‸{ env = \"A\", file = \"b\" }", "in one place", "not both");
    check(secret, "{ env = ‸\"canary-1f9a7c\" }", "no name of an environment variable", "name a variable");
    check(
        secret,
        "{ file = ‸\"/nonexistent/x\" }",
        "cannot read the secret file `/nonexistent/x`: there is no",
        "make",
    );
    check(secret, "{ file = ‸\"/tmp\" }", "not a regular file", "correct the path");
    check(secret, "‸\"\"", "the secret is empty", "`{ env");
    check(secret, "‸[\"canary-1f9a7c\"]", "expected a secret, found a list", "`{ env");
    check(
        "path = \"postern.db\"\n",
        "path = \"postern.db\"\n‸p.assword = \"canary-1f9a7c\"\n",
        "key `p`",
        "remove",
    );
    check("password = ", "‸pasword = ", "unknown key `pasword`", "did you mean `password`?");
    check("kind = \"basic\"", "kind = ‸\"Basic canary-1f9a7c\"", "no such kind", "`kind = \"bearer\"`");
    check(
        "kind = \"basic\"\nusername = \"postern\"\npassword = ",
        "kind = \"bearer\"\ntoken = \"x\"\npassword = ‸",
        "`password` has no meaning",
        "",
    );
    check("username = \"postern\"", "username = ‸\"a:b\"", "no user name", "without colons");
    check(
        "password = \"canary-1f9a7c\"",
        "password = ‸\"canary-1f9a7c\\n\"",
        "control characters",
        "take line breaks",
    );
    check(
        "kind = \"basic\"\nusername = \"postern\"\npassword = \"canary",
        "kind = \"bearer\"\ntoken = ‸\"Bearer canary",
        "cannot stand in a header",
        "without `Bearer`",
    );
    // The same line as another problem, in a table that is no table, and in a comment behind it.
    check(
        "[upstreams.credential]\nkind = \"basic\"\nusername = \"postern\"\npassword = \"canary-1f9a7c\"",
        "credential = { kind = \"bearer\", ‸tokn = \"canary-1f9a7c\" } # canary-1f9a7c",
        "unknown key `tokn`",
        "did you mean `token`?",
    );
    check(
        "[upstreams.credential]\nkind = \"basic\"\nusername = \"postern\"\npassword = \"canary-1f9a7c\"",
        "credential = ‸\"canary-1f9a7c\"",
        "expected a table, found a string",
        "`[upstreams.credential]`, with the keys",
    );
}

#[test]
fn broken_syntax_has_a_place_and_shows_no_secret() {
    check("workers = 2", "workers = ‸two", "this is not TOML", "double quotes");
    check("[store]", "[store‸", "this is not TOML", "`[table]`");
    check(
        "oauth_enabled = false",
        "oauth_enabled = false\n‸oauth_enabled = true",
        "duplicate key",
        "keep one",
    );
    check("password = \"canary-1f9a7c\"", "password = ‸canary-1f9a7c", "this is not TOML", "double quotes");
    check("password = \"canary-1f9a7c\"", "password = \"canary-1f9a7c‸", "this is not TOML", "");
    check("[usage]", "pass ‸word canary-1f9a7c\n[usage]", "this is not TOML", "");
    let line = parse("name = \"a\" x").unwrap_err().problems[0].excerpt.clone().unwrap().source_line;
    assert_eq!(line, "name = \"a\" x", "harmless lines are shown whole");
}

#[test]
fn all_problems_come_in_one_report() {
    let text = GOOD
        .replace("workers = 2", "workers = \"2\"")
        .replace("[ops]\naddress", "[ops]\nadress")
        .replace("read_seconds = 10", "read_seconds = \"10s\"")
        .replace("upstream = \"search\"", "upstream = \"serch\"")
        .replace("\"localhost:9200\"", "\"localhost\"")
        .replace("\"canary-1f9a7c\"", "{ file = \"/nonexistent/password\" }")
        .replace("output = \"stdout\"", "output = \"/nonexistent/access.log\"");
    let error = parse(&text).unwrap_err();
    let keys: Vec<_> = error.problems.iter().map(|problem| problem.key.as_str()).collect();
    let expected = [
        "workers",
        "ops.adress",
        "upstreams[0].endpoints[0]",
        "upstreams[0].credential.password.file",
        "routes[0].upstream",
        "timeouts.header_read_seconds",
        "logging.access_log.output",
    ];
    assert_eq!(keys, expected, "\n{error}");
    assert_eq!(error.referenced_files, [Path::new("/nonexistent/password")]);
    assert!(error.to_string().ends_with("/etc/postern/postern.toml: 7 problems"), "{error}");
}

#[test]
fn a_report_reads_like_a_compilers() {
    let error = parse(&GOOD.replace("workers = 2", "\tworkers = \"2\"")).unwrap_err();
    let expected = "\
error: expected a whole number, found a string
  --> /etc/postern/postern.toml:1:12
  |
1 | \tworkers = \"2\"
  | \t          ^^^
  = remedy: write `workers = 2`, without quotes

/etc/postern/postern.toml: 1 problem";
    assert_eq!(error.to_string(), expected);
    let Problem { key, value, .. } = &error.problems[0];
    assert_eq!((key.as_str(), value.as_deref()), ("workers", Some("\"2\"")));
}

#[test]
fn files_that_cannot_be_read_are_one_problem() {
    let folder = tempfile::tempdir().unwrap();
    let reason = |path: &Path| Config::load(path).unwrap_err().problems[0].reason.clone();
    assert!(reason(&folder.path().join("none.toml")).ends_with("there is no such file"));
    assert!(reason(folder.path()).ends_with("it is not a regular file"));
    let binary = folder.path().join("binary.toml");
    std::fs::write(&binary, b"workers = 1\n\xff").unwrap();
    assert_eq!(reason(&binary), "line 2 of the configuration file is not UTF-8 text");
}

mod mutations {
    //! Whatever a slip of the hand makes of a good file: no panic, and no secret in the report.

    use proptest::prelude::*;

    use super::{GOOD, assert_secret, parse};

    #[derive(Clone, Debug)]
    enum Slip {
        Delete(usize),
        Insert(usize, char),
        DropLine(usize),
        RepeatLine(usize),
    }

    fn slip() -> impl Strategy<Value = Slip> {
        let at = 0..GOOD.len();
        let line = 0..GOOD.lines().count();
        let character = proptest::sample::select("\"'=[]{}#., \n\\a0\u{1b}é".chars().collect::<Vec<_>>());
        prop_oneof![
            4 => at.clone().prop_map(Slip::Delete),
            4 => (at, character).prop_map(|(at, character)| Slip::Insert(at, character)),
            1 => line.clone().prop_map(Slip::DropLine),
            1 => line.prop_map(Slip::RepeatLine),
        ]
    }

    fn apply(text: &str, slip: &Slip) -> String {
        let characters: Vec<char> = text.chars().collect();
        let lines = text.split_inclusive('\n').enumerate();
        match *slip {
            Slip::Delete(at) => {
                let kept = characters.iter().enumerate().filter(|(index, _)| *index != at);
                kept.map(|(_, character)| character).collect()
            }
            Slip::Insert(at, new) => {
                let (before, after) = characters.split_at(at.min(characters.len()));
                before.iter().chain([&new]).chain(after).collect()
            }
            Slip::DropLine(at) => lines.filter(|(index, _)| *index != at).map(|(_, line)| line).collect(),
            Slip::RepeatLine(at) => lines
                .flat_map(|(index, line)| std::iter::repeat_n(line, 1 + usize::from(index == at)))
                .collect(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn slips_neither_panic_nor_show_a_secret(slips in proptest::collection::vec(slip(), 1..4)) {
            let text = slips.iter().fold(GOOD.to_owned(), |text, slip| apply(&text, slip));
            if let Err(error) = parse(&text) {
                prop_assert!(!error.problems.is_empty());
                assert_secret(&error);
            }
        }
    }
}
