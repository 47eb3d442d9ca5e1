"""Patience: the same key until there is an answer, and what is known when there is none."""

import asyncio

import pytest

from credit_ledger_client import (
    InsufficientCredits,
    Ledger,
    OutcomeUnknown,
    Patience,
    Unavailable,
    Unsupported,
    over_nats,
)
from credit_ledger_client.errors import TooLarge
from credit_ledger_client.testing import LedgerDouble
from service.outages import Overloaded
from service.outages import Unavailable as Outage
from service.replies import Reply, out_of_order
from tests.bus.calling import Call, Scripted, bus_of, prefix_of
from tests.features.conftest import Service, free_port

SHORT = Patience(seconds=1.0, attempt_seconds=0.8, pause_seconds=0.01, lookup_seconds=0.8)


class TestTheDouble:
    async def test_a_lost_answer_is_looked_up(self, double: LedgerDouble) -> None:
        with double.losing_answers():
            answer = await double.consume("a", "upscale_image")
        assert answer.replayed
        assert (await double.quota("a")).credits_used == 1

    async def test_what_never_reached_the_ledger_was_not_executed(self, double: LedgerDouble) -> None:
        with double.away(), pytest.raises(Unavailable) as caught:
            await double.consume("a", "upscale_image")
        assert not isinstance(caught.value, OutcomeUnknown)

    async def test_a_refusal_whose_answer_is_lost_is_not_known(self, double: LedgerDouble) -> None:
        with double.losing_answers(), pytest.raises(OutcomeUnknown) as caught:
            await double.consume("a", "upscale_image", 1000)
        assert caught.value.account == "a"
        with pytest.raises(InsufficientCredits):
            await double.consume("a", "upscale_image", 1000, key=caught.value.key)

    async def test_a_call_that_may_take_no_time_is_not_sent(self, double: LedgerDouble) -> None:
        with pytest.raises(Unavailable):
            await double.consume("a", "upscale_image", within=0)
        assert double.written == []


class TestNats:
    """A bus whose gateway a test writes itself: what the client makes of each answer."""

    async def ask(self, nats_url: str, *replies: Reply, patience: Patience = SHORT) -> tuple[list[Call], BaseException]:
        """Send a command that is answered with these, the last one again and again."""
        left = list(replies)

        async def script(call: Call) -> Reply:
            if call.name == "outcome":
                return Reply(404, b'{"code": "command_not_found", "status": 404}', "command_not_found")
            return left.pop(0) if len(left) > 1 else left[0]

        gateway = Scripted(script)
        bus = bus_of(gateway, nats_url)
        bus.start()
        try:
            await bus.started()
            prefix = prefix_of(bus)
            async with Ledger.over_nats(nats_url, caller="tests", prefix=prefix, patience=patience) as ledger:
                try:
                    await ledger.consume("a", "upscale_image", key="k")
                except Exception as error:  # noqa: BLE001 - it is what the law is about
                    return gateway.calls, error
            return gateway.calls, RuntimeError("there was an answer")
        finally:
            await bus.stop()

    async def test_an_outage_of_the_ledger_is_no_missing_ledger(self, nats_url: str) -> None:
        calls, error = await self.ask(nats_url, out_of_order(Outage("the database is away")))
        assert isinstance(error, OutcomeUnknown), "the command may have been written"
        assert "the database is away" in str(error)
        assert calls[-1].name == "outcome", "its key was looked up at last"

    async def test_overloaded_means_that_it_was_not_executed(self, nats_url: str) -> None:
        calls, error = await self.ask(nats_url, out_of_order(Overloaded("too much")))
        assert type(error) is Unavailable
        assert {call.name for call in calls} == {"consume"}

    async def test_a_command_is_sent_again_with_the_same_bytes(self, nats_url: str) -> None:
        patience = Patience(seconds=60, attempt_seconds=20, pause_seconds=0.01)
        away = out_of_order(Outage("the database is away"))
        calls, error = await self.ask(nats_url, away, away, Reply(201, b"{}"), patience=patience)
        assert str(error) == "there was an answer"
        assert len(calls) == 3
        assert len({call.body for call in calls}) == 1, "the key and all"

    async def test_nobody_listens_is_told_soon(self, nats_url: str) -> None:
        async with Ledger.over_nats(nats_url, caller="tests", prefix="nowhere", patience=SHORT) as ledger:
            with pytest.raises(Unavailable, match="nobody listens") as caught:
                await ledger.consume("a", "upscale_image")
        assert not isinstance(caught.value, OutcomeUnknown)

    async def test_a_server_that_is_not_there_is_unavailable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(over_nats, "CONNECT_SECONDS_MAX", 0.3)
        with pytest.raises(Unavailable):
            await Ledger.over_nats(f"nats://127.0.0.1:{free_port()}", caller="tests").__aenter__()

    async def test_a_body_that_the_server_does_not_take_is_refused_at_once(self, nats: Ledger) -> None:
        with pytest.raises(TooLarge):
            await nats.batch([{"command": "release", "account": "a", "reason": "x" * 9_000_000}])


async def test_http_away_is_unavailable_and_was_not_executed() -> None:
    async with Ledger.over_http(f"http://127.0.0.1:{free_port()}", patience=SHORT) as ledger:
        with pytest.raises(Unavailable) as caught:
            await ledger.consume("a", "upscale_image")
    assert not isinstance(caught.value, OutcomeUnknown)


async def test_what_a_transport_cannot_do_it_says(http: Ledger, nats: Ledger) -> None:
    with pytest.raises(Unsupported, match="over_nats"):
        await http.submit("consume", "a", operation="upscale_image")
    with pytest.raises(Unsupported, match="over_nats"):
        async with http.events() as events:
            await anext(aiter(events))
    with pytest.raises(Unsupported, match="over_http"):
        await anext(nats.log(0))


async def test_requests_go_side_by_side(nats: Ledger, account: str, studio: Service) -> None:
    await nats.change_plan(account, "enterprise")
    assert studio.prefix
    answers = await asyncio.gather(*(nats.consume(account, "upscale_image") for _ in range(300)))
    assert len({answer.token for answer in answers}) == 300
