"""Events as others read them: CloudEvents 1.0 in structured JSON, and the subject that each is published under.

`data` is the line of the log as it is stored, with its hash behind it, so a consumer can check the chain by itself. The
message is put together around the stored bytes; nothing is decoded or encoded again (CONTRACT.md, "NATS").
"""

from __future__ import annotations

from typing import NamedTuple

from service.store.publishing import PublishedLine

CONTENT_TYPE = "application/cloudevents+json"


class Message(NamedTuple):
    """One event to publish. `id` is what the stream knows it by."""

    partition: int
    position: int
    id: str
    subject: str
    body: bytes


def source_of(ledger_id: str) -> str:
    """Return the `source` of a ledger's events."""
    return f"urn:credit-ledger:{ledger_id}"


def subject_of(line: PublishedLine, prefix: str) -> str:
    """Return the subject of an event; no part of it contains a dot."""
    return f"{prefix}.events.{line.partition}.{line.type}.{line.kind}.{line.account}"


def cloud_event(line: PublishedLine, source: str) -> bytes:
    """Return the CloudEvent of a line; `sequence` is the position, the order within `partitionkey`, the partition.

    The envelope's values need no escapes: ids, types, kinds and instants are plain ASCII.
    """
    # The keys of a line are sorted, so its schema version stands last.
    version = line.line[line.line.rindex(b":") + 1 : -1].decode()
    return (
        f'{{"specversion":"1.0","id":"{line.id}","source":"{source}","type":"credits.{line.type}.{line.kind}.v{version}"'
        f',"subject":"{line.account}","time":"{line.recorded_at}","datacontenttype":"application/json"'
        f',"sequence":"{line.position}","partitionkey":"{line.partition}","data":'
    ).encode() + b'%b,"hash":"%b"}}' % (line.line[:-1], line.hash.encode())


def message_of(line: PublishedLine, prefix: str, source: str) -> Message:
    """Return what is published of a line."""
    return Message(line.partition, line.position, line.id, subject_of(line, prefix), cloud_event(line, source))
