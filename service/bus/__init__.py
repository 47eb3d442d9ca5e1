"""Commands, queries and events over NATS: the only package that imports nats."""

from service.bus.service import Bus

__all__ = ["Bus"]
