"""Batches: up to 1000 commands in one request (SEMANTICS.md section 9).

`independent` commands are judged each for itself; those of one account in their order. Of an `atomic` batch, all of one
account, all are accepted or none. Either way there is a result for each command, in order: its status with the answer
that it would have got alone, or with the problem.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

from events.errors import InvalidRequest, Refusal
from events.recorded import Actor
from service.asking import asked, key_of
from service.ledger import Ledger
from service.outages import Outage
from service.pending import aborted
from service.replies import Reply, failed, out_of_order, refused, told
from service.requests import Outcome, Request

COMMANDS_MAX = 1000

Admit = Callable[[str, str | None], None]
"""Raises the Refusal of a command's name and account that the caller may not use."""


async def answer_batch(ledger: Ledger, fields: dict[str, Any], *, actor: Actor, admit: Admit, dry_run: bool) -> Reply:
    """Execute the batch of a body; raises Refusal when the body is none, and Outage."""
    mode, commands = _checked(fields)
    requests = [_request(command, actor, admit, dry_run=dry_run) for command in commands]
    if mode == "atomic":
        results = await _together(ledger, requests)
    else:
        good = [request for request in requests if isinstance(request, Request)]
        outcomes = iter(await ledger.execute_all(good) if good else [])
        results = [next(outcomes) if isinstance(request, Request) else request for request in requests]
    return Reply(200, b'{"results":[%b]}' % b",".join([_result(result, dry_run=dry_run) for result in results]))


async def _together(ledger: Ledger, requests: Sequence[Request | Refusal]) -> Sequence[Outcome | BaseException]:
    wrong = next((number for number, each in enumerate(requests) if isinstance(each, Refusal)), None)
    if wrong is not None:
        return [each if isinstance(each, Refusal) else aborted(wrong) for each in requests]
    good = cast("Sequence[Request]", requests)
    if len({request.command.account for request in good}) > 1:
        raise InvalidRequest.at("commands", "the commands of an atomic batch are all of one account")
    keys = [request.key for request in good if request.key]
    if len(set(keys)) < len(keys):
        raise InvalidRequest.at("commands", "each command of an atomic batch has a key of its own")
    return await ledger.execute_together(good)


def _checked(fields: dict[str, Any]) -> tuple[Literal["independent", "atomic"], list[dict[str, Any]]]:
    unknown = sorted(fields.keys() - {"mode", "commands"})
    if unknown:
        raise InvalidRequest.at(unknown[0], "there is no such field")
    mode, commands = fields.get("mode"), fields.get("commands")
    if mode is None:
        mode = "independent"
    if mode not in ("independent", "atomic"):
        raise InvalidRequest.at("mode", "must be independent or atomic")
    if not isinstance(commands, list) or not 1 <= len(cast("list[object]", commands)) <= COMMANDS_MAX:
        raise InvalidRequest.at("commands", f"must be a list of 1 to {COMMANDS_MAX} commands")
    return mode, cast("list[dict[str, Any]]", commands)


def _request(command: object, actor: Actor, admit: Admit, *, dry_run: bool) -> Request | Refusal:
    """Return the request of one command of a batch, or why it is none."""
    try:
        if not isinstance(command, dict):
            raise InvalidRequest.at("commands", "each command is an object")
        fields = cast("dict[str, Any]", command)
        name, account = fields.pop("command", None), fields.get("account")
        if not isinstance(name, str):
            raise InvalidRequest.at("command", "must be the name of a command")
        admit(name, account if isinstance(account, str) else None)
        return asked(name, fields, key=key_of(fields), actor=actor, dry_run=dry_run)
    except Refusal as refusal:
        return refusal


def _result(result: Outcome | BaseException, *, dry_run: bool) -> bytes:
    """Return one result of the answer."""
    match result:
        case Outcome():
            reply = told(result, dry_run=dry_run)
        case Refusal():
            reply = refused(result)
        case Outage():
            reply = out_of_order(result)
        case _:
            reply = failed()
    if reply.code is None:
        return b'{"status":%d,%b' % (reply.status, reply.body[1:])
    return b'{"status":%d,"problem":%b}' % (reply.status, reply.body)
