"""Autobahn's cases of WebSocket conformance, run by kosoku against a server and against the same server through a proxy.

    python compare.py DIRECT PROXIED [--case GLOB]… [--without GLOB]… [--parallel N]

DIRECT and PROXIED are WebSocket URLs. Says as one line of JSON how many cases there were, how they ended, how long each run took, and
which cases ended otherwise through the proxy. A case's end is its verdict, that on its closing handshake, and the code the server closed with.
"""

import argparse
import asyncio
import collections
import json
import os
import time

from kosoku import run_fuzzingclient


def verdict(said):
    # Where a violation follows good messages, a server passes whether or not it still answers those ("NON-STRICT"), and which of the two
    # it does depends on whether they came to it at once.
    return "OK" if said == "NON-STRICT" else said


async def run(url, arguments):
    started = time.monotonic()
    try:
        results = await run_fuzzingclient(
            url, arguments.case or None, arguments.without or None, concurrency=arguments.parallel
        )
    except AssertionError as failure:
        # Some case failed, which may be the server's doing: what counts is whether the proxy changes that.
        results = failure.results
    ends = {
        result.case_id: (verdict(result.behavior.value), result.behavior_close.value, result.remote_close_code)
        for result in results
    }
    return ends, time.monotonic() - started


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("direct")
    parser.add_argument("proxied")
    parser.add_argument("--case", action="append")
    parser.add_argument("--without", action="append")
    parser.add_argument("--parallel", type=int, default=4)
    arguments = parser.parse_args()
    direct, direct_seconds = await run(arguments.direct, arguments)
    proxied, proxied_seconds = await run(arguments.proxied, arguments)
    differing = {
        case: {"direct": direct.get(case), "proxied": proxied.get(case)}
        for case in sorted(direct.keys() | proxied.keys())
        if direct.get(case) != proxied.get(case)
    }
    print(
        json.dumps(
            {
                "cases": len(direct),
                "verdicts": collections.Counter(end[0] for end in direct.values()),
                "closings": collections.Counter(end[1] for end in direct.values()),
                "seconds": {"direct": round(direct_seconds, 1), "proxied": round(proxied_seconds, 1)},
                "differing": differing,
            }
        ),
        flush=True,
    )


asyncio.run(main())
# Everything has been said. kosoku's threads do not always survive the interpreter's end, which would count as a failure.
os._exit(0)
