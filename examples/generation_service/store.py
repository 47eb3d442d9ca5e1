"""Jobs and models in a SQLite file, which survives the process.

Each change of a job's state is one statement that names the states it may come from, so of two who decide at once, one
finds nothing to change. Statements take microseconds, so they are not sent to a thread.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from examples.generation_service.jobs import ATTEMPTS_MAX, RESULTS_KEPT, Job, Model, Priority, Refusal, Version, Work

SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    team TEXT NOT NULL,
    type TEXT NOT NULL,
    work TEXT NOT NULL,
    priority TEXT NOT NULL,
    hold TEXT NOT NULL,
    held_at REAL NOT NULL,
    state TEXT NOT NULL DEFAULT 'queued',
    attempt INTEGER NOT NULL DEFAULT 1,
    progress INTEGER NOT NULL DEFAULT 0,
    provider_id TEXT,
    results TEXT NOT NULL DEFAULT '[]',
    error TEXT,
    settled INTEGER NOT NULL DEFAULT 0,
    created_at REAL NOT NULL,
    changed_at REAL NOT NULL,
    expires_at REAL
);
CREATE INDEX IF NOT EXISTS jobs_of_a_team ON jobs (team, number);
CREATE INDEX IF NOT EXISTS jobs_to_settle ON jobs (number) WHERE settled = 0;
CREATE TABLE IF NOT EXISTS models (
    id TEXT PRIMARY KEY, team TEXT NOT NULL, name TEXT NOT NULL, reference TEXT NOT NULL,
    created_at REAL NOT NULL, deleted_at REAL
);
CREATE TABLE IF NOT EXISTS versions (
    model TEXT NOT NULL, version INTEGER NOT NULL, job TEXT NOT NULL UNIQUE, PRIMARY KEY (model, version)
);
"""
Clock = Callable[[], datetime]


def present() -> datetime:
    """Return the present."""
    return datetime.now(UTC)


class Store:
    """The file; `clock` says what is written as time."""

    def __init__(self, path: Path, clock: Clock = present) -> None:
        self.clock = clock
        self._file = sqlite3.connect(path, isolation_level=None)
        self._file.row_factory = sqlite3.Row
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "busy_timeout = 5000"):
            self._file.execute(f"PRAGMA {pragma}")
        self._file.executescript(SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    # -- what happens to a job -------------------------------------------------------------------------------------

    def add(self, job_id: str, team: str, work: Work, priority: Priority, hold: str) -> Job | None:
        """Queue a job, and make the version of the model that it trains; None when there is one with this id.

        Raises Refusal when somebody else trains that version.
        """
        with self._file:
            self._file.execute("BEGIN IMMEDIATE")
            job = self._one(
                "INSERT INTO jobs (id, team, type, work, priority, hold, held_at, created_at, changed_at)"
                " VALUES (:id, :team, :type, :work, :priority, :hold, :now, :now, :now)"
                " ON CONFLICT (id) DO NOTHING RETURNING *",
                id=job_id,
                team=team,
                type=work.type,
                work=work.model_dump_json(),
                priority=priority,
                hold=hold,
            )
            if job is not None and work.version is not None and work.type != "image_generation":
                try:
                    self._file.execute("INSERT INTO versions VALUES (?, ?, ?)", (work.model, work.version, job_id))
                except sqlite3.IntegrityError as error:
                    raise Refusal(409, "model_in_training", "a version of the model is in training") from error
        return job

    def start(self, job: Job, hold: str) -> Job | None:
        """Let an attempt run, once or again, on a hold; None when the job was decided or has gone on."""
        return self._one(
            "UPDATE jobs SET state = 'running', hold = :hold, held_at = :now, changed_at = :now"
            " WHERE id = :id AND attempt = :attempt AND state IN ('queued', 'running') RETURNING *",
            id=job.id,
            attempt=job.attempt,
            hold=hold,
        )

    def begun(self, job: Job, provider_id: str) -> None:
        """Write down that the provider has an attempt."""
        self._one(
            "UPDATE jobs SET provider_id = :provider WHERE id = :id AND attempt = :attempt RETURNING *",
            id=job.id,
            attempt=job.attempt,
            provider=provider_id,
        )

    def put_back(self, job: Job) -> None:
        """Let an attempt wait again that the provider did not take."""
        self._one(
            "UPDATE jobs SET state = 'queued', changed_at = :now"
            " WHERE id = :id AND attempt = :attempt AND state = 'running' AND provider_id IS NULL RETURNING *",
            id=job.id,
            attempt=job.attempt,
        )

    def progress(self, job_id: str, attempt: int, percent: int) -> None:
        """Write down how far an attempt is; it never goes back."""
        self._one(
            "UPDATE jobs SET progress = max(progress, :percent), changed_at = :now"
            " WHERE id = :id AND attempt = :attempt AND state = 'running' RETURNING *",
            id=job_id,
            attempt=attempt,
            percent=percent,
        )

    def try_again(self, job_id: str, attempt: int) -> Job | None:
        """Queue the next attempt after this one; None when the job was decided, has gone on, or was tried enough."""
        return self._one(
            "UPDATE jobs SET state = 'queued', attempt = attempt + 1, progress = 0, provider_id = NULL, changed_at = :now"
            " WHERE id = :id AND attempt = :attempt AND attempt % :most <> 0 AND state IN ('queued', 'running')"
            " RETURNING *",
            id=job_id,
            attempt=attempt,
            most=ATTEMPTS_MAX,
        )

    def succeed(self, job_id: str, results: list[str]) -> Job | None:
        """Decide that a job succeeded, by whichever attempt; None when it was decided before."""
        return self._one(
            "UPDATE jobs SET state = 'succeeded', progress = 100, results = :results, error = NULL, changed_at = :now,"
            " expires_at = :expires WHERE id = :id AND state IN ('queued', 'running') RETURNING *",
            id=job_id,
            results=json.dumps(results),
            expires=(self.clock() + RESULTS_KEPT).timestamp(),
        )

    def fail(self, job_id: str, attempt: int, error: str) -> Job | None:
        """Decide that a job failed with this attempt; None when it was decided before or has gone on."""
        return self._one(
            "UPDATE jobs SET state = 'failed', error = :error, changed_at = :now"
            " WHERE id = :id AND attempt = :attempt AND state IN ('queued', 'running') RETURNING *",
            id=job_id,
            attempt=attempt,
            error=error,
        )

    def cancel(self, job_id: str) -> Job | None:
        """Decide that a job that has not started will not; None when it has, or was decided."""
        return self._one(
            "UPDATE jobs SET state = 'cancelled', changed_at = :now WHERE id = :id AND state = 'queued' RETURNING *",
            id=job_id,
        )

    def revive(self, job: Job, hold: str) -> Job | None:
        """Queue a failed job once more, on a new hold; None when that was done already."""
        return self._one(
            "UPDATE jobs SET state = 'queued', attempt = (attempt + :most - 1) / :most * :most + 1,"
            " progress = 0, provider_id = NULL, error = NULL, settled = 0, hold = :hold, held_at = :now,"
            " changed_at = :now WHERE id = :id AND attempt = :attempt AND state = 'failed' AND settled = 1 RETURNING *",
            id=job.id,
            attempt=job.attempt,
            hold=hold,
            most=ATTEMPTS_MAX,
        )

    def settled(self, job: Job) -> None:
        """Write down that the ledger knows how a job ended."""
        self._one("UPDATE jobs SET settled = 1 WHERE id = :id AND hold = :hold RETURNING *", id=job.id, hold=job.hold)

    def held(self, job: Job) -> None:
        """Write down that a job's hold was given more time."""
        self._one(
            "UPDATE jobs SET held_at = :now WHERE id = :id AND hold = :hold RETURNING *", id=job.id, hold=job.hold
        )

    # -- finding jobs ----------------------------------------------------------------------------------------------

    def job(self, job_id: str) -> Job | None:
        """Return a job."""
        return self._one("SELECT * FROM jobs WHERE id = :id", id=job_id)

    def jobs(self, team: str, *, type_: str | None, state: str | None, before: int | None, limit: int) -> list[Job]:
        """Return a team's jobs, newest first, of a type and in a shown state."""
        return self._all(
            "SELECT * FROM jobs WHERE team = :team AND (:type IS NULL OR type = :type) AND (:before IS NULL OR number < :before)"
            " AND (:state IS NULL OR :state = CASE WHEN expires_at <= :now THEN 'expired' ELSE state END)"
            " ORDER BY number DESC LIMIT :limit",
            team=team,
            type=type_,
            state=state,
            before=before,
            limit=limit,
        )

    def to_settle(self) -> list[Job]:
        """Return jobs that were decided and whose end the ledger may not know, oldest first."""
        return self._all(
            "SELECT * FROM jobs WHERE settled = 0 AND state NOT IN ('queued', 'running') ORDER BY number LIMIT 100"
        )

    def waiting(self, seconds: float) -> list[Job]:
        """Return jobs that have been queued for so long without a start, oldest first."""
        return self._all(
            "SELECT * FROM jobs WHERE settled = 0 AND state = 'queued' AND changed_at <= :now - :seconds"
            " ORDER BY number LIMIT 100",
            seconds=seconds,
        )

    def silent(self, seconds: float) -> list[Job]:
        """Return jobs that run, and of which the provider has not told anything for so long."""
        return self._all(
            "SELECT * FROM jobs WHERE settled = 0 AND state = 'running' AND changed_at <= :now - :seconds LIMIT 100",
            seconds=seconds,
        )

    def to_hold_longer(self, seconds: float) -> list[Job]:
        """Return open jobs whose hold was given its time so long ago."""
        return self._all(
            "SELECT * FROM jobs WHERE settled = 0 AND state IN ('queued', 'running') AND held_at <= :now - :seconds"
            " ORDER BY held_at LIMIT 100",
            seconds=seconds,
        )

    def forget_results(self) -> None:
        """Forget the results that expired; jobs and credits stay as they are."""
        self._one("UPDATE jobs SET results = '[]' WHERE expires_at <= :now AND results <> '[]' RETURNING *")

    # -- models ----------------------------------------------------------------------------------------------------

    def add_model(self, model_id: str, team: str, name: str, reference: str) -> None:
        """Add a model, which is of use when a version is ready; nothing when it is there."""
        self._file.execute(
            "INSERT INTO models VALUES (:id, :team, :name, :reference, :now, NULL) ON CONFLICT (id) DO NOTHING",
            self._given(id=model_id, team=team, name=name, reference=reference),
        )

    def models(self, team: str, *, deleted: bool) -> list[Model]:
        """Return a team's models that live, or those that were deleted; one without a version was never begun."""
        rows = self._file.execute(
            "SELECT * FROM models WHERE team = ? AND (deleted_at IS NOT NULL) = ?"
            " AND id IN (SELECT model FROM versions) ORDER BY created_at, id",
            (team, deleted),
        )
        return [_model(row) for row in rows]

    def model(self, team: str, model_id: str) -> Model | None:
        """Return a model of a team, deleted ones too."""
        row = self._file.execute("SELECT * FROM models WHERE id = ? AND team = ?", (model_id, team)).fetchone()
        return None if row is None else _model(row)

    def delete_model(self, model: Model) -> None:
        """Delete a model softly."""
        self._file.execute(
            "UPDATE models SET deleted_at = :now WHERE id = :id AND deleted_at IS NULL", self._given(id=model.id)
        )

    def versions(self, model_id: str) -> list[Version]:
        """Return a model's versions, oldest first."""
        rows = self._file.execute(
            "SELECT version, job, state FROM versions JOIN jobs ON jobs.id = job WHERE model = ? ORDER BY version",
            (model_id,),
        )
        return [Version(*row) for row in rows]

    # -- inside ----------------------------------------------------------------------------------------------------

    def _given(self, **values: object) -> dict[str, object]:
        return {"now": self.clock().timestamp(), **values}

    def _all(self, statement: str, **values: object) -> list[Job]:
        return [_job(row) for row in self._file.execute(statement, self._given(**values)).fetchall()]

    def _one(self, statement: str, **values: object) -> Job | None:
        return next(iter(self._all(statement, **values)), None)


def _instant(value: float | None) -> datetime | None:
    return None if value is None else datetime.fromtimestamp(value, UTC)


def _job(row: Any) -> Job:  # noqa: ANN401 - a row of the file
    created_at = datetime.fromtimestamp(row["created_at"], UTC)
    return Job(
        number=row["number"],
        id=row["id"],
        team=row["team"],
        work=Work.model_validate_json(row["work"]),
        priority=row["priority"],
        hold=row["hold"],
        state=row["state"],
        attempt=row["attempt"],
        progress=row["progress"],
        provider_id=row["provider_id"],
        results=tuple(json.loads(row["results"])),
        error=row["error"],
        settled=bool(row["settled"]),
        created_at=created_at,
        expires_at=_instant(row["expires_at"]),
    )


def _model(row: Any) -> Model:  # noqa: ANN401 - a row of the file
    created_at = datetime.fromtimestamp(row["created_at"], UTC)
    deleted_at = _instant(row["deleted_at"])
    return Model(row["id"], row["team"], row["name"], row["reference"], created_at, deleted_at)
