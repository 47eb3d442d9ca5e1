"""The list of accounts: which there are by plan and prefix, each as it is now (CONTRACT.md, GET /v1/accounts)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence

from projections.accounts import NAME
from service.lists import InvalidCursor
from service.queries import AccountsQuery
from service.store.log import Log
from service.store.views import Listed, Views

View = dict[str, object]
_CURSOR = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{6}Z)([A-Za-z0-9_:@-]{1,128})")


class AccountList:
    """Pages of the list of accounts."""

    def __init__(self, log: Log) -> None:
        self._views = Views(log)

    async def page(
        self,
        query: AccountsQuery,
        prefixes: Sequence[str] | None,
        show: Callable[[Sequence[str]], Awaitable[list[View]]],
    ) -> View:
        """Return a page; `prefixes` are those of the accounts in reach, `show` tells how accounts are now."""
        async with self._views.snapshot() as snapshot:
            reached = await snapshot.checkpoints(NAME)
        rows = await self._views.accounts(
            plan=query.plan,
            prefix=query.prefix,
            prefixes=prefixes,
            beyond=_beyond(query.cursor),
            newest_first=query.order == "desc",
            limit=query.limit + 1,
        )
        page = rows[: query.limit]
        cursor = f"{page[-1].opened_at}{page[-1].account}" if len(rows) > query.limit else None
        return {
            "accounts": await show([row.account for row in page]),
            "next_cursor": cursor,
            "as_of": ",".join(f"{partition}-{position}" for partition, position in reached.items()),
        }


def _beyond(cursor: str | None) -> Listed | None:
    if cursor is None:
        return None
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise InvalidCursor("the cursor is not one that this list gave out")
    return Listed(match[2], match[1])
