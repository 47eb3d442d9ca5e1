"""The catalog in force: what the database's history says, taken over by every process within a second.

A catalog comes into force by an activation, an append-only row (migration 0002). At the start the file of the settings
is stored; one that was never in force before is activated with it, so that the first start and a new release need no
further step. One that was in force before is left where it is: the history decides, so an instance that is restarted
with an old file cannot bring old prices back by itself; `credit-ledger catalog activate` can.

A running process looks for a new activation every second, one row of one index, and takes the catalog over between two
commands. What the database cannot say, or this release cannot read, leaves the catalog as it is.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import NamedTuple

from events import history
from events.catalog import Catalog, InvalidCatalog, parse_catalog
from events.history import History
from service.correctable import Correctable
from service.ending import ended
from service.ledger import Ledger
from service.outages import Outage
from service.store.catalogs import Activated, Activation, StoredCatalog, StoredCatalogs

POLL_SECONDS = 1.0
HISTORY_MAX = 100
"""How many activations a process knows; a renewal that was due before the oldest of them uses that."""
BY_START = "start"
"""Who activated a catalog that came with a process's settings."""

_log = logging.getLogger(__name__)


class CatalogRefused(Correctable):
    """The catalog cannot be stored, found or read; the message says why and what to do."""


class InForce(NamedTuple):
    """A catalog with the activation that brought it into force."""

    activation: Activation
    catalog: Catalog
    history: History


def read_source(path: Path) -> tuple[Catalog, str]:
    """Return the catalog of a file and its text; raises CatalogRefused."""
    try:
        source = path.read_text(encoding="utf-8")
        return parse_catalog(source), source
    except InvalidCatalog as error:
        raise CatalogRefused("\n".join(f"{path}: {problem}" for problem in error.problems)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogRefused(f"{path} cannot be read: {error}") from None


def parse_stored(stored: StoredCatalog) -> Catalog:
    """Return the catalog that the database has; raises CatalogRefused when this release cannot read it."""
    try:
        return parse_catalog(stored.source)
    except InvalidCatalog as error:
        raise CatalogRefused(
            f"catalog {stored.version} in the database cannot be read by this release: {error.problems[0]}; upgrade, or "
            "activate another one with `credit-ledger catalog activate`"
        ) from None


async def activate(stored: StoredCatalogs, catalog: Catalog, source: str, *, by: str, again: bool) -> Activated:
    """Store a catalog and bring it into force; raises CatalogRefused when its version has other content already."""
    outcome = await stored.activate(StoredCatalog(catalog.version, catalog.hash, source), by=by, again=again)
    if outcome == "changed":
        raise CatalogRefused(
            f"catalog version {catalog.version} is stored with other content, and a version never changes: give the file "
            f"a new `version`, or take the stored one back with `credit-ledger catalog show {catalog.version} --source`"
        )
    return outcome


async def in_force(stored: StoredCatalogs) -> InForce:
    """Return the catalog in force; raises CatalogRefused when there is none, or when it cannot be read."""
    newest = await stored.in_force()
    if newest is None:
        raise CatalogRefused(
            "no catalog is in force: bring one into force with `credit-ledger catalog activate catalog.toml`"
        )
    catalog = parse_stored(newest[1])
    return InForce(newest[0], catalog, await _history(stored, catalog))


async def _history(stored: StoredCatalogs, catalog: Catalog) -> History:
    """Return the last activations; one whose catalog this release cannot read is as if it had not been."""
    read: dict[str, Catalog] = {catalog.version: catalog}
    entries: list[history.Activation] = []
    for at, each in reversed(await stored.past(HISTORY_MAX)):
        try:
            if each.version not in read:
                read[each.version] = parse_stored(each)
        except CatalogRefused as refused:
            _log.warning("renewals that were due under it use another one: %s", refused)
            continue
        entries.append(history.Activation(at, read[each.version]))
    return History(entries)


async def settle(stored: StoredCatalogs, path: Path) -> InForce:
    """Store the file of the settings at the start, and return the catalog in force; raises CatalogRefused."""
    given, source = read_source(path)
    outcome = await activate(stored, given, source, by=BY_START, again=False)
    now = await in_force(stored)
    if outcome == "known":
        _log.warning(
            "catalog %s of %s was in force before; %s is now, and stays: `credit-ledger catalog activate %s` goes back",
            given.version,
            path,
            now.catalog.version,
            given.version,
        )
    return now


class Follower:
    """Keeps a ledger on the catalog in force; `number` is that of the activation that it has taken over."""

    def __init__(
        self, ledger: Ledger, stored: StoredCatalogs, number: int, *, poll_seconds: float = POLL_SECONDS
    ) -> None:
        self._ledger = ledger
        self._stored = stored
        self.number = number
        self._poll_seconds = poll_seconds
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            await ended([self._task])

    async def look(self) -> None:
        """Take over a catalog that came into force since the last look; raises Outage and CatalogRefused."""
        newest = await self._stored.newest()
        if newest is None or newest == self.number:
            return
        activation, catalog, past = await in_force(self._stored)
        self._ledger.catalog, self._ledger.history = catalog, past
        self.number = activation.number
        _log.info("catalog %s is in force since %s", catalog.version, activation.activated_at)

    async def _run(self) -> None:
        said = ""
        while True:
            await asyncio.sleep(self._poll_seconds)
            try:
                await self.look()
                said = ""
            except Outage as outage:
                _log.debug("the catalog in force is not known now: %s", outage)
            except Exception as error:  # noqa: BLE001 - whatever it is, the ledger goes on with the catalog that it has
                if str(error) != said:  # once, not every second
                    said = str(error)
                    _log.exception("the catalog stays %s", self._ledger.catalog.version)
