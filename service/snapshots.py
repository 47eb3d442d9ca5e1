"""Accounts and items as bytes: how the database keeps what decisions read.

Compact and quick, not for people: MessagePack, the fields of an account, grant, hold or consumption in their order and
without their names. They can be built again from the log at any time, so nothing is lost when their form changes; a
new field goes to the end of its struct and has a default, so that what is stored stays readable.

The bytes of an item depend on its values alone, so the auditor compares bytes: the entries of objects are in the order of
their keys, except where their order says something, which is with payers.
"""

from __future__ import annotations

import msgspec

from events.account import Account, Item
from events.grants import Grant
from events.holds import Consumption, Hold
from events.payments import Paid
from events.spending import Payers, Resets

encode_account = msgspec.msgpack.Encoder().encode
"""Return an account's snapshot as bytes."""

_sorted = msgspec.msgpack.Encoder(order="deterministic").encode

_account = msgspec.msgpack.Decoder(Account)
_item: msgspec.msgpack.Decoder[Item] = msgspec.msgpack.Decoder(Hold | Consumption | Grant | Paid | Payers | Resets)


def decode_account(stored: bytes) -> Account:
    """Return an account's snapshot as `accounts.state` has it."""
    return _account.decode(stored)


def encode_item(item: Item) -> bytes:
    """Return a hold, consumption or ended grant as bytes."""
    return encode_account(item) if type(item) is Payers else _sorted(item)


def decode_item(stored: bytes) -> Item:
    """Return a hold, consumption or ended grant as `items.state` has it."""
    return _item.decode(stored)
