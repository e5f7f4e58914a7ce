//! The TOML's shape: every table, every key, its type, range and default. What the values mean is in
//! [`super::resolve`]; what an operator reads about them, in `config/postern.toml`, which a test holds against
//! this list.

use super::decode::Presence::{Default, Derived, Optional, Required};
use super::decode::table;
use super::map::{Map, TextOrPresence};
use super::number::{Bytes, Count, Seconds};
use super::report::Located;
use super::secret::SecretReference;

type List<T> = Vec<Located<T>>;

table! {
    /// The file's top level.
    FileConfig = "" {
        workers: Count<1, 1024> = Derived("one per core"),
        core_dumps: bool = Default("false"),
        store: StoreTable = Required,
        listeners: List<ListenerTable> = Required,
        ops: OpsTable = Default("{}"),
        admin: AdminTable = Optional,
        organization: OrganizationTable = Required,
        upstreams: List<UpstreamTable> = Required,
        routes: List<RouteTable> = Required,
        authentication_throttle: AuthenticationThrottleTable = Optional,
        usage: UsageTable = Default("{}"),
        events: EventsTable = Default("{}"),
        tokens: TokensTable = Default("{}"),
        identity_token: IdentityTokenTable = Optional,
        limits: LimitsTable = Default("{}"),
        timeouts: TimeoutsTable = Default("{}"),
        logging: LoggingTable = Default("{}"),
        tracing: TracingTable = Optional,
    }
}

table! {
    StoreTable = "[store]" {
        path: String = Required,
        create_if_missing: bool = Default("false"),
        stale_after_seconds: Seconds<1, 31_536_000> = Optional,
    }
}

table! {
    ListenerTable = "[[listeners]]" {
        name: String = Required,
        address: String = Required,
        mode: String = Derived("\"0600\" for a Unix socket"),
        trusted_proxies: List<String> = Default("[]"),
        proxy_protocol: String = Default("\"off\""),
        proxy_protocol_from: List<String> = Default("[]"),
        connections: Count<1, 1_000_000> = Derived("as many as `[limits]` leaves"),
        header_read_seconds: Seconds<1, 300> = Derived("as under `[timeouts]`"),
        idle_seconds: Seconds<1, 86_400> = Derived("as under `[timeouts]`"),
        tls: ListenerTlsTable = Optional,
    }
}

table! {
    ListenerTlsTable = "[listeners.tls]" {
        require_tls13: bool = Default("false"),
        certificates: List<CertificateTable> = Required,
        client_certificates: ClientCertificatesTable = Optional,
    }
}

table! {
    ClientCertificatesTable = "[listeners.tls.client_certificates]" {
        ca_file: String = Required,
        mode: String = Default("\"required\""),
        crl_file: String = Optional,
    }
}

table! {
    CertificateTable = "[[listeners.tls.certificates]]" {
        certificate_file: String = Required,
        key_file: String = Required,
    }
}

table! {
    OpsTable = "[ops]" {
        address: String = Default("\"127.0.0.1:9464\""),
    }
}

table! {
    /// Where the management API is; left out, there is none.
    AdminTable = "[admin]" {
        address: String = Default("\"127.0.0.1:8181\""),
        public_url: String = Optional,
        trusted_proxies: List<String> = Default("[]"),
        tls: AdminTlsTable = Optional,
        third_parties: List<ThirdPartyTable> = Default("[]"),
        http: AdminHttpTable = Default("{}"),
        resolver: AdminResolverTable = Default("{}"),
        login: LoginTable = Default("{}"),
    }
}

table! {
    ThirdPartyTable = "[[admin.third_parties]]" {
        kind: String = Required,
        client_id: String = Required,
        client_secret: SecretReference = Required,
        issuer: String = Derived("the third party's own"),
        authorization_endpoint: String = Derived("what the issuer publishes, or GitHub's own"),
        token_endpoint: String = Derived("what the issuer publishes, or GitHub's own"),
        user_endpoint: String = Derived("GitHub's own"),
        emails_endpoint: String = Derived("GitHub's own"),
    }
}

table! {
    AdminHttpTable = "[admin.http]" {
        ca_file: String = Optional,
        connect_seconds: Seconds<1, 60> = Default("5"),
        total_seconds: Seconds<1, 50> = Default("15"),
        private_networks: List<String> = Default("[]"),
        domain_check_port: Count<1, 65_535> = Default("443"),
    }
}

table! {
    AdminResolverTable = "[admin.resolver]" {
        addresses: List<String> = Default("[]"),
    }
}

table! {
    /// How people log in; the same numbers are [`super::LoginConfig`]'s default.
    LoginTable = "[admin.login]" {
        argon2_memory_kib: Count<8_192, 4_194_304> = Default("19456"),
        argon2_iterations: Count<1, 100> = Default("2"),
        argon2_parallelism: Count<1, 64> = Default("1"),
        concurrent_hashes: Count<1, 64> = Default("2"),
        session_idle_seconds: Seconds<600, 31_536_000> = Default("604800"),
        session_absolute_seconds: Seconds<600, 315_360_000> = Default("2592000"),
        free_attempts: Count<1, 1_000> = Default("5"),
        longest_delay_seconds: Seconds<1, 86_400> = Default("900"),
        source_attempts: Count<1, 100_000> = Default("20"),
        source_refill_seconds: Seconds<1, 3_600> = Default("6"),
    }
}

table! {
    AdminTlsTable = "[admin.tls]" {
        require_tls13: bool = Default("false"),
        certificates: List<AdminCertificateTable> = Required,
    }
}

table! {
    AdminCertificateTable = "[[admin.tls.certificates]]" {
        certificate_file: String = Required,
        key_file: String = Required,
    }
}

table! {
    OrganizationTable = "[organization]" {
        id: String = Required,
        name: String = Derived("the id"),
        authentication: AuthenticationTable = Optional,
    }
}

table! {
    /// A pinned authentication policy; what is absent is as in a new organization.
    AuthenticationTable = "[organization.authentication]" {
        password_auth_enabled: bool = Default("true"),
        two_factor_required: bool = Default("false"),
        oauth_enabled: bool = Default("true"),
        saml_enabled: bool = Default("true"),
        saml_allow_external: bool = Default("true"),
        personal_tokens_enabled: bool = Default("true"),
        personal_tokens_require_allowed_auth_method: bool = Default("false"),
        mcp_enabled: bool = Default("true"),
        allowed_ip_ranges: List<String> = Default("[]"),
    }
}

table! {
    UpstreamTable = "[[upstreams]]" {
        name: String = Required,
        endpoints: List<String> = Required,
        resolvers: List<String> = Default("[]"),
        protocol: String = Default("\"http1\""),
        balance: String = Default("\"round_robin\""),
        connect_seconds: Seconds<1, 300> = Default("5"),
        response_header_seconds: Seconds<1, 86_400> = Default("60"),
        idle_seconds: Seconds<1, 86_400> = Default("60"),
        idle_connections: Count<0, 10_000> = Default("64"),
        health: HealthTable = Optional,
        ejection: EjectionTable = Optional,
        retries: RetriesTable = Optional,
        limits: UpstreamLimitsTable = Default("{}"),
        tls: UpstreamTlsTable = Optional,
        credential: CredentialTable = Optional,
        identity_token: UpstreamIdentityTokenTable = Optional,
    }
}

table! {
    HealthTable = "[upstreams.health]" {
        kind: String = Required,
        path: String = Optional,
        expected_status: Count<100, 599> = Optional,
        service: String = Optional,
        interval_seconds: Seconds<1, 3600> = Default("5"),
        timeout_seconds: Seconds<1, 300> = Default("2"),
        healthy_threshold: Count<1, 100> = Default("2"),
        unhealthy_threshold: Count<1, 100> = Default("3"),
    }
}

table! {
    EjectionTable = "[upstreams.ejection]" {
        consecutive_failures: Count<1, 1000> = Default("5"),
        rest_seconds: Seconds<1, 3600> = Default("10"),
        longest_rest_seconds: Seconds<1, 86_400> = Default("300"),
        return_seconds: Seconds<0, 3600> = Default("10"),
        most_percent: Count<1, 100> = Default("50"),
    }
}

table! {
    RetriesTable = "[upstreams.retries]" {
        most_per_request: Count<1, 10> = Default("1"),
        budget_percent: Count<0, 100> = Default("20"),
        least_per_second: Count<0, 10_000> = Default("10"),
        statuses: List<Count<500, 599>> = Default("[]"),
    }
}

table! {
    UpstreamLimitsTable = "[upstreams.limits]" {
        concurrent_requests: Count<1, 1_000_000> = Optional,
        pending_connections: Count<1, 1_000_000> = Optional,
    }
}

table! {
    UpstreamTlsTable = "[upstreams.tls]" {
        ca_file: String = Derived("the system's authorities"),
        certificate_file: String = Optional,
        key_file: String = Optional,
        server_name: String = Derived("the endpoint's host"),
    }
}

table! {
    CredentialTable = "[upstreams.credential]" {
        kind: String = Required,
        username: String = Optional,
        password: SecretReference = Optional,
        token: SecretReference = Optional,
    }
}

table! {
    UpstreamIdentityTokenTable = "[upstreams.identity_token]" {
        audience: String = Required,
        request_id: bool = Default("false"),
    }
}

table! {
    RouteTable = "[[routes]]" {
        name: String = Derived("the first host and the path"),
        hosts: List<String> = Default("[]"),
        path_prefix: String = Derived("\"/\", unless there is a `path`"),
        path: String = Optional,
        methods: List<String> = Default("[]"),
        match_headers: Map<TextOrPresence> = Default("{}"),
        match_query: Map<TextOrPresence> = Default("{}"),
        encoded_slashes: String = Default("\"refuse\""),
        project: String = Optional,
        service: String = Optional,
        upstream: String = Derived("none, which needs a `response`"),
        rewrite: String = Optional,
        redirect: String = Optional,
        read_permission: String = Derived("\"project:services:read\""),
        write_permission: String = Derived("\"service:data:write\""),
        permissions: Map<String> = Default("{}"),
        upgrades: List<String> = Default("[]"),
        authentication: String = Derived("a valid token is required"),
        credentials: List<String> = Default("[\"bearer\"]"),
        query_parameter: String = Default("\"access_token\""),
        cors_preflight: String = Derived("a valid token is required"),
        pass_authorization: bool = Default("false"),
        response_header_seconds: Seconds<1, 86_400> = Derived("the upstream's"),
        total_seconds: Seconds<1, 86_400> = Optional,
        request_body_bytes: Bytes<0, 1_099_511_627_776> = Optional,
        request_headers: RequestHeadersTable = Default("{}"),
        response_headers: ResponseHeadersTable = Default("{}"),
        response: FixedResponseTable = Optional,
        rate_limit: RateLimitTable = Optional,
        token_rate_limit: TokenRateLimitTable = Optional,
    }
}

table! {
    /// What all of a route's requests together may do.
    RateLimitTable = "[routes.rate_limit]" {
        requests: Count<1, 10_000_000> = Optional,
        per_seconds: Seconds<1, 86_400> = Default("1"),
        burst: Count<1, 10_000_000> = Derived("as many as `requests`"),
        concurrent_requests: Count<1, 10_000_000> = Optional,
    }
}

table! {
    /// What each token may do on a route.
    TokenRateLimitTable = "[routes.token_rate_limit]" {
        requests: Count<1, 10_000_000> = Optional,
        per_seconds: Seconds<1, 86_400> = Default("1"),
        burst: Count<1, 10_000_000> = Derived("as many as `requests`"),
        concurrent_requests: Count<1, 10_000_000> = Optional,
    }
}

table! {
    /// How often each network may fail to authenticate; left out, as often as it likes.
    AuthenticationThrottleTable = "[authentication_throttle]" {
        failures: Count<1, 1_000_000> = Default("100"),
        per_seconds: Seconds<1, 86_400> = Default("60"),
        ipv4_prefix_bits: Count<8, 32> = Default("32"),
        ipv6_prefix_bits: Count<16, 128> = Default("64"),
    }
}

table! {
    /// What is changed in a request's headers.
    RequestHeadersTable = "[routes.request_headers]" {
        set: Map<String> = Default("{}"),
        add: Map<String> = Default("{}"),
        remove: List<String> = Default("[]"),
    }
}

table! {
    /// What is changed in a response's headers.
    ResponseHeadersTable = "[routes.response_headers]" {
        set: Map<String> = Default("{}"),
        add: Map<String> = Default("{}"),
        remove: List<String> = Default("[]"),
    }
}

table! {
    /// What a route answers without a service behind.
    FixedResponseTable = "[routes.response]" {
        status: Count<200, 599> = Required,
        body: String = Default("\"\""),
        content_type: String = Default("\"text/plain; charset=utf-8\""),
    }
}

table! {
    UsageTable = "[usage]" {
        flush_interval_seconds: Seconds<1, 3600> = Default("10"),
    }
}

table! {
    EventsTable = "[events]" {
        retention_days: Count<0, 36_500> = Default("365"),
        mirror: bool = Default("false"),
    }
}

table! {
    TokensTable = "[tokens]" {
        expire_unused_after_days: Count<0, 3_650> = Default("0"),
    }
}

table! {
    /// How upstreams are told in a signed statement who is asking; left out, none is.
    IdentityTokenTable = "[identity_token]" {
        issuer: String = Required,
        lifetime_seconds: Seconds<10, 600> = Default("60"),
        rotation_seconds: Seconds<600, 31_536_000> = Default("86400"),
    }
}

table! {
    LimitsTable = "[limits]" {
        header_bytes: Bytes<8192, 1_048_576> = Default("65536"),
        header_count: Count<8, 4096> = Default("100"),
        uri_bytes: Bytes<256, 65_534> = Default("16384"),
        connections: Count<1, 1_000_000> = Default("8192"),
    }
}

table! {
    TimeoutsTable = "[timeouts]" {
        header_read_seconds: Seconds<1, 300> = Default("10"),
        idle_seconds: Seconds<1, 86_400> = Default("75"),
        drain_seconds: Seconds<0, 3600> = Default("30"),
    }
}

table! {
    LoggingTable = "[logging]" {
        level: String = Default("\"info\""),
        format: String = Default("\"text\""),
        recent_denials: Count<0, 1_000_000> = Default("10000"),
        access_log: AccessLogTable = Default("{}"),
    }
}

table! {
    /// Where traces go; left out, nothing is traced.
    TracingTable = "[tracing]" {
        endpoint: String = Required,
        service_name: String = Default("\"postern\""),
        sampled_per_million: Count<0, 1_000_000> = Default("10000"),
        follow_parent: bool = Default("true"),
    }
}

table! {
    AccessLogTable = "[logging.access_log]" {
        output: String = Default("\"stdout\""),
        format: String = Default("\"json\""),
    }
}
