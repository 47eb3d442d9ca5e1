"""The configuration of a NATS server in which each caller reaches its own subjects and nothing else.

The ledger believes the broker who a caller is: the `<caller>` of a subject becomes the author of events. So the broker
must let a caller publish under its own name only, and read its own inbox and outcomes only. The service alone writes the
streams, and publishes nowhere but below its prefix, into inboxes, and to JetStream.

Passwords do not stand in the file: it names an environment variable of the server for each user.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

from service.access import Principal
from service.bus.streams import stream_name

SERVICE_USER = "credit-ledger"
_HEAD = """\
# Written by `credit-ledger nats-config` from the callers in TOKENS; run it again when they change, then reload the server.
# A user's password comes from the variable behind it, in the environment of nats-server: at least 22 characters, letters,
# digits, - and _, beginning with a letter. A client sets its inbox prefix to _INBOX_<caller>.
# Add `tls {{ cert_file: ..., key_file: ... }}` when others than this machine connect.
listen: "0.0.0.0:4222"
max_payload: 8MB
jetstream {{
    store_dir: "/data"
    sync_interval: always # what is acknowledged survives a power cut
}}
authorization {{
    users: [
{users}
    ]
}}
"""
_USER = """\
        {{
            user: {name}
            password: ${variable}
            permissions: {{
                publish: {{ allow: [
{publish}
                ] }}
                subscribe: {{ allow: [
{subscribe}
                ] }}
            }}
        }}"""


class AmbiguousCallers(ValueError):
    """Two users would have the same variable for their passwords; the message names them."""


def password_variable(user: str) -> str:
    """Return the environment variable that holds a user's password."""
    return f"NATS_PASSWORD_{re.sub('[^A-Z0-9]', '_', user.upper())}"


def server_configuration(callers: Mapping[str, Principal], prefix: str) -> str:
    """Return the configuration of a server for these callers and the service; raises AmbiguousCallers."""
    users = [_user(SERVICE_USER, *_of_service(callers, prefix))]
    variables = {password_variable(SERVICE_USER): SERVICE_USER}
    for name, principal in sorted(callers.items()):
        other = variables.setdefault(password_variable(name), name)
        if other != name or name == SERVICE_USER:
            raise AmbiguousCallers(f"{name} and {other} would share {password_variable(name)}: rename a caller")
        users.append(_user(name, *_of_caller(principal, prefix)))
    return _HEAD.format(users="\n".join(users))


def _of_service(callers: Iterable[str], prefix: str) -> tuple[list[str], list[str]]:
    inboxes = [f"_INBOX_{name}.>" for name in sorted(callers)]
    publish = [f"{prefix}.>", "_INBOX.>", *inboxes, "$JS.API.>", "$JS.ACK.>"]
    return publish, [f"{prefix}.cmd.*.*", f"{prefix}.query.*.*", "$SRV.>", "_INBOX.>"]


def _of_caller(caller: Principal, prefix: str) -> tuple[list[str], list[str]]:
    name = caller.name
    publish = [f"{prefix}.{kind}.{name}.*" for kind in ("cmd", "query", "submit")]
    publish += _reading(stream_name(prefix, "RESULTS"), name)
    subscribe = [f"_INBOX_{name}.>", f"{prefix}.result.{name}.>"]
    if caller.may("audit"):  # the log is for who may read it over HTTP too
        events = stream_name(prefix, "EVENTS")
        publish += [
            *_reading(events, name),
            *(".".join(("$JS.API.CONSUMER.CREATE", events, name, *rest)) for rest in ((), (">",))),
            f"$JS.API.CONSUMER.DELETE.{events}.{name}",
            f"$JS.API.STREAM.INFO.{events}",
        ]
        subscribe.append(f"{prefix}.events.>")
    if caller.may("admin:read"):
        subscribe.append(f"{prefix}.alerts.>")
    return publish, subscribe


def _reading(stream: str, consumer: str) -> list[str]:
    """Return the subjects by which a consumer of a stream, which is there, is read."""
    return [
        f"$JS.API.CONSUMER.INFO.{stream}.{consumer}",
        f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}",
        f"$JS.ACK.{stream}.{consumer}.>",
    ]


def _user(name: str, publish: list[str], subscribe: list[str]) -> str:
    return _USER.format(
        name=json.dumps(name),
        variable=password_variable(name),
        publish="\n".join(f"                    {json.dumps(subject)}" for subject in publish),
        subscribe="\n".join(f"                    {json.dumps(subject)}" for subject in subscribe),
    )
