"""The table of all scenarios. To add one, add a line: who takes part, how it is measured, what it is aimed at."""

import dataclasses

from lab import machine
from lab.generators import Attempts, Grpc, H2load, Handshakes, WebSocket, Wrk
from lab.kinds import Calls, Changing, Closed, Denial, FixedRate, Held, Idle, Latency, Messages, Scaling, Tunnels
from lab.site import LARGE_PATH, SINK_PATH, Setting


@dataclasses.dataclass(frozen=True)
class Target:
    """At most `limit` of the peer's figure in the same round; without a peer, at most `limit` itself."""

    limit: float
    peer: str | None
    key: str = "cpu_us"
    # With a peer: what is aimed at is at least the limit, not at most.
    at_least: bool = False


@dataclasses.dataclass(frozen=True)
class Entrant:
    """One who takes part: the proxy, its name in the results, how it is set up."""

    proxy: str
    setting: Setting
    label: str


def lineup(proxies="postern haproxy nginx envoy", suffix="", **setting):
    return tuple(Entrant(proxy, Setting(**setting), proxy + suffix) for proxy in proxies.split())


@dataclasses.dataclass(frozen=True)
class Scenario:
    name: str
    title: str
    group: str
    kind: object
    targets: tuple = ()
    entrants: tuple = lineup()
    # Rounds and seconds of a full run; a core scenario is measured by --quick too.
    rounds: int = 3
    seconds: int = 2
    core: bool = False
    note: str = ""


def at_most(**limits):
    return tuple(Target(limit, peer) for peer, limit in limits.items())


TWO = dict(workers=2, cores=machine.BOTH_CORES)
ONE_FREE = dict(workers=1, cores=machine.BOTH_CORES)
BESIDE = machine.LOAD_CORES_BESIDE_TWO
IS_SHARED = len(machine.CORES) < 4
SHARED = " The machine has fewer than four cores: the generator and the upstream run on the same ones as the proxies, so the rate is theirs." if IS_SHARED else ""
# Where the generator is the limit, two workers cannot answer more requests than one, and the CPU per request has to tell.
SCALING_KEY = "capacity" if IS_SHARED else "rate"
WITH_RELAY = "postern haproxy nginx envoy relay"


WEBSOCKET = lineup(behind="websocket")
GRPC = lineup(behind="grpc")


def core(*arguments, **more):
    return Scenario(*arguments, core=True, **({"rounds": 5, "seconds": 3} | more))


SCENARIOS = (
    core("keepalive", "HTTP/1.1 keep-alive, 64 connections", "Cost", Closed(Wrk()), at_most(haproxy=0.80, nginx=0.80, envoy=0.25, relay=1.15), lineup(WITH_RELAY)),
    core("connections_1000", "HTTP/1.1 keep-alive, 1,000 connections", "Cost", Closed(Wrk(connections=1000)), at_most(haproxy=0.80, nginx=1.0), lineup(WITH_RELAY)),
    core("refused", "Refused token (401)", "Cost", Closed(Wrk(tokens="bad", expect=401)), at_most(haproxy=0.60, nginx=0.85),
         note="The refused tokens are well-formed ones, of another directory: checksum, digest and look-up are done for each."),
    core("tls", "TLS 1.3, HTTP/1.1 keep-alive", "Cost", Closed(Wrk(scheme="https")), at_most(nginx=0.80, haproxy=0.65)),
    core("handshakes", "New TLS connection for each request (P-256)", "Cost", Closed(Handshakes()), at_most(nginx=0.70),
         note="Full handshakes: each connection's client has no session to resume, and the client checks that none was."),
    core("http2", "TLS, HTTP/2, 16 connections × 16 streams", "Cost", Closed(H2load()), at_most(haproxy=0.90, nginx=0.75, envoy=0.30)),
    core("large_response", "1 MiB response body", "Cost", Closed(Wrk(connections=16, path=LARGE_PATH)), at_most(haproxy=0.75), lineup(WITH_RELAY)),
    Scenario("tls_resumed", "New TLS connection for each request, sessions resumed", "Cost", Closed(Wrk(connections=16, scheme="https", close=True))),
    Scenario("upload_16k", "POST with a body of 16 KiB", "Bodies", Closed(Wrk(path=SINK_PATH, body_bytes=16 << 10)), entrants=lineup(WITH_RELAY)),
    Scenario("upload_1m", "POST with a body of 1 MiB", "Bodies", Closed(Wrk(connections=16, path=SINK_PATH, body_bytes=1 << 20)), entrants=lineup(WITH_RELAY)),
    Scenario("websocket_messages", "WebSocket: messages there and back over 64 kept tunnels", "Streams", Messages(WebSocket("echo", 64)), entrants=WEBSOCKET,
             note="64 bytes each way. The upstream is the lab's own, on tungstenite."),
    Scenario("websocket_tunnels", "WebSocket: a new tunnel for each message", "Streams", Tunnels(WebSocket("open", 16)), entrants=WEBSOCKET,
             note="TCP connections on both sides, upgrade, one message there and back, a close that both sides have agreed to."),
    Scenario("grpc_unary", "gRPC: unary calls, 4 connections × 16 streams", "Streams", Calls(Grpc("unary")), entrants=GRPC,
             note="128 bytes each way, HTTP/2 in the clear on both sides. The upstream is the lab's own, on h2."),
    Scenario("grpc_pour", "gRPC: streams of 1,000 messages from the server", "Streams", Messages(Grpc("pour")), entrants=GRPC,
             note="Messages of 128 bytes, a frame each as the upstream sends them. A latency is a whole call's."),
    Scenario("grpc_both", "gRPC: messages there and back over 64 kept streams", "Streams", Messages(Grpc("both")), entrants=GRPC, note="128 bytes each way, 16 streams on each of 4 connections."),
    Scenario("rate_50", "Fixed rate: half of what the slowest can do", "Latency", FixedRate(0.5), seconds=4),
    Scenario("rate_80", "Fixed rate: 80 % of what the slowest can do", "Latency", FixedRate(0.8), seconds=4),
    Scenario("access_log", "HTTP/1.1 keep-alive, access log on", "Size", Closed(Wrk()), entrants=lineup(access_log=True),
             note="Each writes a line a request to a file in memory: nginx buffered, Envoy in the background, HAProxy through its standard output, Postern its JSON line with decision and reason."),
    Scenario("routes_100", "100 routes", "Size", Closed(Wrk()), entrants=lineup(routes=100)),
    Scenario("tokens_1", "One token", "Size", Held(Wrk()), entrants=lineup(tokens=1)),
    Scenario("tokens_10000", "10,000 tokens, each request another one", "Size", Held(Wrk())),
    Scenario("tokens_million_hot", "A million tokens, one hot", "Size", Held(Wrk(tokens="hot")), entrants=lineup(tokens=1_000_000)),
    Scenario("tokens_million", "A million tokens, each request another one", "Size", Held(Wrk()), entrants=lineup(tokens=1_000_000),
             targets=(Target(160 * 1e6 / 2**20, None, "memory_mib"), Target(1.5, None, "start_seconds"))),
    Scenario("idle_10000", "10,000 idle connections, and traffic beside them", "Size", Idle(10_000), (Target(8.0, None, "connection_kib"),), lineup(alone_for="idle")),
    Scenario("changing", "1,000 changes of the directory a second", "Size", Changing(1_000), entrants=lineup("postern haproxy", alone_for="changing"), seconds=3,
             note="8,000 requests a second. Postern: tokens made by its command line, durable in SQLite. HAProxy: its runtime API, in memory only. nginx would have to reload for each change, Envoy to be told by a control plane: not measured."),
    Scenario("scaling", "Two workers on two cores against one", "Workers", Scaling(Wrk(connections=128), cores=BESIDE),
             (Target(1.8, "postern-1", SCALING_KEY, at_least=True),),
             tuple(entrant for two, one in zip(lineup(**TWO), lineup(suffix="-1", **ONE_FREE)) for entrant in (two, one)), note="What its cores could do: workers over CPU per request." + SHARED),
    *(Scenario(f"few_http1_{count}", f"HTTP/1.1, {count} long-lived connection{'s' * (count > 1)}, two workers", "Workers", Latency(Wrk(connections=count), cores=BESIDE), entrants=lineup(**TWO), seconds=2, note=SHARED.strip()) for count in (1, 2, 4, 8)),
    *(Scenario(f"few_http2_{count}", f"HTTP/2, {count} long-lived connection{'s' * (count > 1)} × 8 streams, two workers", "Workers", Latency(H2load(count, 8), cores=BESIDE), entrants=lineup(**TWO), seconds=2, note=SHARED.strip()) for count in (1, 2, 4, 8)),
    Scenario("denial_tokens", "100 % refused tokens", "Denial", Denial(Wrk(tokens="bad", expect=401)), at_most(haproxy=0.60, nginx=0.85)),
    Scenario("denial_garbage", "100 % garbage bytes", "Denial", Denial(Attempts("garbage"))),
    Scenario("denial_handshakes", "50 % of TLS handshakes broken off", "Denial", Denial(Handshakes(broken=True))),
)

# What cannot be measured, with the reason.
NOT_MEASURED = ()

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
