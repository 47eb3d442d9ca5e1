"""`credit-ledger webhooks`: receivers to add, what was delivered to them, and sending it again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import click

from events.instants import Instant, parse
from projections.alerts import AlertKind
from service import PREFIX
from service.console import complete, print_json, print_table, told
from service.database import log_at_hand
from service.ledger import system_clock
from service.settings import InvalidSettings, Settings, load
from service.store.outgoing import Delivery, DeliveryState, Outgoing
from service.webhooks.receivers import create_receiver

LIMIT = 50

_DATA = click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="The directory of a `credit-ledger up`.  [default: the database of LEDGER_DATABASE_URL, else .ledger]",
)


@click.group(short_help="Receivers of alerts: add one, see what was delivered, send it again.")
def webhooks() -> None:
    """Webhooks: alerts sent to the receivers in the file that LEDGER_WEBHOOKS names."""


@webhooks.command("create", short_help="Print an entry for a receiver, with a new secret.")
@click.option("--name", required=True, help="Stands in the log of deliveries and in metrics.")
@click.option("--url", required=True, help="Where it listens: https, or http on this machine.")
@click.option(
    "--kind", "kinds", multiple=True, type=click.Choice(get_args(AlertKind)), help="May be repeated.  [default: all]"
)
@click.option("--account", "accounts", multiple=True, help="A prefix of accounts; may be repeated.  [default: all]")
def create_command(name: str, url: str, kinds: Sequence[str], accounts: Sequence[str]) -> None:
    """Print an entry for the file of LEDGER_WEBHOOKS, with a new secret that the receiver has to know.

    \b
    credit-ledger webhooks create --name crm --url https://crm.example.com/hooks --kind exhausted >> webhooks.toml
    """  # noqa: D301 - click takes \b for "leave these lines as they are"
    with told():
        made = create_receiver(name, url, kinds, accounts)
    click.echo(made)


@webhooks.command("list")
@_DATA
@click.option("--endpoint", help="Of one receiver only.")
@click.option("--state", type=click.Choice(get_args(DeliveryState)), help="Only those that are in this state.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=LIMIT, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="As one JSON document.")
def list_command(data: Path | None, endpoint: str | None, state: str | None, limit: int, *, as_json: bool) -> None:
    """Show the log of deliveries, the newest alert first.

    \b
    credit-ledger webhooks list --state given_up
    """  # noqa: D301 - click takes \b for "leave these lines as they are"
    found: list[Delivery] = []

    async def work() -> None:
        async with log_at_hand(load(Settings), data) as (log, _):
            found.extend(await Outgoing(log).deliveries(endpoint, state, limit))

    with told():
        complete(work)
    if as_json:
        print_json({"deliveries": [each._asdict() for each in found]})
        return
    head = ("endpoint", "alert", "state", "attempts", "last", "next", "answer")
    print_table(head, [_row(each) for each in found])


def _row(each: Delivery) -> tuple[str, ...]:
    following = each.next_at if each.state == "pending" else ""
    return (*each[:3], str(each.attempts), each.last_at or "", following, each.error or str(each.status or ""))


@webhooks.command("replay", short_help="Send alerts again.")
@click.argument("alerts", nargs=-1)
@_DATA
@click.option("--since", help="All that were raised from this instant on, such as 2026-11-01T09:30:00Z.")
@click.option("--endpoint", help="To one receiver only.")
def replay_command(alerts: Sequence[str], data: Path | None, since: str | None, endpoint: str | None) -> None:
    """Send ALERTS (ids) again, or all since an instant, those that were delivered or given up too.

    A running service sends them within a second; receivers know what they have seen by `webhook-id`.

    \b
    credit-ledger webhooks replay 3-17:exhausted:credits
    credit-ledger webhooks replay --since 2026-11-01T00:00:00Z --endpoint crm
    """  # noqa: D301 - click takes \b for "leave these lines as they are"
    counts: list[int] = []

    async def work() -> None:
        if not alerts and since is None:
            raise InvalidSettings("name alerts by their ids, or an instant with --since")
        from_ = _instant(since)
        async with log_at_hand(load(Settings), data) as (log, _):
            outgoing = Outgoing(log)
            known = await outgoing.endpoints()
            if endpoint is not None and endpoint not in known:
                raise InvalidSettings(
                    f"no receiver {endpoint} was ever in the file of {PREFIX}WEBHOOKS; there are: {', '.join(known) or 'none'}"
                )
            await outgoing.number()
            counts.append(await outgoing.replay(system_clock(), endpoint, list(alerts), from_))

    with told():
        complete(work)
    click.echo(f"{counts[0]} deliveries are to be made again")


def _instant(text: str | None) -> Instant | None:
    try:
        return None if text is None else parse(text)
    except ValueError as error:
        raise InvalidSettings(f"--since: {error}") from None
