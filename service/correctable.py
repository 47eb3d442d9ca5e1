"""What is wrong that the user can put right: the command line tells it in a sentence, without importing who raises it."""

from __future__ import annotations


class Correctable(Exception):
    """Something that the user can put right; the message says what is wrong and what to do next."""


class StartError(Correctable):
    """The process cannot start, or cannot go on; the message says why and what to do next."""
