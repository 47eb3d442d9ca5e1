"""Which partition of the log an account belongs to, for ever (CONTRACT.md, "Events as stored")."""

from functools import lru_cache


@lru_cache(maxsize=65_536)
def partition_of(account: str, partitions: int) -> int:
    """Return the partition of an account: FNV-1a (32 bit) of its id, as nats-server's `{{partition(n,token)}}` has it."""
    value = 0x811C9DC5
    for byte in account.encode():
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value % partitions
