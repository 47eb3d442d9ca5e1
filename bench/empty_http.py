"""The least that an aiohttp handler can do for a command: read the small body, answer a small JSON.

What the HTTP library costs, but no strict ceiling: with 512 connections a handler whose callers wait for a common
commit and are answered together takes less CPU time for each request than this one, which answers one by one. So a
ratio above 1 is possible there and says nothing about the ledger; with 64 connections it was not seen.
"""

import asyncio
import socket

import uvloop
from aiohttp import web

ANSWER = b'{"account":"bench","replayed":false,"token":"1-1","events":[]}'


async def answer(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(body=ANSWER, content_type="application/json")


async def main() -> None:
    """Serves on a free port of the loopback and prints it."""
    application = web.Application()
    application.router.add_get("/v1/accounts/{account}/balance", answer)
    application.router.add_post("/v1/accounts/{account}/reservations", answer)
    application.router.add_post("/v1/accounts/{account}/reservations/{reservation}/consume", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    await web.SockSite(runner, listener, backlog=1024).start()
    print(listener.getsockname()[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
