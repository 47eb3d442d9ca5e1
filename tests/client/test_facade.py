"""The facade: typed commands and queries, whatever the transport."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from credit_ledger_client import (
    Answer,
    CapacityExceeded,
    CommandNotFound,
    InsufficientCredits,
    InvalidRequest,
    Ledger,
    ReservationFinalized,
)
from credit_ledger_client.errors import (
    AccountNotFound,
    CommandExpired,
    IdempotencyMismatch,
    OperationNotFound,
    RefundExceedsConsumption,
    ReservationNotFound,
)
from credit_ledger_client.fields import Line


async def test_a1_consume_takes_a_count_which_is_one_unless_told(ledger: Ledger, account: str) -> None:
    await ledger.change_plan(account, "starter")
    one = await ledger.consume(account, "upscale_image")
    assert one.consumption is not None
    assert one.consumption.charged == 1
    four = await ledger.consume(account, "generate_image", 4)
    assert four.consumption is not None
    assert (four.consumption.quantity, four.consumption.charged) == (4, 8)
    assert (await ledger.quota(account)).credits_used == 9, "usage goes up by each generation"


async def test_a1_check_answers_for_a_count(ledger: Ledger, account: str) -> None:
    verdict = await ledger.check(account, "generate_image", 100)
    assert not verdict.allowed, "as if the account were opened on the default plan"
    assert verdict.reasons == ["insufficient_credits"]
    assert (verdict.cost, verdict.available, verdict.shortfall, verdict.max_affordable) == (200, 75, 125, 37)
    assert (await ledger.check(account, "generate_image", 37)).allowed


async def test_a1_enforce_fails_as_402_and_sets_nothing_aside(ledger: Ledger, account: str) -> None:
    await ledger.enforce(account, "generate_image", 37)
    with pytest.raises(InsufficientCredits) as caught:
        await ledger.enforce(account, "generate_image", 38)
    assert caught.value.status == 402
    assert (caught.value.cost, caught.value.available, caught.value.shortfall) == (76, 75, 1)
    assert caught.value.max_affordable == 37
    assert caught.value.upgrade == "Not enough credits. Upgrade your plan or buy a pack."
    with pytest.raises(AccountNotFound):
        await ledger.balance(account)


async def test_a_hold_is_settled_in_steps_and_refunded(ledger: Ledger, account: str) -> None:
    held = await ledger.reserve(account, "image_generation", 10, params={"quality": "high"}, reservation_id="job")
    assert held.reservation is not None
    assert (held.reservation.id, held.reservation.amount, held.reservation.state) == ("job", 21, "open")
    await ledger.settle(account, "job", amount=5, final=False)
    last = await ledger.settle(account, "job", quantity=2, params={"quality": "draft"})
    assert last.consumption is not None
    assert last.consumption.charged == 2
    assert last.balance is not None
    assert last.balance.available == 75 - 7
    with pytest.raises(ReservationFinalized) as caught:
        await ledger.release(account, "job")
    assert caught.value.state == "settled"
    back = await ledger.refund(account, "job", amount=1)
    assert back.consumption is not None
    assert back.consumption.refunded == 1
    with pytest.raises(RefundExceedsConsumption):
        await ledger.refund(account, "job", amount=2)


async def test_a_collection_is_one_hold_of_several_lines(ledger: Ledger, account: str) -> None:
    flows: list[Line] = [{"operation": "generate_collection_flow", "quantity": count} for count in (4, 6)]
    held = await ledger.reserve(account, lines=flows, occupies={"concurrent_jobs": 1}, reservation_id="c")
    assert held.reservation is not None
    assert [line.amount for line in held.reservation.lines] == [8, 12]
    with pytest.raises(CapacityExceeded) as caught:
        await ledger.reserve(account, "generate_image")
    assert (caught.value.capacity, caught.value.used, caught.value.limit) == ("concurrent_jobs", 1, 1)
    done = await ledger.settle(account, "c", lines=[{"line": 0, "amount": 8}, {"line": 1, "amount": 2}])
    assert done.consumption is not None
    assert done.consumption.charged == 10


async def test_the_same_key_has_the_same_outcome_and_another_command_is_refused(ledger: Ledger, account: str) -> None:
    first = await ledger.consume(account, "upscale_image", key="k")
    again = await ledger.consume(account, "upscale_image", key="k")
    assert (first.replayed, again.replayed) == (False, True)
    assert again.token == first.token
    with pytest.raises(IdempotencyMismatch):
        await ledger.consume(account, "upscale_image", 2, key="k")
    outcome = await ledger.outcome(account, "k")
    assert outcome is not None
    assert outcome.token == first.token
    assert await ledger.was_accepted(account, "k")
    assert not await ledger.was_accepted(account, "another")
    with pytest.raises(CommandNotFound):
        await ledger.outcome(account, "another")


async def test_every_call_has_a_key_of_its_own_unless_told(ledger: Ledger, account: str) -> None:
    answers = await asyncio.gather(*(ledger.consume(account, "upscale_image") for _ in range(5)))
    assert len({answer.token for answer in answers}) == 5
    assert (await ledger.balance(account)).available == 70


async def test_what_is_refused_is_raised_as_its_code(ledger: Ledger, account: str) -> None:
    with pytest.raises(OperationNotFound):
        await ledger.consume(account, "generate_imgae")
    with pytest.raises(AccountNotFound):
        await ledger.quota(account)
    await ledger.change_plan(account, "free")
    with pytest.raises(ReservationNotFound):
        await ledger.settle(account, "nothing")
    with pytest.raises(InvalidRequest) as caught:
        await ledger.grant(account, -5)
    assert caught.value.errors[0]["loc"] == ["amount"]
    with pytest.raises(CommandExpired):
        await ledger.consume(account, "upscale_image", deadline=datetime.now(UTC) - timedelta(days=1))


async def test_a_free_operation_passes_and_opens_nothing(ledger: Ledger, account: str) -> None:
    answer = await ledger.consume(account, "pin_asset")
    assert answer.free
    with pytest.raises(AccountNotFound):
        await ledger.account(account)


async def test_admin_commands_are_there(ledger: Ledger, account: str) -> None:
    await ledger.change_plan(account, "pro", capacity={"storage_mb": 7}, reason="asked for")
    granted = await ledger.grant(
        account, 10, kind="purchase", grant_id="g", cost_basis={"amount": 900, "currency": "usd"}
    )
    assert granted.grant is not None
    assert (granted.grant.remaining, granted.grant.state) == (10, "active")
    await ledger.revoke(account, "g", "bounced")
    await ledger.adjust(account, -5, "counted again")
    await ledger.consume(account, "upscale_image", 3)
    await ledger.reset_usage(account, "a mistake of ours")
    await ledger.set_status(account, "frozen", "abuse")
    seen = await ledger.account(account, include=["quota"])
    assert (seen.plan, seen.status) == ("pro", "frozen")
    assert seen.capacity["storage_mb"].limit == 7
    assert seen.balances["credits"].available == 2000 + 25 - 5
    assert seen.quota is not None
    assert seen.quota.credits_used == 0
    states = {grant.id: grant.state for grant in (await ledger.grants(account)).grants}
    assert states["g"] == "revoked"


async def test_lists_have_pages(ledger: Ledger, account: str) -> None:
    for _ in range(3):
        await ledger.consume(account, "upscale_image", reference="run-1")
    await ledger.reserve(account, "generate_image", reservation_id="open")
    page = await ledger.transactions(account, type="consumed", reference="run-1", limit=2)
    rest = await ledger.transactions(account, type="consumed", reference="run-1", limit=2, cursor=page.next_cursor)
    assert (len(page.transactions), len(rest.transactions), rest.next_cursor) == (2, 1, None)
    assert [each.id for each in (await ledger.reservations(account, state="open")).reservations] == ["open"]
    assert len((await ledger.consumptions(account, order="asc")).consumptions) == 3


async def test_reads_include_what_a_token_stands_for_and_tell_the_past(ledger: Ledger, account: str) -> None:
    opened = await ledger.change_plan(account, "free")
    charged = await ledger.consume(account, "upscale_image")
    assert (await ledger.balance(account, min_token=charged.token)).available == 74
    at = datetime.fromisoformat(opened.events[-1]["recorded_at"])
    before = await ledger.balance(account, at=at)
    assert before.available in (74, 75), "the double's clock may not have moved"
    with pytest.raises(InvalidRequest):
        await ledger.balance(account, at=datetime.now(UTC) + timedelta(days=2))


async def test_a_batch_has_a_result_for_each_command(ledger: Ledger, account: str) -> None:
    commands = [
        {"command": "consume", "account": account, "operation": "upscale_image"},
        {"command": "consume", "account": account, "operation": "upscale_image", "quantity": 1000},
    ]
    good, bad = await ledger.batch(commands)
    assert isinstance(good, Answer)
    assert isinstance(bad, InsufficientCredits)
    results = await ledger.batch(commands, mode="atomic")
    assert [getattr(result, "code", None) for result in results] == ["batch_aborted", "insufficient_credits"]
    assert (await ledger.balance(account)).available == 74
    [tried] = await ledger.batch(commands[:1], dry_run=True)
    assert isinstance(tried, Answer)
    assert tried.dry_run
    assert (await ledger.balance(account)).available == 74


async def test_prices_and_the_catalog_can_be_asked(ledger: Ledger) -> None:
    assert (await ledger.quote("generate_image", 4)).cost == 8
    quoted = await ledger.quote(lines=[{"operation": "upscale_image"}, {"operation": "edit_image", "quantity": 2}])
    assert [line.cost for line in quoted.lines] == [1, 4]
    catalog = await ledger.catalog()
    assert catalog.operations["pin_asset"]["free"]
    assert catalog.plans["pro"]["allowance"]["credits"] == 2000


async def test_a_command_says_for_whom_it_is_sent(ledger: Ledger, account: str) -> None:
    answer = await ledger.on_behalf_of("user-7").consume(account, "upscale_image")
    assert answer.events[-1]["actor"]["on_behalf_of"] == "user-7"
    own = await ledger.consume(account, "upscale_image")
    assert "on_behalf_of" not in own.events[-1]["actor"] or own.events[-1]["actor"]["on_behalf_of"] is None


def test_a_datetime_without_a_time_zone_names_no_instant(double: Ledger) -> None:
    with pytest.raises(ValueError, match="time zone"):
        asyncio.run(double.grant("a", 5, expires_at=datetime(2030, 1, 1)))  # noqa: DTZ001 - that is the point
