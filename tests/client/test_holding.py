"""Holds as blocks: consumed when the work ends well, released when it does not, renewed while it runs."""

import asyncio
from datetime import timedelta

import pytest

from credit_ledger_client import (
    CapacityExceeded,
    InsufficientCredits,
    Ledger,
    OutcomeUnknown,
    ReservationExpired,
    ReservationFinalized,
    Unavailable,
)
from credit_ledger_client.errors import ExceedsReservation
from credit_ledger_client.testing import LedgerDouble
from tests.servers import eventually


async def state_of(ledger: Ledger, account: str, reservation_id: str) -> str:
    found = (await ledger.reservations(account)).reservations
    return {each.id: each.state for each in found}[reservation_id]


async def test_what_is_held_is_consumed_when_the_block_ends(ledger: Ledger, account: str) -> None:
    async with ledger.hold(account, "generate_image", quantity=4) as hold:
        assert (await ledger.balance(account)).reserved == 8
        assert hold.reservation is not None
        assert hold.reservation.held == 8
    assert hold.settled is not None
    assert hold.settled.consumption is not None
    assert hold.settled.consumption.charged == 8
    balance = await ledger.balance(account)
    assert (balance.available, balance.reserved) == (67, 0)
    await ledger.refund(account, hold.id, reason="the worker failed later")
    assert (await ledger.balance(account)).available == 75


async def test_what_is_set_on_the_hold_is_charged_instead(ledger: Ledger, account: str) -> None:
    async with ledger.hold(account, "generate_image", 4) as hold:
        hold.quantity = 3
    assert hold.settled is not None
    assert hold.settled.consumption is not None
    assert hold.settled.consumption.charged == 6
    async with ledger.hold(account, "generate_image", 4) as hold:
        hold.amount = 1
    assert (await ledger.balance(account)).available == 75 - 7


async def test_a_failure_releases(ledger: Ledger, account: str) -> None:
    hold = ledger.hold(account, "generate_image")
    with pytest.raises(ZeroDivisionError):
        async with hold:
            _ = 1 / 0
    assert await state_of(ledger, account, hold.id) == "released"
    assert (await ledger.balance(account)).available == 75


async def test_a_cancellation_releases(ledger: Ledger, account: str) -> None:
    holding = asyncio.Event()

    async def work() -> None:
        async with ledger.hold(account, "generate_image", reservation_id="r"):
            holding.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await holding.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await state_of(ledger, account, "r") == "released"


async def test_a_caller_that_is_cancelled_while_reserving_leaves_nothing_held(nats: Ledger, account: str) -> None:
    await nats.change_plan(account, "starter")
    task = asyncio.create_task(nats.hold(account, "generate_image", reservation_id="r").__aenter__())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    async def is_released() -> bool:
        held = (await nats.reservations(account)).reservations
        return [each.state for each in held] == ["released"]

    await eventually(is_released, "the hold is given back")


async def test_a_refusal_is_raised_before_the_block_runs(ledger: Ledger, account: str) -> None:
    with pytest.raises(InsufficientCredits):
        async with ledger.hold(account, "generate_image", 100):
            raise AssertionError("the block must not run")
    async with ledger.hold(account, "generate_image"):
        with pytest.raises(CapacityExceeded):
            await ledger.hold(account, "generate_image").__aenter__()


async def test_a3_a_hold_is_handed_over_by_its_id_and_consumed_after_success(ledger: Ledger, account: str) -> None:
    queue: asyncio.Queue[str] = asyncio.Queue()
    async with ledger.hold(account, "generate_image") as hold:
        await queue.put(hold.hand_over())
    assert await state_of(ledger, account, hold.id) == "open"
    async with ledger.take_over(account, await queue.get()) as taken:
        assert taken.id == hold.id
    assert await state_of(ledger, account, hold.id) == "settled"
    with pytest.raises(ReservationFinalized):
        await ledger.take_over(account, hold.id).__aenter__()


async def test_a_job_that_is_tried_again_with_its_key_never_pays_twice(ledger: Ledger, account: str) -> None:
    holds: list[str] = []
    for failure in ("FirstError", "SecondError", None):
        hold = await ledger.hold(account, "generate_image", key="job-1").__aenter__()
        await hold.leave(failure)
        holds.append(hold.id)
    assert len(set(holds)) == 3, "what was released is held anew"
    with pytest.raises(ReservationFinalized) as caught:
        await ledger.hold(account, "generate_image", key="job-1").__aenter__()
    assert caught.value.state == "settled"
    assert (await ledger.balance(account)).available == 73


async def test_a_job_that_died_goes_on_with_its_hold(ledger: Ledger, account: str) -> None:
    first = ledger.hold(account, "generate_image", key="job-1", renew=False)
    await first.__aenter__()  # and dies here
    async with ledger.hold(account, "generate_image", key="job-1") as again:
        assert again.id == first.id
    assert (await ledger.balance(account)).available == 73


async def test_steps_keep_the_hold_open(ledger: Ledger, account: str) -> None:
    async with ledger.hold(account, amount=10) as hold:
        await hold.step(amount=2)
        await hold.step(amount=3)
        await hold.extend(amount=5)
        await hold.release()
    balance = await ledger.balance(account)
    assert (balance.available, balance.reserved) == (70, 0)


async def test_a_free_operation_is_a_block_without_a_hold(ledger: Ledger, account: str) -> None:
    async with ledger.hold(account, "pin_asset") as hold:
        assert hold.id == ""
        await hold.step(amount=1)
    assert hold.settled is None


async def test_more_than_held_under_reject_is_told_and_the_hold_stays(ledger: Ledger, account: str) -> None:
    hold = ledger.hold(account, amount=5, overage="reject")
    with pytest.raises(ExceedsReservation):
        async with hold:
            hold.amount = 6
    assert await state_of(ledger, account, hold.id) == "open"
    await hold.consume(amount=5)


class TestTime:
    async def test_a_hold_is_renewed_while_the_block_runs(self, double: LedgerDouble) -> None:
        async with double.hold("a", "upscale_image", ttl_seconds=60) as hold:
            await double.advance(hours=2)
            assert hold.reservation is not None
            assert hold.reservation.state == "open"
            assert hold.lost is None
        assert (await double.quota("a")).credits_used == 1
        assert [line.event.kind for line in double.written].count("extend") == 240

    async def test_a_hold_that_nobody_keeps_runs_out(self, double: LedgerDouble) -> None:
        async with double.hold("a", "upscale_image", ttl_seconds=60) as hold:
            hold.hand_over()
        await double.advance(seconds=89)
        assert await state_of(double, "a", hold.id) == "open"
        await double.advance(seconds=1)
        assert await state_of(double, "a", hold.id) == "expired"
        with pytest.raises(ReservationExpired):
            await double.take_over("a", hold.id).__aenter__()

    async def test_taking_over_in_the_grace_is_too_late(self, double: LedgerDouble) -> None:
        async with double.hold("a", "upscale_image", ttl_seconds=60) as hold:
            hold.hand_over()
        await double.advance(seconds=61)
        with pytest.raises(ReservationExpired):
            await double.take_over("a", hold.id).__aenter__()

    async def test_work_that_outlives_its_hold_is_booked_late(self, double: LedgerDouble) -> None:
        async with double.hold("a", "upscale_image", ttl_seconds=60) as hold:
            with double.away():
                await double.advance(minutes=10)
                assert isinstance(hold.lost, Unavailable)
        assert hold.settled is not None
        assert double.written[-1].event.kind == "late"
        assert (await double.balance("a")).available == 74

    async def test_what_is_taken_over_is_renewed_too(self, double: LedgerDouble) -> None:
        async with double.hold("a", "upscale_image", ttl_seconds=60) as hold:
            hold.hand_over()
        async with double.take_over("a", hold.id, ttl_seconds=60):
            await double.advance(minutes=10)
        assert await state_of(double, "a", hold.id) == "settled"

    async def test_a_block_that_runs_again_renews_the_hold_at_once(self, double: LedgerDouble) -> None:
        async with double.hold("a", "upscale_image", key="job", ttl_seconds=60) as hold:
            hold.hand_over()
        await double.advance(seconds=50)
        async with double.hold("a", "upscale_image", key="job", ttl_seconds=60) as again:
            await double.advance(minutes=10)
        assert again.id == hold.id
        assert await state_of(double, "a", hold.id) == "settled"

    async def test_a_slot_without_an_end_needs_no_renewal(self, double: LedgerDouble) -> None:
        async with double.hold("a", "add_product", ttl_seconds=None) as hold:
            hold.hand_over()
        await double.advance(days=400)
        assert await state_of(double, "a", hold.id) == "open"

    async def test_a_real_hold_is_renewed_by_the_real_clock(self, nats: Ledger, account: str) -> None:
        async with nats.hold(account, "upscale_image", ttl_seconds=1) as hold:
            assert hold.reservation is not None
            first = hold.reservation.expires_at
            assert first is not None

            def is_renewed() -> bool:
                now = hold.reservation.expires_at if hold.reservation is not None else None
                return now is not None and now > first + timedelta(milliseconds=200)

            await eventually(is_renewed, "the hold lives longer")


class TestTrouble:
    async def test_a_consume_whose_answer_is_lost_counts_once(self, double: LedgerDouble) -> None:
        async with double.hold("a", "upscale_image") as hold:
            with double.losing_answers():
                await hold.consume()
        assert hold.settled is not None
        assert hold.settled.replayed, "the outcome was looked up by its key"
        assert (await double.quota("a")).credits_used == 1

    async def test_an_end_that_did_not_get_through_can_be_sent_again(self, double: LedgerDouble) -> None:
        hold = double.hold("a", "upscale_image")
        await hold.__aenter__()
        with double.away(), pytest.raises(Unavailable):
            await hold.leave(None)
        await hold.consume()
        await hold.consume()
        assert (await double.quota("a")).credits_used == 1

    async def test_a_release_that_fails_leaves_the_blocks_own_error(self, double: LedgerDouble) -> None:
        hold = double.hold("a", "upscale_image")
        await hold.__aenter__()
        with double.away():
            await hold.leave("ZeroDivisionError")
        assert await state_of(double, "a", hold.id) == "open", "it runs out by itself"

    async def test_who_is_cancelled_at_the_end_of_the_block_still_pays(self, double: LedgerDouble) -> None:
        async def work() -> None:
            async with double.hold("a", "upscale_image"):
                current = asyncio.current_task()
                assert current is not None
                current.cancel()  # is noticed at the next wait, which is that for the consume

        with pytest.raises(asyncio.CancelledError):
            await asyncio.create_task(work())
        await double.close()
        assert (await double.quota("a")).credits_used == 1


def test_an_unknown_outcome_names_account_and_key() -> None:
    error = OutcomeUnknown("no answer", account="a", key="k")
    assert (error.account, error.key, error.status) == ("a", "k", 503)
    assert error.problem["idempotency_key"] == "k"
    assert error.headers["Retry-After"] == "1"
