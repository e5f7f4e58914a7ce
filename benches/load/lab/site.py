"""What all proxies of a run share: folder, upstream, certificate, tokens, bodies. The tokens are real ones, made by Postern."""

import dataclasses
import json
import pathlib
import random
import shutil
import sqlite3
import ssl
import subprocess
import tempfile

from lab import machine
from lab.process import Process, free_ports

BODY = '{"name":"upstream","status":"green","nodes":3,"shards":{"total":120,"active":120,"relocating":0},"took_ms":2.75}\n'
LARGE_BYTES = 1 << 20
PATH = "/index/_search"
LARGE_PATH = "/large"
SINK_PATH = "/sink"
MANY = 10_000
BATCH = 100_000  # the most that one `postern token create` makes


@dataclasses.dataclass(frozen=True)
class Setting:
    """How a proxy is set up. Proxies with equal settings are one process."""

    tokens: int = MANY
    routes: int = 1
    workers: int = 1
    access_log: bool = False
    cores: str = machine.PROXY_CORE
    # What is behind: "answers" (nginx), "websocket", or "grpc", which is spoken to in HTTP/2, in the clear on both sides.
    behind: str = "answers"
    # Makes a process that nothing else is measured with, where the memory of a fresh one matters.
    alone_for: str = ""


class Site:
    def __init__(self, binary):
        # In memory where there is room: the disk is not what is compared.
        shared = pathlib.Path("/dev/shm")
        room = shared.is_dir() and shutil.disk_usage(shared).free > 4 << 30
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="postern-load-", dir=shared if room else None))
        self.binary = binary
        self.client = machine.load_client()
        self.envoy = machine.envoy()
        self.upstreams, self.upstream_ports, self.directories = [], {}, {}
        try:
            self.make_material()
        except BaseException:
            self.close()
            raise

    def make_material(self):
        self.make_certificate()
        (self.folder / "large").write_bytes(random.Random(1).randbytes(LARGE_BYTES))
        self.upstreams.append(self.start_upstream())
        for behind in ("websocket", "grpc"):
            (port,) = free_ports(1)
            command = [self.client, f"serve-{behind}", f"127.0.0.1:{port}"]
            self.upstreams.append(Process(f"upstream-{behind}", command, self.folder, machine.LOAD_CORES, [port]))
            self.upstream_ports[behind] = port
        self.bad = self.folder / "bad.txt"
        self.bad.write_text("\n".join(self.make_tokens(self.folder / "foreign", MANY)) + "\n")
        self.write_attacks()

    def close(self):
        for upstream in self.upstreams:
            upstream.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def make_certificate(self):
        self.certificate, self.key = self.folder / "certificate.pem", self.folder / "key.pem"
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
        subprocess.run([*command.split(), "-keyout", self.key, "-out", self.certificate], check=True, capture_output=True)
        (self.folder / "both.pem").write_text(self.certificate.read_text() + self.key.read_text())

    def start_upstream(self):
        """nginx: answers at once, from memory. A body that is sent to it is read to its end before the answer."""
        port, answer = free_ports(2)
        temporary = " ".join(f"{kind}_temp_path {self.folder}/upstream-{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (self.folder / "upstream.conf").write_text(f"""worker_processes 1; daemon off; user root; pid {self.folder}/upstream.pid; error_log {self.folder}/upstream.err;
worker_rlimit_nofile {machine.descriptors()}; events {{ worker_connections 32768; }}
http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 600; {temporary} client_max_body_size 0;
  types {{ }} default_type application/json; sendfile on; open_file_cache max=10;
  upstream answer {{ server 127.0.0.1:{answer}; keepalive 64; keepalive_requests 100000000; }}
  server {{ listen 127.0.0.1:{port} backlog=16384;
    location / {{ return 200 '{BODY}'; }}
    location = {LARGE_PATH} {{ root {self.folder}; }}
    location = {SINK_PATH} {{ client_body_buffer_size 2m; proxy_pass http://answer/; proxy_pass_request_body off; proxy_set_header Content-Length "";
      proxy_http_version 1.1; proxy_set_header Connection ""; }} }}
  server {{ listen 127.0.0.1:{answer} backlog=16384; location / {{ return 200 '{BODY}'; }} }} }}
""")
        self.upstream_ports["answers"] = port
        return Process("upstream", ["nginx", "-c", str(self.folder / "upstream.conf"), "-p", str(self.folder)], self.folder, machine.LOAD_CORES, [port])

    def postern(self, folder, *arguments):
        output = subprocess.run([self.binary, *arguments, "--config", str(folder / "directory.toml"), "--json"], check=True, capture_output=True, text=True)
        return output.stdout

    def make_tokens(self, folder, count):
        """A directory with one user that has a role on the project, and its tokens; returns them."""
        folder.mkdir(exist_ok=True)
        (folder / "directory.toml").write_text(directory_toml(folder / "postern.db") + listener_toml("main", 1) + upstream_toml(1) + route_toml("all", "/"))
        self.postern(folder, "init")
        user = json.loads(self.postern(folder, "application-user", "create", "bench"))["user_id"]
        self.postern(folder, "permission", "grant", "--user", user, "--project", "bench", "developer")
        tokens = []
        while len(tokens) < count:
            made = self.postern(folder, "token", "create", "--user", user, "--count", str(min(BATCH, count - len(tokens))))
            made = json.loads(made)
            tokens += [token["full_token"] for token in made.get("tokens", [made])]
        return tokens

    def directory(self, count):
        """The folder with a directory of so many tokens, and the file that names them. Large ones are kept for the next run."""
        if count not in self.directories:
            kept = machine.LAB / f"tokens-{count}"
            folder = self.folder / f"tokens-{count}"
            if count >= 1_000_000 and self.is_current(kept):
                shutil.copytree(kept, folder)
            else:
                tokens = self.make_tokens(folder, count)
                (folder / "tokens.txt").write_text("\n".join(tokens) + "\n")
                with sqlite3.connect(folder / "postern.db") as store:
                    store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                if count >= 1_000_000:
                    shutil.rmtree(kept, ignore_errors=True)
                    shutil.copytree(folder, kept)
            self.directories[count] = folder
        return self.directories[count]

    def is_current(self, kept):
        """Whether a kept directory has the schema that the binary makes now."""
        version = lambda path: sqlite3.connect(path).execute("SELECT group_concat(sql, '') FROM sqlite_master").fetchone()
        return (kept / "tokens.txt").exists() and version(kept / "postern.db") == version(self.folder / "foreign/postern.db")

    def tokens_file(self, count):
        return self.directory(count) / "tokens.txt"

    def write_attacks(self):
        """Bytes for attempts, one in hexadecimal a line: garbage, and hellos of TLS clients that stop there."""
        source = random.Random(2)
        self.garbage, self.hellos = self.folder / "garbage.hex", self.folder / "hellos.hex"
        self.garbage.write_text("\n".join((source.randbytes(60) + b"\r\n\r\n").hex() for _ in range(1000)) + "\n")
        context = ssl.create_default_context()
        hellos = []
        for _ in range(64):
            outgoing = ssl.MemoryBIO()
            try:
                context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost").do_handshake()
            except ssl.SSLWantReadError:
                hellos.append(outgoing.read().hex())
        self.hellos.write_text("\n".join(hellos) + "\n")


def directory_toml(store):
    return f"""[store]
path = "{store}"
create_if_missing = true
[organization]
id = "orgbench"
name = "Benchmark"
"""


def listener_toml(name, port):
    return f"""[[listeners]]
name = "{name}"
address = "127.0.0.1:{port}"
"""


def upstream_toml(port, protocol="http1"):
    return f"""[[upstreams]]
name = "upstream"
endpoints = ["127.0.0.1:{port}"]
protocol = "{protocol}"
idle_connections = 1024
idle_seconds = 300
"""


def route_toml(name, prefix):
    return f"""[[routes]]
name = "{name}"
path_prefix = "{prefix}"
project = "bench"
service = "upstream"
upstream = "upstream"
"""
