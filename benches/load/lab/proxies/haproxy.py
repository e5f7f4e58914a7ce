"""HAProxy: a map of SHA-256 digests, looked up with the bearer token's digest. And HAProxy as a plain TCP relay, which reads no HTTP."""

import hashlib
import socket

from lab.proxies import Proxy


class Haproxy(Proxy):
    name = "haproxy"

    def configure(self):
        digests = self.write("digests.map", "".join(f"{digest(token)} 1\n" for token in self.tokens()))
        names = self.route_names()
        if names:
            self.write("routes.map", "".join(f"/{name}/ upstream\n" for name in names))
        backend = f"use_backend %[path,map_beg({self.folder}/routes.map)]" if names else "default_backend upstream"
        log = "log global\n  option httplog" if self.setting.access_log else "no log"
        file = self.write("haproxy.cfg", f"""global
  nbthread {self.setting.workers}
  maxconn 20000
  no strict-limits
  stats socket {self.folder}/admin.sock level admin
  log stdout format raw local0
defaults
  mode http
  timeout client 600s
  timeout server 600s
  timeout http-keep-alive 600s
  timeout tunnel 600s
  timeout connect 5s
  option http-keep-alive
  http-reuse always
frontend main
  {log}
  bind 127.0.0.1:{self.plain} backlog 16384
  bind 127.0.0.1:{self.tls} backlog 16384 ssl crt {self.site.folder}/both.pem alpn h2,http/1.1
  http-request set-var(txn.digest) http_auth_bearer,sha2(256),hex
  http-request deny deny_status 401 unless {{ var(txn.digest),map_str({digests}) -m found }}
  http-request del-header authorization
  option forwardfor
  {backend}
backend upstream
  server one 127.0.0.1:{self.upstream_port}{" proto h2" if self.setting.behind == "grpc" else ""}
""")
        return ["haproxy", "-f", str(file), "-db"]

    def add_tokens(self, tokens):
        """Through the runtime API: HAProxy's own way of a map that changes."""
        with socket.socket(socket.AF_UNIX) as admin:
            admin.connect(str(self.folder / "admin.sock"))
            lines = "".join(f"{digest(token)} 1\n" for token in tokens)
            admin.sendall(f"add map {self.folder}/digests.map <<\n{lines}\n".encode())
            answer = admin.makefile().read().strip()
            if answer:
                raise RuntimeError(f"HAProxy's runtime API: {answer}")


class Relay(Proxy):
    """Only HTTP without TLS: what moving the bytes costs, with nothing looked at."""

    name = "relay"

    def configure(self):
        file = self.write("relay.cfg", f"""global
  nbthread {self.setting.workers}
  maxconn 20000
  no strict-limits
defaults
  mode tcp
  timeout client 600s
  timeout server 600s
  timeout connect 5s
listen relay
  bind 127.0.0.1:{self.plain} backlog 16384
  server one 127.0.0.1:{self.upstream_port}
""")
        return ["haproxy", "-f", str(file), "-db"]

    def ports(self):
        return [self.plain]


def digest(token):
    return hashlib.sha256(token.encode()).hexdigest().upper()
