"""Following the stream of events: every event once and in order, whatever the stream does."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterable
from hashlib import sha256

import pytest
from nats import connect

from credit_ledger_client import Event, Following, GapFound, HistoryChanged, Ledger
from credit_ledger_client.events import ConsumedEvent, GrantedEvent, PlanChangedEvent, ReservedEvent
from credit_ledger_client.following import Cursor
from credit_ledger_client.testing import LedgerDouble
from credit_ledger_client.testing.double import Memory
from credit_ledger_client.transport import Published, Start
from tests.client.conftest import STUDIO, over_nats
from tests.features.conftest import Service
from tests.servers import EVENTUALLY_SECONDS_MAX

Bend = Callable[[list[Published]], Iterable[Published]]


async def take(events: Following, count: int) -> list[Event]:
    """The next events, so many."""
    return [event async for _, event in _numbered(events, count)]


async def _numbered(events: Following, count: int) -> AsyncIterator[tuple[int, Event]]:
    numbers = itertools.count(1)
    async for event in events:
        yield (number := next(numbers)), event
        if number == count:
            return


async def busy(ledger: Ledger, account: str, rounds: int) -> None:
    for _ in range(rounds):
        await ledger.consume(account, "upscale_image")


class Bent(Memory):
    """The double's stream, bent by a test before it is followed."""

    def __init__(self, double: LedgerDouble, bend: Bend) -> None:
        super().__init__(double._books)
        self._bend = bend

    async def stream(self, start: Start) -> AsyncIterator[Published]:
        count = len(self._books.order)
        straight = super().stream(start)
        for published in self._bend([await anext(straight) for _ in range(count)]):
            yield published


def following(double: LedgerDouble, bend: Bend, *, fill: Ledger | None = None) -> Following:
    return Following(Bent(double, bend), None, fill=fill)


async def ids(events: Following, count: int) -> list[str]:
    async with asyncio.timeout(EVENTUALLY_SECONDS_MAX), events:
        return [event.id for event in await take(events, count)]


class TestWhateverTheStreamDoes:
    async def test_what_comes_again_is_passed_over(self, double: LedgerDouble) -> None:
        await busy(double, "a", 5)
        written = [line.event.id for line in double.written]
        events = following(double, lambda all_: [*all_[:4], *all_[1:4], *all_, *all_])
        assert await ids(events, len(written)) == written
        assert events.duplicates == 7

    async def test_what_is_missing_is_read_from_the_log(self, double: LedgerDouble) -> None:
        await busy(double, "a", 5)
        written = [line.event.id for line in double.written]
        events = following(double, lambda all_: [all_[0], *all_[5:]], fill=double)
        assert await ids(events, len(written)) == written
        assert events.filled == 4

    async def test_a_gap_that_nothing_fills_is_told(self, double: LedgerDouble) -> None:
        await busy(double, "a", 5)
        with pytest.raises(GapFound) as caught:
            await ids(following(double, lambda all_: [all_[0], *all_[5:]]), 8)
        first = double.written[0].event
        assert (caught.value.partition, caught.value.expected, caught.value.found) == (first.partition, 2, 6)

    async def test_a_gap_at_the_very_beginning_is_one_too(self, double: LedgerDouble) -> None:
        await busy(double, "a", 2)
        with pytest.raises(GapFound):
            await ids(following(double, lambda all_: all_[1:]), 2)

    async def test_an_event_that_was_changed_is_found(self, double: LedgerDouble) -> None:
        await busy(double, "a", 2)

        def forge(all_: list[Published]) -> list[Published]:
            last = all_[-1]
            return [*all_[:-1], Published(last.sequence, last.body.replace(b'"charged":1', b'"charged":0'))]

        with pytest.raises(HistoryChanged, match="hash"):
            await ids(following(double, forge), len(double.written))

    async def test_another_history_than_the_one_that_was_seen_is_found(self, double: LedgerDouble) -> None:
        async with LedgerDouble(STUDIO) as other:
            await busy(double, "a", 1)
            await busy(other, "a", 2)
            async with double.events() as events:
                await take(events, len(double.written))
                cursor = events.cursor
            with pytest.raises(HistoryChanged, match="follow"):
                async with other.events(cursor) as events:
                    await take(events, 1)

    async def test_what_is_no_event_is_told(self, double: LedgerDouble) -> None:
        await busy(double, "a", 1)
        with pytest.raises(HistoryChanged):
            await ids(following(double, lambda _: [Published(1, b"{}")]), 1)


class TestResuming:
    async def test_one_goes_on_behind_the_cursor_that_was_kept(self, double: LedgerDouble) -> None:
        await busy(double, "a", 5)
        seen: list[str] = []
        cursor: str | None = None
        for _ in double.written:  # a consumer that is killed after each event
            async with double.events(cursor) as events:
                [event] = await take(events, 1)
                seen.append(event.id)
                cursor = events.cursor
        assert seen == [line.event.id for line in double.written]

    async def test_an_event_whose_cursor_was_not_kept_comes_again(self, double: LedgerDouble) -> None:
        await busy(double, "a", 2)
        async with double.events() as events:
            await take(events, 1)
            cursor = events.cursor
            [lost] = await take(events, 1)
        async with double.events(cursor) as events:
            assert await take(events, 1) == [lost]

    async def test_who_begins_with_what_is_new_sees_nothing_before(self, double: LedgerDouble) -> None:
        await busy(double, "a", 3)
        async with double.events(begin="new") as events:
            coming = asyncio.create_task(take(events, 1))
            await asyncio.sleep(0)
            await busy(double, "a", 1)
            [event] = await coming
            cursor = events.cursor
        assert event.position == len(double.written)
        assert Cursor.parse(cursor, only_new=False).places[event.partition].position == event.position

    def test_a_text_that_is_no_cursor_is_refused(self, double: LedgerDouble) -> None:
        with pytest.raises(ValueError, match="no cursor"):
            double.events("yesterday")


class TestTheRealStream:
    async def test_every_event_of_the_log_comes_once_and_typed(self, nats: Ledger, http: Ledger, account: str) -> None:
        async with nats.hold(account, "generate_image"):
            pass
        answer = await nats.consume(account, "upscale_image")
        mine: list[Event] = []
        positions: dict[int, int] = {}
        async with asyncio.timeout(EVENTUALLY_SECONDS_MAX), nats.events(fill=http) as events:
            async for event in events:
                assert event.position == positions.get(event.partition, 0) + 1
                positions[event.partition] = event.position
                if event.account == account:
                    mine.append(event)
                if event.id == answer.token:
                    break
        kinds = [type(event) for event in mine]
        assert kinds == [PlanChangedEvent, GrantedEvent, GrantedEvent, ReservedEvent, ConsumedEvent, ConsumedEvent]
        last = mine[-1]
        assert isinstance(last, ConsumedEvent)
        assert (last.data.operation, last.data.charged) == ("upscale_image", 1)

    async def test_one_goes_on_where_one_was_and_follows_what_comes(self, nats: Ledger, account: str) -> None:
        opened = await nats.change_plan(account, "starter")
        async with asyncio.timeout(EVENTUALLY_SECONDS_MAX), nats.events(begin="first") as events:
            async for event in events:
                if event.id == opened.token:
                    break
            cursor = events.cursor
        answers = [await nats.consume(account, "upscale_image") for _ in range(3)]
        async with asyncio.timeout(EVENTUALLY_SECONDS_MAX), nats.events(cursor) as events:
            seen = [event.id for event in await take(events, 3)]
            assert seen == [answer.token for answer in answers]
            later = await nats.consume(account, "upscale_image")
            [event] = await take(events, 1)
            assert event.id == later.token

    async def test_a_gap_is_filled_over_http(self, nats: Ledger, http: Ledger, account: str) -> None:
        await nats.change_plan(account, "starter")
        answers = [await nats.consume(account, "upscale_image") for _ in range(3)]
        last = answers[-1].token
        async with asyncio.timeout(EVENTUALLY_SECONDS_MAX), nats.events() as events:
            async for event in events:
                if event.id == last:
                    break
            cursor = Cursor.parse(events.cursor, only_new=False)
        # As if the stream had lost them: the place says that they were not seen, the sequence leads behind them.
        partition, position = (int(part) for part in str(last).split("-"))
        lines = [line async for line in http.log(partition, after=position - 4, limit=1)]
        before = Cursor.model_validate_json(cursor.model_dump_json())
        before.places[partition].position = position - 3
        before.places[partition].hash = sha(lines[0])
        await nats.consume(account, "upscale_image")
        async with asyncio.timeout(EVENTUALLY_SECONDS_MAX), nats.events(before.model_dump_json(), fill=http) as events:
            seen = [event.position for event in await take(events, 4)]
            assert seen == [position - 2, position - 1, position, position + 1]
            assert events.filled == 3

    async def test_a_stream_that_was_lost_and_filled_again_is_followed_on(
        self, nats: Ledger, account: str, studio: Service
    ) -> None:
        opened = await nats.change_plan(account, "starter")
        async with asyncio.timeout(EVENTUALLY_SECONDS_MAX), nats.events() as events:
            async for event in events:
                if event.id == opened.token:
                    break
            server = await connect(studio.nats_url)
            await server.jetstream().delete_stream(f"{studio.prefix.upper()}_EVENTS")
            await server.close()
            answer = await nats.consume(account, "upscale_image")
            [event] = await take(events, 1)
            assert event.id == answer.token
            assert events.duplicates > 0, "all of it came again"

    async def test_two_that_follow_as_one_caller_take_turns(self, studio: Service, account: str) -> None:
        async with over_nats(studio) as ledger:
            answer = await ledger.consume(account, "upscale_image")
            async with ledger.events() as first, ledger.events() as second:
                await take(first, 1)
                waiting = asyncio.create_task(take(second, 1))
                done, _ = await asyncio.wait({waiting}, timeout=1.5)
                assert not done, "the second one waits"
                async for event in first:
                    if event.id == answer.token:
                        break
                await first.__aexit__(None, None, None)
                async with asyncio.timeout(EVENTUALLY_SECONDS_MAX):
                    assert len(await waiting) == 1


def sha(line: bytes) -> str:
    return sha256(line).hexdigest()
