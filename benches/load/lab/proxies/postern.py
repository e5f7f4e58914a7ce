"""Postern with everything on: policy, permissions, usage, metrics, identity headers. Defaults, except for limits that the load exceeds."""

import http.client
import shutil
import time

from lab import site as shared
from lab.proxies import Proxy
from lab.process import Failure


class Postern(Proxy):
    name = "postern"
    patience_seconds = 60

    def configure(self):
        shutil.copy(self.site.directory(self.setting.tokens) / "postern.db", self.folder / "postern.db")
        tls = f"""[listeners.tls]
[[listeners.tls.certificates]]
certificate_file = "{self.site.certificate}"
key_file = "{self.site.key}"
"""
        routes = [shared.route_toml(name, f"/{name}") for name in self.route_names()] or [shared.route_toml("all", "/")]
        log = self.folder / "access.log" if self.setting.access_log else "off"
        self.file = self.write("postern.toml", f"""workers = {self.setting.workers}
{shared.directory_toml(self.folder / "postern.db")}
[ops]
address = "127.0.0.1:{self.other}"
{shared.listener_toml("plain", self.plain)}{shared.listener_toml("tls", self.tls)}{tls}
{shared.upstream_toml(self.upstream_port, "http2" if self.setting.behind == "grpc" else "http1")}
{"".join(routes)}
[limits]
connections = 20000
[timeouts]
idle_seconds = 600
[logging]
level = "warn"
[logging.access_log]
output = "{log}"
""")
        # The commands that change the directory while it is in use read this one.
        self.write("directory.toml", self.file.read_text())
        return [self.site.binary, "run", "--config", str(self.file)]

    def ports(self):
        return [self.other, self.plain, self.tls]

    def ready(self):
        deadline = time.monotonic() + self.patience_seconds
        while time.monotonic() < deadline:
            connection = http.client.HTTPConnection("127.0.0.1", self.other, timeout=5)
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
            connection.close()
            time.sleep(0.02)
        raise Failure("postern does not become ready")
