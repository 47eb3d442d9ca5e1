"""One command that starts an example: `credit-ledger up` beside it, its HTTP application, and lines to paste.

Nothing of this is to be copied: a service of yours is given the addresses of a ledger that runs already, as
`--ledger-url` and `--nats-url` do here.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import web

from service.embedded import launch

HOST = "127.0.0.1"
ROOT = Path(__file__).parents[1]
CATALOG = ROOT / "service" / "catalogs" / "asset_studio.toml"
START_SECONDS_MAX = 60.0
LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Place:
    """Where an example runs: its ledger, its own directory, its own URL, and the prefix of the ledger's subjects."""

    ledger_url: str
    nats_url: str
    data: Path
    url: str
    prefix: str = "credits"


@dataclass(frozen=True, slots=True)
class Example:
    """What is started: an application for a place, and the lines to paste for its URL."""

    name: str
    port: int
    build: Callable[[Place], Awaitable[web.Application]]
    lines: Callable[[str], Sequence[str]]


def main(example: Example) -> None:
    """Run an example until Ctrl-C; the exit code is 1 when its ledger did not start or ended by itself."""
    parser = argparse.ArgumentParser(prog=f"python -m examples.{example.name}")
    parser.add_argument("--port", type=int, default=example.port, help="of 127.0.0.1; 0: one that is free")
    parser.add_argument("--data", type=Path, default=ROOT / ".ledger" / example.name, help="survives a restart")
    parser.add_argument("--ledger-url", help="a ledger that runs already, with the catalog asset_studio.toml")
    parser.add_argument("--nats-url", help="the NATS of that ledger")
    parser.add_argument("--prefix", default="credits", help="of that ledger's subjects")
    arguments = parser.parse_args()
    if (arguments.ledger_url is None) != (arguments.nats_url is None):
        parser.error("--ledger-url and --nats-url go together")
    arguments.data = arguments.data.absolute()
    arguments.data.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        asyncio.run(_run(example, arguments))
    except StartError as error:
        sys.exit(f"{example.name}: {error}")


class StartError(Exception):
    """The example cannot run; the message says why."""


async def _run(example: Example, arguments: argparse.Namespace) -> None:
    data: Path = arguments.data
    # Its own port is taken first, so that it is known before anything is started.
    own = socket.socket()
    own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        own.bind((HOST, arguments.port))
    except OSError as error:
        raise StartError(f"port {arguments.port} is taken: choose another one with --port") from error
    url = f"http://{HOST}:{own.getsockname()[1]}"
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        ended = asyncio.create_task(stop.wait())
        waits: set[asyncio.Task[object]] = {ended}
        if arguments.ledger_url is None:
            ledger_url, nats_url, process = await stack.enter_async_context(_ledger(data, stop))
            waits.add(asyncio.create_task(process.wait()))
        else:
            ledger_url, nats_url = arguments.ledger_url, arguments.nats_url
        place = Place(ledger_url, nats_url, data, url, arguments.prefix)
        runner = web.AppRunner(await example.build(place), access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.SockSite(runner, own).start()
        shown = [f"{example.name} is at {url}, its ledger at {ledger_url}", "", *example.lines(url), ""]
        print(*shown, "Ctrl-C stops everything.", sep="\n", flush=True)
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            ended.cancel()
            raise StartError(f"the ledger ended; its log is {data / 'ledger.log'}")


@asynccontextmanager
async def _ledger(data: Path, stop: asyncio.Event) -> AsyncGenerator[tuple[str, str, asyncio.subprocess.Process]]:
    """Run `credit-ledger up` on a directory: its two URLs, and the process, which ends with this one."""
    port, nats_port = _free_port(), _free_port()
    up = ("-m", "service.cli", "up", "--data", str(data / "ledger"), "--catalog", str(CATALOG))
    own = {name: value for name, value in os.environ.items() if not name.startswith("LEDGER_")}
    with (data / "ledger.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(launch.__file__), str(os.getpid()), "-1", "-1"),
            *(sys.executable, *up, "--port", str(port), "--nats-port", str(nats_port)),
            cwd=ROOT,
            env=own,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C stops the example first, and then its ledger
        )
    url = f"http://{HOST}:{port}"
    try:
        async with aiohttp.ClientSession() as session, asyncio.timeout(START_SECONDS_MAX):
            while not await _is_ready(session, url):
                if process.returncode is not None or stop.is_set():
                    raise StartError(f"the ledger did not start; its log is {data / 'ledger.log'}")
                await asyncio.sleep(LOOK_SECONDS)
        yield url, f"nats://{HOST}:{nats_port}", process
    except TimeoutError as error:
        raise StartError(f"the ledger did not start; its log is {data / 'ledger.log'}") from error
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        await process.wait()


async def _is_ready(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(f"{url}/readyz") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


def _free_port() -> int:
    with socket.socket() as one:
        one.bind((HOST, 0))
        return int(one.getsockname()[1])
