"""Readiness: whether this process can do its work now, and if not, which part keeps it from it.

Being alive needs no look: a process that answers is alive. Being ready means that each part passes its check, within
two seconds; a load balancer then sends requests, and otherwise leaves it alone until it is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from service.outages import Outage

CHECK_SECONDS_MAX = 2.0

Check = Callable[[], Awaitable[object]]
Alarm = Callable[[], str | None]

_log = logging.getLogger(__name__)


class Health:
    """Checks the parts by name; a check returns when its part works, and raises Outage when it does not."""

    def __init__(self, checks: Mapping[str, Check], alarms: Mapping[str, Alarm] | None = None) -> None:
        """Take checks, and alarms: what people should look at, although the process can do its work."""
        self._checks = dict(checks)
        self._alarms = dict(alarms or {})

    def alarms(self) -> dict[str, str]:
        """Return the alarms, by part."""
        found = {name: alarm() for name, alarm in self._alarms.items()}
        return {name: told for name, told in found.items() if told is not None}

    async def failures(self) -> dict[str, str]:
        """Return what is wrong, by part; nothing when the process is ready."""
        found = await asyncio.gather(*(_failure(name, check) for name, check in self._checks.items()))
        return {name: failure for name, failure in zip(self._checks, found, strict=True) if failure is not None}


async def _failure(name: str, check: Check) -> str | None:
    try:
        async with asyncio.timeout(CHECK_SECONDS_MAX):
            await check()
    except Outage as outage:
        return outage.detail
    except TimeoutError:
        return f"did not answer within {CHECK_SECONDS_MAX:g} s"
    except Exception:  # noqa: BLE001 - whatever it is, the part is not ready
        _log.exception("the check of %s failed", name)
        return "failed"
    return None
