"""Envoy: its `api_key_auth` filter with the tokens as keys; each key hidden from the upstream, as the others do it."""

import json

from lab.proxies import Proxy

TYPE = "type.googleapis.com/envoy.extensions"
MANY = 1_000_000_000


class Envoy(Proxy):
    name = "envoy"
    patience_seconds = 240

    def configure(self):
        certificate = {"certificate_chain": {"filename": str(self.site.certificate)}, "private_key": {"filename": str(self.site.key)}}
        tls = {
            "@type": f"{TYPE}.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {"alpn_protocols": ["h2", "http/1.1"], "tls_certificates": [certificate]},
        }
        limits = {"max_connections": MANY, "max_pending_requests": MANY, "max_requests": MANY, "max_retries": MANY}
        cluster = {
            "name": "upstream",
            "type": "STATIC",
            "load_assignment": {"cluster_name": "upstream", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(self.upstream_port)}}]}]},
            "circuit_breakers": {"thresholds": [limits]},
        }
        if self.setting.behind == "grpc":
            http2 = {"@type": f"{TYPE}.upstreams.http.v3.HttpProtocolOptions", "explicit_http_config": {"http2_protocol_options": {}}}
            cluster["typed_extension_protocol_options"] = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2}
        listeners = [
            self.listener("plain", self.plain, {}),
            self.listener("tls", self.tls, {"transport_socket": {"name": "tls", "typed_config": tls}}),
        ]
        file = self.write("envoy.json", json.dumps({"static_resources": {"listeners": listeners, "clusters": [cluster]}}))
        return [self.site.envoy, "-c", str(file), "--concurrency", str(self.setting.workers), "--disable-hot-restart", "-l", "error"]

    def listener(self, name, port, transport):
        filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": self.manager()}]
        return {
            "name": name,
            "address": address(port),
            "tcp_backlog_size": 16384,
            "connection_balance_config": {"exact_balance": {}},
            "filter_chains": [{"filters": filters, **transport}],
        }

    def manager(self):
        keys = {
            "@type": f"{TYPE}.filters.http.api_key_auth.v3.ApiKeyAuth",
            "credentials": [{"key": token, "client": "bench"} for token in self.tokens()],
            "key_sources": [{"header": "Authorization"}],
            "forwarding": {"hide_credentials": True},
        }
        to_upstream = {"cluster": "upstream", "timeout": "0s"}
        prefixes = [f"/{name}/" for name in self.route_names()] or ["/"]
        routes = [{"match": {"prefix": prefix}, "route": to_upstream} for prefix in prefixes]
        log = {"name": "file", "typed_config": {"@type": f"{TYPE}.access_loggers.file.v3.FileAccessLog", "path": str(self.folder / "access.log")}}
        return {
            "@type": f"{TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "main",
            "use_remote_address": True,
            # The others make no request ids; Envoy does not have to either.
            "generate_request_id": False,
            "upgrade_configs": [{"upgrade_type": "websocket"}] if self.setting.behind == "websocket" else [],
            "access_log": [log] if self.setting.access_log else [],
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
            "http_filters": [
                {"name": "envoy.filters.http.api_key_auth", "typed_config": keys},
                {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPE}.filters.http.router.v3.Router"}},
            ],
        }


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
