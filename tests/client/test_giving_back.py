"""Giving back work that failed: after it was paid for, while that is on its way, or when that never comes."""

import asyncio

import pytest

from credit_ledger_client import Ledger, ReservationFinalized
from credit_ledger_client.errors import IdempotencyMismatch, ReservationNotFound
from credit_ledger_client.testing import LedgerDouble


async def used(ledger: Ledger, account: str) -> int:
    return (await ledger.quota(account)).credits_used


async def test_what_was_paid_for_is_refunded_once(ledger: Ledger, account: str) -> None:
    async with ledger.hold(account, "generate_image", quantity=4) as hold:
        pass
    for _ in range(2):
        answer = await ledger.give_back(account, hold.id, reason="it failed")
        assert answer.consumption is not None
        assert answer.consumption.refunded == 8
    assert await used(ledger, account) == 0


async def test_what_is_about_to_be_paid_for_is_waited_for(ledger: Ledger, account: str) -> None:
    async with ledger.hold(account, "generate_image", quantity=4) as hold:
        failing = asyncio.create_task(ledger.give_back(account, hold.id, reason="it failed early"))
        await asyncio.sleep(0)
    answer = await failing
    assert answer.consumption is not None
    assert answer.consumption.refunded == 8
    balance = await ledger.balance(account)
    assert (balance.reserved, await used(ledger, account)) == (0, 0)


async def test_what_is_not_paid_for_in_time_is_released_and_never_paid(ledger: Ledger, account: str) -> None:
    hold = await ledger.hold(account, "generate_image", quantity=4).__aenter__()
    answer = await ledger.give_back(account, hold.id)
    assert answer.reservation is not None
    assert answer.reservation.state == "released"
    with pytest.raises(ReservationFinalized):
        await hold.__aexit__(None, None, None)
    balance = await ledger.balance(account)
    assert (balance.reserved, await used(ledger, account)) == (0, 0)


async def test_parts_are_given_back_one_by_one(ledger: Ledger, account: str) -> None:
    async with ledger.hold(account, "generate_image", quantity=4) as hold:
        pass
    await ledger.give_back(account, hold.id, amount=2)
    await ledger.give_back(account, hold.id, amount=2)
    assert await used(ledger, account) == 4
    await ledger.give_back(account, hold.id, amount=1, key="third")
    with pytest.raises(IdempotencyMismatch):
        await ledger.give_back(account, hold.id, amount=2, key="third")
    assert await used(ledger, account) == 3


async def test_what_was_never_held_is_not_found(double: LedgerDouble) -> None:
    await double.change_plan("a", "starter")
    with pytest.raises(ReservationNotFound):
        await double.give_back("a", "nothing")
