"""What a job is: its work, its price in the ledger's terms, and its states.

    queued -> running -> succeeded | failed          queued -> cancelled          running -> queued (tried again)

`succeeded` is shown as `expired` once its results are gone; the ledger does not hear of that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict

Type = Literal["model_creation", "model_refinement", "image_generation"]
Priority = Literal["high", "normal", "low"]
State = Literal["queued", "running", "succeeded", "failed", "cancelled"]
PRIORITIES: tuple[Priority, ...] = ("high", "normal", "low")
ATTEMPTS_MAX = 3
RESULTS_KEPT = timedelta(days=90)


class Work(BaseModel):
    """What is to be done: `operation`, `quantity` and `params` are what the catalog prices."""

    model_config = ConfigDict(frozen=True)

    type: Type
    model: str
    version: int | None = None
    quantity: int
    params: Mapping[str, str]
    prompt: str = ""

    @property
    def operation(self) -> str:
        """The operation of the catalog that this is paid as."""
        return self.type


@dataclass(frozen=True, slots=True)
class Job:
    """A job as its row has it; `hold` is the reservation that pays for it, `settled` says that the ledger knows its end."""

    number: int
    id: str
    team: str
    work: Work
    priority: Priority
    hold: str
    state: State
    attempt: int
    progress: int
    provider_id: str | None
    results: tuple[str, ...]
    error: str | None
    settled: bool
    created_at: datetime
    expires_at: datetime | None

    @property
    def is_open(self) -> bool:
        """Whether it is still to be decided."""
        return self.state in {"queued", "running"}

    def shown_state(self, now: datetime) -> str:
        """Return the state as the team sees it."""
        is_gone = self.expires_at is not None and self.expires_at <= now
        return "expired" if is_gone else self.state


@dataclass(frozen=True, slots=True)
class Model:
    """A model of a team's own; deleted softly, because jobs and their credits go on naming it."""

    id: str
    team: str
    name: str
    reference: str
    created_at: datetime
    deleted_at: datetime | None


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a model, made by a job: ready when that succeeded."""

    version: int
    job: str
    state: State

    @property
    def is_ready(self) -> bool:
        """Whether images can be made with it."""
        return self.state == "succeeded"

    @property
    def is_open(self) -> bool:
        """Whether it is still in training."""
        return self.state in {"queued", "running"}


REFERENCE_MODELS: Mapping[str, str] = {
    "aurora-2": "People and fashion",
    "granite-1": "Products on a plain ground",
    "meadow-3": "Scenes out of doors",
}
"""The models that everybody may use, and train their own from."""


class Refusal(Exception):
    """The service says no: a stable code, and the status of the answer."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
