"""The charts of a run: throughput, CPU per request, memory of idle connections, latency percentiles, for what was measured."""

from lab import svg
from lab.report import TITLES

PERCENTILES = {"p50_us": "50 %", "p90_us": "90 %", "p99_us": "99 %", "p999_us": "99.9 %", "max_us": "longest"}
# Too many groups make no chart: these are what the charts of bars show.
SHOWN = ("Cost", "Bodies")


def write(results, folder):
    cost = [result for result in results if result["group"] in SHOWN]
    bars(cost, "cpu_us", "CPU of the proxy per request, microseconds (shorter is better)", lambda value: f"{value:,.1f}", folder / "cpu.svg")
    bars(cost, "rate", "Requests a second, one worker on one core (longer is better)", lambda value: f"{value:,.0f}", folder / "throughput.svg")
    idle = [result for result in results if result["name"] == "idle_10000"]
    bars(idle, "connection_kib", "Memory of an idle connection, KiB (shorter is better)", lambda value: f"{value:.1f}", folder / "idle.svg")
    for names, title, file in (
        (("rate_50", "rate_80"), "Latency at a fixed rate, counted from when each request was due", "latency.svg"),
        (("few_http1_1", "few_http1_2", "few_http1_4", "few_http1_8"), "Latency with few long-lived HTTP/1.1 connections, two workers", "few_http1.svg"),
        (("few_http2_1", "few_http2_2", "few_http2_4", "few_http2_8"), "Latency with few long-lived HTTP/2 connections × 8 streams, two workers", "few_http2.svg"),
    ):
        percentiles([result for result in results if result["name"] in names], title, folder / file)


def bars(results, key, title, words, path):
    groups = [(result["title"], [(label, found[key], words(found[key])) for label, found in result["medians"].items() if label in TITLES]) for result in results]
    if groups:
        svg.bars(title, groups, TITLES, path)


def percentiles(results, title, path):
    if not results:
        return
    keys = [key for key in PERCENTILES if all(key in found for result in results for found in result["medians"].values())]
    panels = []
    for result in results:
        heading = f"{result['prepared']:,} requests a second" if result["prepared"] else result["title"].split(", two")[0].replace("long-lived ", "")
        panels.append((heading, [PERCENTILES[key] for key in keys], {label: [found[key] / 1000 for key in keys] for label, found in result["medians"].items()}))
    svg.lines(title, panels, TITLES, path, "share of the requests", "ms")
