"""Running scenarios: proxies are started when first needed, rounds interleave them, and medians and ratios are made."""

import contextlib
import fcntl
import statistics
import sys
import time

from lab import machine
from lab.process import Failure
from lab.proxies.envoy import Envoy
from lab.proxies.haproxy import Haproxy, Relay
from lab.proxies.nginx import Nginx
from lab.proxies.postern import Postern

PROXIES = {proxy.name: proxy for proxy in (Postern, Haproxy, Nginx, Envoy, Relay)}


class Fleet:
    """The running proxies, by name and setting. Those with a setting that the next scenarios do not need are stopped."""

    def __init__(self, site, lock=None):
        self.site, self.lock, self.running = site, lock, {}

    def take(self, entrants):
        taken = {}
        for entrant in entrants:
            if entrant.proxy == "envoy" and not self.site.envoy:
                continue
            key = (entrant.proxy, entrant.setting)
            if key not in self.running:
                self.running[key] = PROXIES[entrant.proxy](self.site, entrant.setting).start()
            taken[entrant.label] = self.running[key]
        return taken

    def keep_only(self, scenarios):
        needed = {(entrant.proxy, entrant.setting) for scenario in scenarios for entrant in scenario.entrants}
        for key in [key for key in self.running if key not in needed]:
            self.running.pop(key).stop()

    def stop(self):
        for proxy in self.running.values():
            proxy.stop()
        self.running.clear()


def run(fleet, scenario, rounds, seconds):
    """One scenario; the result is a dictionary that JSON can hold."""
    proxies = fleet.take(scenario.entrants)
    with alone(fleet.lock):
        return run_alone(proxies, scenario, rounds, seconds)


@contextlib.contextmanager
def alone(lock):
    """Holds the lock, if there is one, that keeps others on this machine from working meanwhile."""
    with contextlib.nullcontext() if lock is None else lock.open("a") as file:
        if file:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run_alone(proxies, scenario, rounds, seconds):
    started, stolen = time.monotonic(), machine.steal_seconds()
    prepared = scenario.kind.prepare(list(proxies.values()), seconds)
    labels, measured = list(proxies), []
    for number in range(rounds):
        # Each round begins with another one, so that no place in the order is always the same one's.
        order = labels[number % len(labels):] + labels[: number % len(labels)]
        measured.append({label: scenario.kind.measure(proxies[label], seconds, prepared) for label in order})
        print(".", end="", file=sys.stderr, flush=True)
    return {
        "name": scenario.name,
        "title": scenario.title,
        "group": scenario.group,
        "note": scenario.note,
        "prepared": prepared,
        "rounds": measured,
        "medians": {label: medians([one[label] for one in measured]) for label in labels},
        "ratios": {label: ratios(measured, labels[0], label, "cpu_us") for label in labels[1:]},
        "targets": [checked(target, measured, labels) for target in scenario.targets if target.peer in (None, *labels)],
        "steal_seconds": machine.steal_seconds() - stolen,
        "took_seconds": time.monotonic() - started,
    }


def medians(samples):
    return {key: statistics.median(sample[key] for sample in samples) for key in samples[0]}


def ratios(measured, one, other, key):
    each = [sample[one][key] / sample[other][key] for sample in measured]
    return {"median": statistics.median(each), "least": min(each), "most": max(each), "each": each}


def checked(target, measured, labels):
    """The target with what came out, and whether that meets it."""
    own = labels[0]
    if target.peer:
        found = ratios(measured, own, target.peer, target.key)
    else:
        each = [sample[own][target.key] for sample in measured]
        found = {"median": statistics.median(each), "least": min(each), "most": max(each), "each": each}
    met = found["median"] >= target.limit if target.at_least else found["median"] <= target.limit
    return {"peer": target.peer, "key": target.key, "limit": target.limit, "at_least": target.at_least, "met": met, **found}


def run_all(fleet, scenarios, quick, rounds, seconds, done):
    """All scenarios in turn; `done` is called with each result. A failed one does not stop the others; returns the failures."""
    failures = []
    for index, scenario in enumerate(scenarios):
        fleet.keep_only(scenarios[index:])
        print(f"{scenario.name} ", end="", file=sys.stderr, flush=True)
        try:
            result = run(fleet, scenario, rounds or (3 if quick else scenario.rounds), seconds or (2 if quick else scenario.seconds))
        except Failure as failure:
            failures.append((scenario.name, str(failure)))
            print(f" FAILED: {failure}", file=sys.stderr)
            continue
        print(f" {result['took_seconds']:.0f} s", file=sys.stderr)
        done(result)
    return failures
