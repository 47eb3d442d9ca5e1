"""A TCP relay in front of PostgreSQL that loses things at exactly chosen moments.

A trap is set for a marker, some bytes that only one message has: the key of a command, which stands in the lines that
its append sends. The trap takes effect on the first message with the marker, and once. What it does:

- NOT_SENT     the message is lost and the connection breaks: the database never hears of it
- TORN         half of the message arrives and the connection breaks: the database throws that half away
- NOT_ANSWERED the message arrives, the database does it and says so; the answer is lost and the connection breaks
- HELD_BACK    the message is kept and nothing breaks, until `let_go`
- ANSWER_HELD  the message arrives, the database does it and says so; the answer is kept, until `let_go`

Beside that it can go away altogether (connections break, new ones are refused) or fall silent (they hang).
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from enum import Enum, auto
from urllib.parse import urlsplit, urlunsplit

HOST = "127.0.0.1"
# The end of every answer: "ready for query", outside of a transaction.
READY = b"Z\x00\x00\x00\x05I"
CHUNK = 65536


class Fault(Enum):
    """What a trap does; see above."""

    NOT_SENT = auto()
    TORN = auto()
    NOT_ANSWERED = auto()
    HELD_BACK = auto()
    ANSWER_HELD = auto()


class Trap:
    """A marker and what happens to the first message with it; `sprung` is set when it has happened."""

    def __init__(self, marker: bytes, fault: Fault) -> None:
        self.marker = marker
        self.fault = fault
        self.taken = False
        self.sprung = asyncio.Event()
        self._released = asyncio.Event()

    def let_go(self) -> None:
        """Lets what is held go on its way."""
        self._released.set()

    async def hold(self) -> None:
        """Says that it has happened, and waits to be let go."""
        self.sprung.set()
        await self._released.wait()


class Relay:
    """One connection of a client, and ours to the server in its place."""

    def __init__(self, proxy: "Proxy", client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._awaiting: Trap | None = None

    def cut(self) -> None:
        """Breaks the connection, to both sides."""
        for writer in (self._client, self._server):
            writer.transport.abort()

    async def upwards(self, reader: asyncio.StreamReader) -> None:
        """Carries what the client says."""
        tail = b""
        while chunk := await reader.read(CHUNK):
            trap = self._proxy.trap_for(tail + chunk)
            tail = (tail + chunk)[-200:]
            if trap is not None and not await self._spring(trap, chunk):
                return
            if trap is None or trap.fault is not Fault.HELD_BACK:
                await self._carry(self._server, chunk)

    async def _spring(self, trap: Trap, chunk: bytes) -> bool:
        """Does what the trap says with a message; returns whether the connection lives on."""
        match trap.fault:
            case Fault.NOT_SENT:
                self._break(trap)
                return False
            case Fault.TORN:
                self._server.write(chunk[: len(chunk) // 2])
                await self._server.drain()
                self._break(trap)
                return False
            case Fault.HELD_BACK:
                await trap.hold()
                await self._carry(self._server, chunk)
            case Fault.NOT_ANSWERED | Fault.ANSWER_HELD:
                self._awaiting = trap
        return True

    def _break(self, trap: Trap) -> None:
        self.cut()
        trap.sprung.set()

    async def downwards(self, reader: asyncio.StreamReader) -> None:
        """Carries what the server says."""
        kept = b""
        while chunk := await reader.read(CHUNK):
            trap = self._awaiting
            if trap is None:
                await self._carry(self._client, chunk)
                continue
            kept += chunk
            if not kept.endswith(READY):
                continue
            if trap.fault is Fault.NOT_ANSWERED:
                self._break(trap)
                return
            await trap.hold()
            await self._carry(self._client, kept)
            self._awaiting, kept = None, b""

    async def _carry(self, writer: asyncio.StreamWriter, chunk: bytes) -> None:
        await self._proxy.speaks.wait()
        writer.write(chunk)
        await writer.drain()


class Proxy:
    """The relay; `url` is where it is to be found."""

    def __init__(self, server_url: str) -> None:
        self._parts = urlsplit(server_url)
        self._server: asyncio.Server | None = None
        self._port = 0
        self._relays: set[Relay] = set()
        self._traps: list[Trap] = []
        self.speaks = asyncio.Event()
        self.speaks.set()

    @property
    def url(self) -> str:
        """The database's URL by way of the proxy."""
        user, _, _ = self._parts.netloc.rpartition("@")
        return urlunsplit(self._parts._replace(netloc=f"{user}@{HOST}:{self._port}"))

    def set_trap(self, marker: str, fault: Fault) -> Trap:
        """Sets a trap for the next message with this text."""
        trap = Trap(marker.encode(), fault)
        self._traps.append(trap)
        return trap

    def trap_for(self, said: bytes) -> Trap | None:
        """The first trap that these bytes spring, which is then used up."""
        for trap in self._traps:
            if trap.marker in said:
                self._traps.remove(trap)
                return trap
        return None

    async def come(self) -> None:
        """Listens, at the same port as before."""
        self._server = await asyncio.start_server(self._serve, HOST, self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    def go_away(self) -> None:
        """Breaks all connections and refuses new ones."""
        assert self._server is not None
        self._server.close()
        self.cut()

    def cut(self) -> None:
        """Breaks all connections, those too that hold something."""
        for relay in list(self._relays):
            relay.cut()

    def fall_silent(self) -> None:
        """Carries nothing any more, and breaks nothing."""
        self.speaks.clear()

    def speak_again(self) -> None:
        """Carries what was kept, and all else."""
        self.speaks.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            server_reader, server_writer = await asyncio.open_connection(self._parts.hostname, self._parts.port)
            relay = Relay(self, writer, server_writer)
            self._relays.add(relay)
            pumps = [
                asyncio.create_task(relay.upwards(reader)),
                asyncio.create_task(relay.downwards(server_reader)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                relay.cut()
                self._relays.discard(relay)
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        writer.close()


@asynccontextmanager
async def proxy_to(server_url: str) -> AsyncGenerator[Proxy]:
    """A proxy in front of this database, for the length of the block."""
    proxy = Proxy(server_url)
    await proxy.come()
    try:
        yield proxy
    finally:
        proxy.speak_again()
        proxy.go_away()
