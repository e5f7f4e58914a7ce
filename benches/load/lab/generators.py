"""What asks: wrk, h2load, the lab's own client, and a client that breaks off TLS handshakes. Each returns a Load; a wrong answer ends the run."""

import contextlib
import contextvars
import dataclasses
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile

from lab import machine
from lab.process import Failure
from lab.site import LARGE_BYTES, PATH

STARTS = random.Random(3)
# An attack steps back behind the good traffic that is measured beside it on the same core: otherwise the latencies would be the generator's.
NICENESS = contextvars.ContextVar("niceness", default=0)


@dataclasses.dataclass
class Load:
    """What a generator has seen. Percentiles in microseconds, keys such as "p99_us"."""

    requests: int
    seconds: float
    percentiles: dict = dataclasses.field(default_factory=dict)
    details: dict = dataclasses.field(default_factory=dict)

    @property
    def rate(self):
        return self.requests / self.seconds


def run(command, cores=machine.LOAD_CORES, **options):
    output = subprocess.run(["nice", "-n", str(NICENESS.get()), "taskset", "-c", cores, *map(str, command)], capture_output=True, text=True, **options)
    if output.returncode:
        raise Failure(f"{command[0]} failed: {output.stdout[-1000:]}{output.stderr[-1000:]}")
    return output.stdout


@dataclasses.dataclass(frozen=True)
class Wrk:
    """A closed loop over HTTP/1.1: each connection asks again as soon as it has its answer."""

    connections: int = 64
    expect: int = 200
    scheme: str = "http"
    path: str = PATH
    tokens: str = "good"  # "good", "bad", or "hot": one for all requests
    body_bytes: int = 0
    close: bool = False

    def __call__(self, proxy, seconds, cores=machine.LOAD_CORES):
        count = proxy.setting.tokens
        large = self.path == "/large"
        # Requests are prepared in memory, with their bodies.
        limit = 1 if self.tokens == "hot" else max(8, min(count, (64 << 20) // self.body_bytes)) if self.body_bytes else count
        environment = os.environ | {
            "TOKENS": str(proxy.site.bad if self.tokens == "bad" else proxy.tokens_file),
            "EXPECT": str(self.expect),
            "ROUTES": str(proxy.setting.routes),
            "REQUEST_PATH": self.path,
            "BODY_BYTES": str(self.body_bytes),
            "LIMIT": str(limit),
            "START": str(STARTS.randrange(count)),
        } | ({"CLOSE": "1"} if self.close else {}) | ({"LARGE": "1"} if large else {})
        port = proxy.tls if self.scheme == "https" else proxy.plain
        output = run(["wrk", "-t1", f"-c{self.connections}", f"-d{seconds}s", "--timeout", "10s", "-s", machine.LOAD / "wrk.lua", f"{self.scheme}://127.0.0.1:{port}/"], cores, env=environment)
        found = re.search(r"^RESULT (.*)$", output, re.MULTILINE)
        if not found:
            raise Failure(f"wrk said nothing to read:\n{output}")
        result = json.loads(found[1])
        errors = {name: result[name] for name in ("wrong", "connect_errors", "read_errors", "write_errors", "timeouts") if result[name]}
        # With Connection: close, TLS closes without a last word count as read errors of wrk, after a whole answer.
        if self.close and self.scheme == "https":
            errors.pop("read_errors", None)
        if errors or not result["requests"]:
            raise Failure(f"{proxy.name}: wrong answers: {errors} of {result['requests']} requests")
        if large and result["bytes"] < result["requests"] * LARGE_BYTES:
            raise Failure(f"{proxy.name}: bodies are cut short: {result['bytes']} bytes in {result['requests']} answers")
        return Load(result["requests"], result["seconds"], {key: value for key, value in result.items() if key.endswith("_us")})


@dataclasses.dataclass(frozen=True)
class H2load:
    """A closed loop over HTTP/2 with so many streams in flight on each connection. One token: h2load knows no others."""

    connections: int = 16
    streams: int = 16

    def __call__(self, proxy, seconds, cores=machine.LOAD_CORES):
        with proxy.tokens_file.open() as tokens:
            token = next(tokens).strip()
        with tempfile.NamedTemporaryFile(dir=proxy.site.folder) as log:
            output = run(["h2load", "-t1", f"-c{self.connections}", f"-m{self.streams}", "-D", f"{int(seconds * 1000)}ms", f"--log-file={log.name}", "-H", f"authorization: Bearer {token}", f"https://127.0.0.1:{proxy.tls}{PATH}"], cores)
            rows = [line.split("\t") for line in pathlib.Path(log.name).read_text().splitlines()]
        if "Application protocol: h2" not in output:
            raise Failure(f"{proxy.name} does not speak HTTP/2:\n{output}")
        requests, failed, errored = map(int, re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", output).groups())
        successes = int(re.search(r"status codes: (\d+) 2xx", output)[1])
        wrong = sum(row[1] != "200" for row in rows)
        if failed or errored or wrong or successes < requests or not requests:
            raise Failure(f"{proxy.name}: {wrong} wrong, {failed} failed, {errored} errored of {requests}\n{output}")
        return Load(requests, float(seconds), percentiles([float(row[2]) for row in rows]))


@dataclasses.dataclass(frozen=True)
class Open:
    """An open loop at a fixed rate; latencies count from when each request was due."""

    rate: float
    connections: int = 64
    warm_up: float = 0.5

    def command(self, proxy, seconds):
        return [proxy.site.client, "open", f"127.0.0.1:{proxy.plain}", "--rate", self.rate, "--seconds", seconds, "--warm-up", self.warm_up,
                "--connections", self.connections, "--tokens", proxy.tokens_file, "--expect", 200, "--path", PATH]

    def __call__(self, proxy, seconds, cores=machine.LOAD_CORES):
        return self.read(proxy, run(self.command(proxy, seconds), cores))

    def read(self, proxy, output):
        result = json.loads(output)
        if result["wrong"] or result["unanswered"]:
            raise Failure(f"{proxy.name}: {result['wrong']} wrong and {result['unanswered']} missing answers of {result['requests']}")
        return Load(result["requests"], result["seconds"], {key: value for key, value in result.items() if key.endswith("_us")}, {"waited_for_connection": result["waited_for_connection"]})


@dataclasses.dataclass(frozen=True)
class WebSocket:
    """Text messages there and back over kept tunnels ("echo"), or a tunnel for each message ("open")."""

    kind: str
    tunnels: int
    bytes: int = 64

    def __call__(self, proxy, seconds, cores=machine.LOAD_CORES):
        return client_load(proxy, "websocket", cores, kind=self.kind, tunnels=self.tunnels, bytes=self.bytes, seconds=seconds, tokens=proxy.tokens_file, path=PATH)

    def check_refusal(self, proxy):
        client_load(proxy, "websocket", kind="refused", tokens=proxy.site.bad, path=PATH)


@dataclasses.dataclass(frozen=True)
class Grpc:
    """Calls over HTTP/2 in the clear: "unary", streams that the server fills ("pour"), kept streams with messages there and back ("both")."""

    kind: str
    connections: int = 4
    streams: int = 16
    bytes: int = 128
    messages: int = 1000  # of one call that the server fills

    def __call__(self, proxy, seconds, cores=machine.LOAD_CORES):
        return client_load(proxy, "grpc", cores, **dataclasses.asdict(self), seconds=seconds, tokens=proxy.tokens_file)

    def check_refusal(self, proxy):
        client_load(proxy, "grpc", kind="refused", tokens=proxy.site.bad)


def client_load(proxy, command, cores=machine.LOAD_CORES, **options):
    """The lab's own client, which checks every answer itself; empty for a refusal that came as it should."""
    arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
    try:
        result = json.loads(run([proxy.site.client, command, f"127.0.0.1:{proxy.plain}", *arguments], cores))
    except Failure as failure:
        raise Failure(f"{proxy.name}: {failure}") from None
    if "refused" in result:
        return Load(0, 0.0)
    if not result["requests"]:
        raise Failure(f"{proxy.name}: nothing came back")
    return Load(result["requests"], result["seconds"], {key: value for key, value in result.items() if key.endswith("_us")})


@contextlib.contextmanager
def idle(proxy, count):
    """So many connections, each used once and then idle, as long as the context lasts."""
    command = [proxy.site.client, "idle", f"127.0.0.1:{proxy.plain}", "--count", str(count), "--tokens", str(proxy.tokens_file), "--path", PATH]
    with subprocess.Popen(["taskset", "-c", machine.LOAD_CORES, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as client:
        if not client.stdout.readline():
            raise Failure(f"{proxy.name}: {count} idle connections: {client.stderr.read()}")
        yield
        client.stdin.close()
        closed = json.loads(client.stdout.readline())["closed"]
        if closed:
            raise Failure(f"{proxy.name} closed {closed} of {count} idle connections")


@dataclasses.dataclass(frozen=True)
class Attempts:
    """Connections that send garbage, or a TLS hello and nothing else. A request is an attempt here."""

    kind: str  # "garbage" or "hellos"
    parallel: int = 16

    def __call__(self, proxy, seconds, cores=machine.LOAD_CORES):
        site = proxy.site
        bytes_file, port = {"garbage": (site.garbage, proxy.plain), "hellos": (site.hellos, proxy.tls)}[self.kind]
        output = run([site.client, "attempts", f"127.0.0.1:{port}", "--bytes", bytes_file, "--parallel", self.parallel, "--seconds", seconds], cores)
        result = json.loads(output)
        if result["let_in"] or not result["attempts"]:
            raise Failure(f"{proxy.name} let garbage in: {result}")
        return Load(result["attempts"], result["seconds"], {}, {key: result[key] for key in ("answered", "closed", "silent", "not_connected")})


@dataclasses.dataclass(frozen=True)
class Handshakes:
    """New TLS connections, each with a full handshake, one request and a close. wrk would resume sessions instead.
    A share of them can be broken off after the hello."""

    broken: bool = False  # every other one
    parallel: int = 16

    def __call__(self, proxy, seconds, cores=machine.LOAD_CORES):
        command = [sys.executable, machine.LOAD / "lab/handshakes.py", proxy.tls, "--tokens", proxy.tokens_file, "--path", PATH, "--seconds", seconds, "--parallel", self.parallel]
        result = json.loads(run([*command, *(["--break-off"] if self.broken else [])], cores))
        if result["wrong"] or result["resumed"] or not result["full"]:
            raise Failure(f"{proxy.name}: {result}")
        return Load(result["full"] + result["broken"], result["seconds"], percentiles(result.pop("latencies_us")), result)


def percentiles(values):
    ordered = sorted(values)
    shares = {"p50_us": 0.5, "p90_us": 0.9, "p99_us": 0.99, "p999_us": 0.999, "max_us": 1.0}
    return {name: ordered[min(len(ordered) - 1, int(len(ordered) * share))] for name, share in shares.items()} if ordered else {}
