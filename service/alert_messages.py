"""Alerts as others read them: CloudEvents 1.0 in structured JSON, the same over NATS and in webhooks.

`id` is the alert's for ever, so whoever gets it twice knows; `sequence` is its place among all alerts of the ledger.
"""

from __future__ import annotations

from service.cloud_events import Message
from service.store.outgoing import Numbered


def alert_event(alert: Numbered, source: str) -> bytes:
    """Return the CloudEvent of an alert; its values are plain ASCII and need no escapes."""
    return (
        f'{{"specversion":"1.0","id":"{alert.id}","source":"{source}","type":"credits.alert.{alert.kind}.v1"'
        f',"subject":"{alert.account}","time":"{alert.raised_at}","datacontenttype":"application/json"'
        f',"sequence":"{alert.number}","data":'
    ).encode() + b"%b}" % alert.data


def alert_message(alert: Numbered, prefix: str, source: str) -> Message:
    """Return what is published of an alert."""
    subject = f"{prefix}.alerts.{alert.kind}.{alert.account}"
    return Message(0, alert.number, alert.id, subject, alert_event(alert, source))
