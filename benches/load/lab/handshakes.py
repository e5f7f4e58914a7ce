"""New TLS connections to one port of this machine, each with a full handshake, one request and a close; on request every
other one is broken off after the hello. A program of its own, so that it can be pinned to the load's core. Prints JSON."""

import argparse
import json
import pathlib
import socket
import ssl
import threading
import time


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--tokens", type=pathlib.Path)
    parser.add_argument("--path")
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--parallel", type=int)
    parser.add_argument("--break-off", action="store_true")
    options = parser.parse_args()
    tokens = options.tokens.read_text().split()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ecdh_curve("prime256v1")
    context.set_alpn_protocols(["http/1.1"])
    end = time.monotonic() + options.seconds
    counts = {"full": 0, "broken": 0, "wrong": 0, "resumed": 0, "latencies_us": []}
    lock = threading.Lock()

    def work(number):
        full = broken = wrong = resumed = 0
        latencies = []
        while time.monotonic() < end:
            number += 1
            started = time.perf_counter()
            try:
                good, was_resumed = whole(options, context, tokens[number * options.parallel % len(tokens)])
            except OSError:
                good = was_resumed = False
            latencies.append((time.perf_counter() - started) * 1e6)
            full, wrong, resumed = full + 1, wrong + (not good), resumed + was_resumed
            if options.break_off:
                half(options.port, context)
                broken += 1
        with lock:
            for name, count in (("full", full), ("broken", broken), ("wrong", wrong), ("resumed", resumed), ("latencies_us", latencies)):
                counts[name] += count

    started = time.monotonic()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(options.parallel)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(counts | {"seconds": time.monotonic() - started}))


def whole(options, context, token):
    with socket.create_connection(("127.0.0.1", options.port), timeout=10) as plain:
        with context.wrap_socket(plain, server_hostname="localhost") as stream:
            stream.sendall(f"GET {options.path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n".encode())
            answer = b""
            while chunk := stream.recv(16384):
                answer += chunk
            return answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"}\n"), bool(stream.session_reused)


def half(port, context):
    """A hello; the connection is closed when the server's answer begins to arrive."""
    outgoing = ssl.MemoryBIO()
    try:
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost").do_handshake()
    except ssl.SSLWantReadError:
        pass
    with socket.create_connection(("127.0.0.1", port), timeout=10) as stream:
        stream.sendall(outgoing.read())
        stream.recv(1)


if __name__ == "__main__":
    main()
