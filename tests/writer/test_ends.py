"""How holds and grants end when several come at once, or when nobody remembers them: as if one had done it alone."""

from __future__ import annotations

import asyncio

import pytest

from tests.writer.asking import Clock, OpenLedger, ask, said, view
from tests.writer.auditing import audited


async def test_settle_and_release_at_once_have_one_winner(open_ledger: OpenLedger, database_url: str) -> None:
    """Two processes' worth of writers, twenty holds, each settled here and released there."""
    here, there = await open_ledger(), await open_ledger()
    for n in range(20):
        await here.execute(ask("reserve", "a", amount=10, reservation_id=f"r{n}"))
    settled, released = await asyncio.gather(
        asyncio.gather(*(said(here, ask("consume", "a", reservation_id=f"r{n}")) for n in range(20))),
        asyncio.gather(*(said(there, ask("release", "a", reservation_id=f"r{n}")) for n in range(20))),
    )
    for settle, release in zip(settled, released, strict=True):
        assert sorted([settle.code, release.code]) == ["", "reservation_finalized"]
    paid = sum(10 for settle in settled if settle.written)
    book = await audited(database_url)
    assert book.available("a") == 1000 - paid
    assert book.accounts["a"].account.figures["credits"].reserved == 0


async def test_two_refunds_at_once_return_it_once(open_ledger: OpenLedger, database_url: str) -> None:
    ledgers = [await open_ledger() for _ in range(3)]
    await ledgers[0].execute(ask("consume", "a", amount=30, consumption_id="c"))
    told = await asyncio.gather(*(said(ledger, ask("refund", "a", consumption_id="c")) for ledger in ledgers * 4))
    assert [answer.code for answer in told if not answer.written] == ["refund_exceeds_consumption"] * 11
    assert (await audited(database_url)).available("a") == 1000


@pytest.mark.parametrize("first", ["consume", "release"])
async def test_at_the_instant_of_its_end_a_hold_expires_before_anything_else(
    open_ledger: OpenLedger, database_url: str, first: str
) -> None:
    clock = Clock()
    ledger = await open_ledger(clock=clock)
    await ledger.execute(ask("reserve", "a", amount=10, reservation_id="r"))
    clock.advance(330)
    names = [first, *({"consume", "release"} - {first})]
    told = dict(zip(names, [await said(ledger, ask(name, "a", reservation_id="r")) for name in names], strict=True))
    assert told["consume"].written, "the work was done, so it is booked late"
    assert told["release"].code == "reservation_finalized"
    book = await audited(database_url)
    assert [event.kind for event in book.events][-2:] == ["hold_expired", "late"]
    assert book.available("a") == 990


async def test_what_nobody_remembers_is_extended_and_settled_late(open_ledger: OpenLedger, database_url: str) -> None:
    """Every step is done by a ledger that was just opened, so each item comes from its row."""
    clock = Clock()
    await (await open_ledger(clock=clock)).execute(ask("reserve", "a", amount=10, reservation_id="r"))
    extended = ask("extend", "a", reservation_id="r", amount=5, ttl_seconds=600)
    first = view(await (await open_ledger(clock=clock)).execute(extended))
    clock.advance(500)
    step = ask("consume", "a", reservation_id="r", amount=2, final=False)
    assert (await said(await open_ledger(clock=clock), step)).written
    clock.advance(101)
    assert (await said(await open_ledger(clock=clock), ask("extend", "a", reservation_id="r"))).code == (
        "reservation_expired"
    )
    clock.advance(29)
    late = await (await open_ledger(clock=clock)).execute(ask("consume", "a", reservation_id="r"))
    assert [line.event.kind for line in late.lines] == ["late"]
    again = await (await open_ledger(clock=clock)).execute(extended)
    assert again.replayed
    assert view(again) == first, "whatever happened since"
    assert (await audited(database_url)).available("a") == 985


async def test_a_window_ends_for_a_hold_that_nobody_remembers(open_ledger: OpenLedger) -> None:
    clock = Clock()
    await (await open_ledger(clock=clock)).execute(ask("reserve", "a", amount=10, reservation_id="r"))
    clock.advance(330 + 72 * 3600)
    late = ask("consume", "a", reservation_id="r")
    assert (await said(await open_ledger(clock=clock), late)).code == "reservation_expired"


async def test_a_grant_that_nobody_remembers_is_revoked_and_stays_so(
    open_ledger: OpenLedger, database_url: str
) -> None:
    ledger = await open_ledger()
    await ledger.execute(ask("reserve", "a", amount=1000, reservation_id="all"))
    await ledger.execute(ask("grant", "a", amount=40, grant_id="g"))
    await ledger.execute(ask("consume", "a", amount=40, consumption_id="c"))
    revoked = ask("revoke", "a", grant_id="g", reason="charged back")
    first = view(await (await open_ledger()).execute(revoked))
    assert (await said(await open_ledger(), ask("revoke", "a", grant_id="h", reason="typo"))).code == "grant_not_found"
    refunded = await (await open_ledger()).execute(ask("refund", "a", consumption_id="c"))
    assert [line.event.kind for line in refunded.lines] == ["consumption", "revoked"]
    assert view(await (await open_ledger()).execute(revoked)) == first
    assert (await audited(database_url)).available("a") == 0
