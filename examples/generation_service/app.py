"""The HTTP interface of the generation service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Literal, get_args

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import Field, ValidationError

from credit_ledger_client import Ledger, LedgerError
from credit_ledger_client.web import problem_response
from examples.generation_service.generation import Generation
from examples.generation_service.jobs import REFERENCE_MODELS, Job, Model, Priority, Refusal, State, Type, Version, Work
from examples.generation_service.provider import news
from examples.generation_service.signing import Forged, check_webhook, is_signed, sign
from examples.generation_service.upkeep import Upkeep
from examples.generation_service.worker import work
from examples.requests import Body, key_of, read, team_of
from examples.stopping import stopped

PAGE = 50


@dataclass(frozen=True, slots=True)
class Secrets:
    """What webhooks and links are signed with."""

    webhooks: bytes
    links: bytes


GENERATION = web.AppKey("generation", Generation)
SECRETS = web.AppKey("secrets", Secrets)
routes = web.RouteTableDef()
Quality = Literal["draft", "standard", "high"]


class ImagesAsked(Body):
    """Images to generate, with a reference model or one of the team's own."""

    model: str = Field(max_length=100)
    version: int | None = Field(default=None, ge=1)
    images: int = Field(default=1, ge=1, le=100)
    prompt: str = Field(max_length=2000)
    quality: Quality = "standard"
    resolution: Literal["512", "1024", "2048"] = "512"
    priority: Priority = "normal"


class ModelAsked(Body):
    """A model to train from a reference model."""

    name: str = Field(min_length=1, max_length=100)
    reference_model: str
    images: int = Field(ge=1, le=1000)
    quality: Literal["standard", "high"] = "standard"


class VersionAsked(Body):
    """A version to train from the one before."""

    images: int = Field(ge=1, le=1000)
    quality: Literal["standard", "high"] = "standard"


def work_of(generation: Generation, team: str, asked: ImagesAsked) -> Work:
    """Return images as work; raises Refusal for a model that cannot be used."""
    return Work(
        type="image_generation",
        model=asked.model,
        version=generation.usable(team, asked.model, asked.version),
        quantity=asked.images,
        params={"quality": asked.quality, "resolution": asked.resolution},
        prompt=asked.prompt,
    )


# ---------------------------------------------------------------------------------------------------------------------
# Jobs


@routes.post("/jobs")
async def submit(request: web.Request) -> web.Response:
    """Queue images: 402 without credits, 429 when the plan's jobs all run."""
    generation, team, asked = request.app[GENERATION], team_of(request), await read(request, ImagesAsked)
    wanted = work_of(generation, team, asked)
    return answer(request, await generation.submit(team, wanted, asked.priority, key_of(request)), 202)


@routes.post("/estimates")
async def estimate(request: web.Request) -> web.Response:
    """Say what images would cost, and whether the team can afford them."""
    generation, team, asked = request.app[GENERATION], team_of(request), await read(request, ImagesAsked)
    wanted = work_of(generation, team, asked)
    verdict = await generation.ledger.check(team, wanted.operation, wanted.quantity, params=wanted.params)
    about = {"cost", "allowed", "available", "max_affordable", "reasons"}
    return web.json_response(verdict.model_dump(mode="json", include=about))


@routes.get("/jobs")
async def jobs(request: web.Request) -> web.Response:
    """List jobs, newest first, by `type` and `state`; `before` is the `next` of the page before."""
    asked = {name: request.query.get(name) for name in ("type", "state")}
    for name, known in (("type", Type), ("state", State)):
        if asked[name] not in (None, "expired" if name == "state" else None, *get_args(known)):
            raise Refusal(422, "invalid_request", f"there is no such {name}")
    before = request.query.get("before", "")
    if before and not (before.isascii() and before.isdigit() and len(before) < 19):
        raise Refusal(422, "invalid_request", "before is the `next` of a page")
    found = request.app[GENERATION].store.jobs(
        team_of(request), type_=asked["type"], state=asked["state"], before=int(before) if before else None, limit=PAGE
    )
    more = found[-1].number if len(found) == PAGE else None
    return web.json_response({"jobs": [shown(request, job) for job in found], "next": more})


@routes.get("/jobs/{job}")
async def job(request: web.Request) -> web.Response:
    """Show a job with its credit transactions, oldest first."""
    generation, team = request.app[GENERATION], team_of(request)
    found = generation.find(team, request.match_info["job"])
    page = await generation.ledger.transactions(team, reference=found.id, order="asc", limit=500)
    rows = [row for row in page.transactions if row["kind"] != "extend"]  # more time moves no credits
    moved = [{name: row[name] for name in ("id", "type", "kind", "amount")} for row in rows]
    return web.json_response({**shown(request, found), "transactions": moved})


@routes.post("/jobs/{job}/cancel")
async def cancel(request: web.Request) -> web.Response:
    """Cancel a job that has not started."""
    return answer(request, await request.app[GENERATION].cancel(team_of(request), request.match_info["job"]))


@routes.post("/jobs/{job}/retry")
async def retry(request: web.Request) -> web.Response:
    """Queue a job that failed once more."""
    return answer(request, await request.app[GENERATION].retry(team_of(request), request.match_info["job"]), 202)


def answer(request: web.Request, job: Job, status: int = 200) -> web.Response:
    """Return a job as an answer."""
    return web.json_response(shown(request, job), status=status)


def shown(request: web.Request, job: Job) -> dict[str, Any]:
    """Return a job as its team sees it; its results are links that work until they expire."""
    about = {"job": job.id, "priority": job.priority, **job.work.model_dump(mode="json")}
    state = job.shown_state(request.app[GENERATION].store.clock())
    now = {"state": state, "attempt": job.attempt, "progress": job.progress, "error": job.error}
    links: list[str] = []
    if state == "succeeded" and job.expires_at is not None:
        expires = int(job.expires_at.timestamp())
        links = [link(request, job.id, number, expires) for number in range(len(job.results))]
    expires_at = job.expires_at.astimezone(UTC).isoformat() if job.expires_at else None
    return {**about, **now, "results": links, "expires_at": expires_at, "created_at": job.created_at.isoformat()}


def link(request: web.Request, job_id: str, number: int, expires: int) -> str:
    """Return a link to a result, which needs no session and works until an instant."""
    signature = sign(request.app[SECRETS].links, f"{job_id}/{number}/{expires}".encode())
    path = f"/results/{job_id}/{number}?expires={expires}&signature={signature}"
    return f"{request.url.origin()}{path}"


@routes.get("/results/{job}/{number:[0-9]{1,4}}")
async def result(request: web.Request) -> web.Response:
    """Lead to a result: 403 for a link that is not ours, 410 for one that expired."""
    job_id, number, expires = request.match_info["job"], request.match_info["number"], request.query.get("expires", "")
    text = f"{job_id}/{number}/{expires}".encode()
    if not is_signed(request.app[SECRETS].links, text, request.query.get("signature", "")):
        raise Refusal(403, "forbidden", "the link is not complete")
    store = request.app[GENERATION].store
    found = store.job(job_id)
    if found is None or int(expires) <= store.clock().timestamp() or int(number) >= len(found.results):
        raise Refusal(410, "result_expired", "results are kept for 90 days")
    return web.Response(status=302, headers={"Location": found.results[int(number)]})


# ---------------------------------------------------------------------------------------------------------------------
# Models


@routes.get("/reference-models")
async def reference_models(_: web.Request) -> web.Response:
    """List the models that everybody may use."""
    listed = [{"model": model, "title": title} for model, title in REFERENCE_MODELS.items()]
    return web.json_response({"models": listed})


@routes.post("/models")
async def train(request: web.Request) -> web.Response:
    """Train a model of one's own; the answer is the job."""
    asked, team = await read(request, ModelAsked), team_of(request)
    trained = await request.app[GENERATION].train(
        team, asked.name, asked.reference_model, asked.images, asked.quality, key_of(request)
    )
    return answer(request, trained, 202)


@routes.post("/models/{model}/versions")
async def refine(request: web.Request) -> web.Response:
    """Train the next version of a model; the answer is the job."""
    asked, team = await read(request, VersionAsked), team_of(request)
    refined = await request.app[GENERATION].refine(
        team, request.match_info["model"], asked.images, asked.quality, key_of(request)
    )
    return answer(request, refined, 202)


@routes.get("/models")
async def models(request: web.Request) -> web.Response:
    """List a team's models; `deleted=true` lists those that were deleted."""
    store = request.app[GENERATION].store
    found = store.models(team_of(request), deleted=request.query.get("deleted") == "true")
    return web.json_response({"models": [shown_model(each, store.versions(each.id)) for each in found]})


@routes.get("/models/{model}")
async def model(request: web.Request) -> web.Response:
    """Show a model with its versions."""
    found, versions = request.app[GENERATION].own_model(team_of(request), request.match_info["model"])
    return web.json_response(shown_model(found, versions))


@routes.delete("/models/{model}")
async def delete_model(request: web.Request) -> web.Response:
    """Delete a model softly."""
    request.app[GENERATION].delete_model(team_of(request), request.match_info["model"])
    return web.Response(status=204)


def shown_model(model: Model, versions: Sequence[Version]) -> dict[str, Any]:
    """Return a model as its team sees it."""
    listed = [{"version": each.version, "job": each.job, "state": each.state} for each in versions]
    deleted_at = model.deleted_at.isoformat() if model.deleted_at else None
    about = {"model": model.id, "name": model.name, "reference_model": model.reference, "deleted_at": deleted_at}
    return {**about, "versions": listed}


# ---------------------------------------------------------------------------------------------------------------------
# Credits, and the provider


@routes.get("/credits")
async def show_credits(request: web.Request) -> web.Response:
    """Show the balance: available, reserved and bonus credits, and the plan's jobs at once."""
    balance = await request.app[GENERATION].ledger.balance(team_of(request))
    about = {"plan", "available", "reserved", "bonus", "capacity"}
    return web.json_response(balance.model_dump(mode="json", include=about))


@routes.post("/provider/webhook")
async def webhook(request: web.Request) -> web.Response:
    """Take in what the provider tells: 401 unless it is signed and of these minutes."""
    body, generation = await request.read(), request.app[GENERATION]
    signature = request.headers.get("Provider-Signature", "")
    try:
        check_webhook(request.app[SECRETS].webhooks, body, signature, generation.store.clock())
        told = news.validate_json(body)
    except Forged as error:
        raise Refusal(401, "unauthenticated", "the signature is missing, wrong or too old") from error
    except ValidationError as error:
        raise Refusal(422, "invalid_request", "this is no news of an attempt") from error
    await generation.hear(told)
    return web.Response(status=204)


# ---------------------------------------------------------------------------------------------------------------------
# The application


@web.middleware
async def refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer refusals, the ledger's and our own, as problem+json."""
    try:
        return await handler(request)
    except LedgerError as error:
        return problem_response(error)
    except Refusal as refusal:
        problem = {"code": refusal.code, "status": refusal.status, "detail": refusal.detail}
        return web.json_response(problem, status=refusal.status, content_type="application/problem+json")


def application(generation: Generation, secrets: Secrets, upkeep: Upkeep, *, workers: int = 2) -> web.Application:
    """Return the application, which opens ledger and queue, and runs workers and upkeep."""
    app = web.Application(middlewares=[refusals])
    app[GENERATION], app[SECRETS] = generation, secrets
    app.add_routes(routes)

    async def running(_: web.Application) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.callback(generation.store.close)
            ledger: Ledger = generation.ledger
            await stack.enter_async_context(ledger)
            await stack.enter_async_context(generation.queue)
            tasks = [asyncio.create_task(work(generation)) for _ in range(workers)]
            tasks.append(asyncio.create_task(upkeep.run()))
            try:
                yield
            finally:
                await stopped(tasks)

    app.cleanup_ctx.append(running)
    return app
