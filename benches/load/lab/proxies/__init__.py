"""Who is measured: one file for each proxy, with the best configuration we know for the job that comes closest.

A proxy is made from a Site and a Setting and has: `name`, `start()`, `stop()`, `process`, `plain` and `tls` (ports).
Each proxy listens on both ports always, so that one process serves the scenarios with and without TLS.
"""

import pathlib
import tempfile

from lab.process import Process, free_ports


class Proxy:
    name = ""
    patience_seconds = 30

    def __init__(self, site, setting):
        self.site, self.setting = site, setting
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir=site.folder))
        self.plain, self.tls, self.other = free_ports(3)
        self.upstream_port = site.upstream_ports[setting.behind]
        self.process = None
        self.tokens_file = site.tokens_file(setting.tokens)
        self.command = self.configure()

    def configure(self):
        """Writes the configuration; returns the command."""
        raise NotImplementedError

    def ports(self):
        return [self.plain, self.tls]

    def start(self):
        self.process = Process(self.name, self.command, self.folder, self.setting.cores, self.ports(), self.patience_seconds)
        self.ready()
        return self

    def ready(self):
        """What is to be waited for after the ports listen."""

    def stop(self):
        if self.process:
            self.process.stop()
            self.process = None

    def restart(self):
        self.stop()
        self.start()

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return path

    def tokens(self):
        return self.tokens_file.read_text().split()

    def route_names(self):
        """Names of the routes, their paths' first segments; none stands for one route for everything."""
        return [f"service-{number}" for number in range(self.setting.routes)] if self.setting.routes > 1 else []

