"""An import while the database goes away: it waits, goes on, and books every line once."""

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from service.importing import importer as importing
from service.importing.importer import Importer, Interrupted, Known
from service.importing.rows import Row
from service.outages import Outage
from tests.writer.asking import OpenLedger
from tests.writer.auditing import audited
from tests.writer.proxy import proxy_to

ROWS = 1200


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of several chunks."""
    path = tmp_path / "balances.ndjson"
    path.write_text("".join(f"{json.dumps({'account': f'a{n % 400}', 'amount': n + 1})}\n" for n in range(ROWS)))
    return path


async def test_an_outage_in_the_middle_is_waited_out(
    open_ledger: OpenLedger, database_url: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with proxy_to(database_url) as proxy:
        ledger = await open_ledger(proxy.url)
        importer = Importer(ledger, file, "ndjson")
        returning: list[asyncio.Task[None]] = []

        def interrupt(_rows: int) -> None:
            """After the first chunk the database goes away, and comes back when the import has noticed."""
            if not returning:
                proxy.go_away()
                returning.append(asyncio.create_task(come_back()))

        async def come_back() -> None:
            await noticed.wait()
            await proxy.come()

        noticed = asyncio.Event()
        known = importer._known

        async def noticing(rows: Iterable[Row]) -> Known:
            try:
                return await known(rows)
            except Outage:
                noticed.set()
                raise

        monkeypatch.setattr(importer, "_known", noticing)
        report = await importer.book(interrupt)
        assert (report.rows, report.granted, report.opened, report.refused) == (ROWS, ROWS, 400, 0)
        assert noticed.is_set()
    book = await audited(database_url)
    assert sum(book.available(f"a{n}") for n in range(400)) == 400 * 1000 + ROWS * (ROWS + 1) // 2


async def test_an_outage_that_lasts_stops_it_and_the_next_run_goes_on(
    open_ledger: OpenLedger, database_url: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "PATIENCE_SECONDS", 0.0)
    async with proxy_to(database_url) as proxy:
        ledger = await open_ledger(proxy.url)
        with pytest.raises(Interrupted, match="run the same command again"):
            await Importer(ledger, file, "ndjson").book(lambda _: proxy.go_away())
        await proxy.come()
        report = await Importer(ledger, file, "ndjson").book(lambda _: None)
    assert report.already_there == importing.CHUNK_ROWS
    assert report.granted == ROWS - importing.CHUNK_ROWS
    await audited(database_url)
