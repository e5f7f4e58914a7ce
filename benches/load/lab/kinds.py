"""How one measurement of one proxy is taken, by kind of scenario. A measurement is a dictionary of plain numbers.

A kind has `columns` for the report (heading, key, format), `chart` (the key that is drawn), `prepare(proxies, seconds)`,
called once before the rounds, and `measure(proxy, seconds, prepared)`.
"""

import dataclasses
import http.client
import json
import statistics
import threading
import time

from lab import machine
from lab.generators import NICENESS, Open, Wrk, idle
from lab.process import Failure
from lab.site import PATH

def cost(unit):
    return (f"CPU µs a {unit}", "cpu_us", ".1f"), ("user", "user_us", ".1f"), ("system", "system_us", ".1f")


def speed(unit):
    return (f"{unit}s a second", "rate", ",.0f"), *LATENCY


LATENCY = (("p50 ms", "p50_us", "ms"), ("p99 ms", "p99_us", "ms"), ("core busy", "busy", ".0%"))
COST, SPEED = cost("request"), speed("request")


def under_load(proxy, load, seconds, cores=machine.LOAD_CORES):
    """What the proxy spends while the load runs, per request."""
    before, started = proxy.process.cpu(), time.monotonic()
    seen = load(proxy, seconds, cores)
    took = time.monotonic() - started
    total, user, system = (after - earlier for after, earlier in zip(proxy.process.cpu(), before))
    proxy.process.check_alive()
    # The ticks of user and system time are coarse: their proportion divides the exact total.
    share = user / (user + system) if user + system else 0.5
    each = total / seen.requests * 1e6
    measured = {"cpu_us": each, "user_us": each * share, "system_us": each * (1 - share), "rate": seen.rate, "requests": seen.requests, "busy": total / min(took, seen.seconds + 0.2)}
    return measured | seen.percentiles | seen.details


class Kind:
    columns = COST + SPEED
    chart = "cpu_us"

    def prepare(self, proxies, seconds):
        return None


@dataclasses.dataclass(frozen=True)
class Closed(Kind):
    """A closed loop that takes all the proxy gives."""

    load: object
    cores: str = machine.LOAD_CORES
    warm_up: float = 0.5

    def measure(self, proxy, seconds, _):
        self.load(proxy, 1 if isinstance(self.load, Wrk) else self.warm_up, self.cores)
        return under_load(proxy, self.load, seconds, self.cores)


@dataclasses.dataclass(frozen=True)
class Latency(Closed):
    """A closed loop of which the latencies are what matters."""

    columns = (("p50 ms", "p50_us", "ms"), ("p90 ms", "p90_us", "ms"), ("p99 ms", "p99_us", "ms"), ("p99.9 ms", "p999_us", "ms"), ("requests a second", "rate", ",.0f"), ("CPU µs a request", "cpu_us", ".1f"))
    chart = "p99_us"


@dataclasses.dataclass(frozen=True)
class Messages(Closed):
    """Messages through streams that let in only who has a token, which is tried first."""

    columns = cost("message") + speed("message")

    def measure(self, proxy, seconds, prepared):
        self.load.check_refusal(proxy)
        return super().measure(proxy, seconds, prepared)


@dataclasses.dataclass(frozen=True)
class Calls(Messages):
    columns = cost("call") + speed("call")


@dataclasses.dataclass(frozen=True)
class Tunnels(Messages):
    columns = cost("tunnel") + speed("tunnel")


@dataclasses.dataclass(frozen=True)
class Scaling(Closed):
    """A closed loop, and what the cores of all workers could do if they did nothing else. On a machine where the generator needs
    the same cores, the rate is the generator's limit and only this tells how the proxy scales."""

    columns = Closed.columns[:4] + (("its cores could do", "capacity", ",.0f"),) + Closed.columns[4:]

    def measure(self, proxy, seconds, prepared):
        measured = super().measure(proxy, seconds, prepared)
        return measured | {"capacity": proxy.setting.workers * 1e6 / measured["cpu_us"]}


@dataclasses.dataclass(frozen=True)
class Held(Closed):
    """A closed loop, and what the directory of tokens costs in memory and at the start."""

    columns = COST + (("requests a second", "rate", ",.0f"), ("p99 ms", "p99_us", "ms"), ("memory MiB", "memory_mib", ",.0f"), ("start s", "start_seconds", ".2f"))

    def measure(self, proxy, seconds, prepared):
        measured = super().measure(proxy, seconds, prepared)
        return measured | {"memory_mib": proxy.process.memory_bytes() / 2**20, "start_seconds": proxy.process.start_seconds}


@dataclasses.dataclass(frozen=True)
class FixedRate(Kind):
    """The same rate for all, a share of what the slowest of them can do; latencies count from when a request was due."""

    share: float
    columns = (("p50 ms", "p50_us", "ms"), ("p90 ms", "p90_us", "ms"), ("p99 ms", "p99_us", "ms"), ("p99.9 ms", "p999_us", "ms"), ("longest ms", "max_us", "ms"), ("requests a second", "rate", ",.0f"), ("CPU µs a request", "cpu_us", ".1f"), ("sent late, p99 ms", "sent_late_p99_us", "ms"))
    chart = "p99_us"

    def prepare(self, proxies, seconds):
        capacity = lambda proxy: statistics.median(Wrk()(proxy, 1).rate for _ in range(3))
        return round(self.share * min(map(capacity, proxies)))

    def measure(self, proxy, seconds, rate):
        return under_load(proxy, Open(rate), seconds)


@dataclasses.dataclass(frozen=True)
class Idle(Kind):
    """A fresh proxy, so many idle connections, and traffic beside them."""

    count: int
    columns = (("KiB a connection", "connection_kib", ".2f"),) + COST + (("requests a second", "rate", ",.0f"), ("p99 ms", "p99_us", "ms"), ("memory before MiB", "before_mib", ",.1f"))
    chart = "connection_kib"

    def measure(self, proxy, seconds, _):
        proxy.restart()
        Wrk()(proxy, 1)
        before = proxy.process.memory_bytes()
        with idle(proxy, self.count):
            # Whatever the proxy sweeps now and then, it has swept.
            time.sleep(1.5)
            memory = proxy.process.memory_bytes()
            measured = under_load(proxy, Wrk(), seconds)
        return measured | {"connection_kib": (memory - before) / self.count / 1024, "before_mib": before / 2**20}


@dataclasses.dataclass(frozen=True)
class Changing(Kind):
    """The same load without and with so many changes of the directory a second, in ten batches."""

    per_second: int
    columns = (("CPU µs a request, quiet", "quiet_cpu_us", ".1f"), ("with changes", "cpu_us", ".1f"), ("p99 ms, quiet", "quiet_p99_us", "ms"), ("with changes ms", "p99_us", "ms"), ("p99.9 ms, quiet", "quiet_p999_us", "ms"), ("with changes ms", "p999_us", "ms"), ("changes a second", "changes", ",.0f"))

    def measure(self, proxy, seconds, _):
        rate = Open(8_000)
        quiet = under_load(proxy, rate, seconds)
        end, made = threading.Event(), []

        def change():
            while not end.is_set():
                started = time.monotonic()
                try:
                    made.extend(add_tokens(proxy, self.per_second // 10))
                except Exception as error:
                    made.append(error)
                    return
                end.wait(max(0, 0.1 - (time.monotonic() - started)))

        changer = threading.Thread(target=change)
        started = time.monotonic()
        changer.start()
        measured = under_load(proxy, rate, seconds)
        end.set()
        changer.join()
        took = time.monotonic() - started
        failed = [error for error in made if isinstance(error, Exception)]
        if failed:
            raise Failure(f"{proxy.name}: changing its tokens: {failed[0]}")
        check_changes(proxy, made)
        return measured | {f"quiet_{key}": value for key, value in quiet.items()} | {"changes": len(made) / took}


def add_tokens(proxy, count):
    """New tokens by the proxy's own way; returns them."""
    if proxy.name != "postern":
        tokens = [f"added-{time.monotonic_ns()}-{number}" for number in range(count)]
        proxy.add_tokens(tokens)
        return tokens
    made = json.loads(proxy.site.postern(proxy.folder, "token", "create", "--user", "bench", "--count", str(count)))
    return [token["full_token"] for token in made["tokens"]]


def check_changes(proxy, tokens):
    """The last token is let in; one that is revoked, Postern refuses within its promised time."""
    time.sleep(0.25)
    check_status(proxy, tokens[-1], 200)
    if proxy.name == "postern":
        proxy.site.postern(proxy.folder, "token", "revoke", tokens[-1][:17])
        time.sleep(0.25)
        check_status(proxy, tokens[-1], 401)


def check_status(proxy, token, expect):
    connection = http.client.HTTPConnection("127.0.0.1", proxy.plain, timeout=5)
    connection.request("GET", PATH, headers={"Authorization": f"Bearer {token}"})
    status = connection.getresponse().status
    connection.close()
    if status != expect:
        raise Failure(f"{proxy.name}: a changed token was answered {status}, not {expect}")


@dataclasses.dataclass(frozen=True)
class Denial(Kind):
    """An attack alone, for its CPU per attempt; then 1,000 good requests a second, without and with the attack beside them."""

    attack: object
    columns = (("CPU µs an attempt", "cpu_us", ".1f"), ("attempts a second", "rate", ",.0f"), ("good p50 ms, quiet", "quiet_p50_us", "ms"), ("attacked ms", "good_p50_us", "ms"), ("good p99 ms, quiet", "quiet_p99_us", "ms"), ("attacked ms", "good_p99_us", "ms"), ("memory MiB", "memory_mib", ",.1f"), ("silent", "silent", ",.0f"))

    def measure(self, proxy, seconds, _):
        good = Open(1_000, connections=16)
        self.attack(proxy, 1)
        alone = under_load(proxy, self.attack, seconds)
        quiet = good(proxy, seconds)
        failure = []

        def attack():
            NICENESS.set(19)
            try:
                self.attack(proxy, seconds + 2)
            except Failure as error:
                failure.append(error)

        attacker = threading.Thread(target=attack)
        attacker.start()
        time.sleep(0.5)
        attacked = good(proxy, seconds)
        attacker.join()
        if failure:
            raise failure[0]
        latencies = {f"{name}_{key}": value for name, load in (("quiet", quiet), ("good", attacked)) for key, value in load.percentiles.items()}
        return {"silent": 0} | alone | latencies | {"memory_mib": proxy.process.memory_bytes() / 2**20}
