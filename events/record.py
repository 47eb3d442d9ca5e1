"""`Record`: the base of all that is stored.

What stands in a line of the log has its fields in the order of their names, as the canonical JSON of the line has its
keys: so neither writing nor reading a line has anything to sort or to search. A test holds every struct to it.
"""

from __future__ import annotations

import msgspec


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True, gc=False):
    """Base of all stored data: immutable, no unknown fields; fields without a default are always written."""
