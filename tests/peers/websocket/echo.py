"""A WebSocket server that sends every message back, compressed where the client offers that.

    python echo.py

Says `{"port": …}` first. Ends with its standard input.
"""

import asyncio
import json
import logging
import sys

from websockets.asyncio.server import serve


async def echo(connection):
    async for message in connection:
        await connection.send(message)


async def main():
    # Clients that break the protocol are what this is for.
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    async with serve(echo, "127.0.0.1", 0, max_size=None, ping_interval=None) as server:
        print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        server.close()


asyncio.run(main())
