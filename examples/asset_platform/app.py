"""The endpoints. `@gate` is all that a gated one needs; one without it costs nothing.

    images, videos, edits, collections     consumed after a successful enqueue; what fails later is refunded
    upscales, background-removals          consumed after success; what fails is never charged
    transforms, adjustments, art-direction not gated

Without credits the answer is 402 with the figures that help, made by the client out of the ledger's refusal.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiohttp import web
from pydantic import Field

from credit_ledger_client import Gate, Hold, Ledger, LedgerError
from credit_ledger_client.fields import Line, ReserveFields
from credit_ledger_client.web import problem_response
from examples.asset_platform.studio import ModelFailed, QueueIsFull, Studio
from examples.requests import Body, key_of, read, team_of

LEDGER = web.AppKey("ledger", Ledger)
STUDIO = web.AppKey("studio", Studio)

routes = web.RouteTableDef()


def ledger_of(request: web.Request) -> Ledger:
    """Return the ledger that a request is gated by."""
    return request.app[LEDGER]


gate = Gate(ledger_of, account=team_of, key=key_of, denied=problem_response)


class Asked(Body):
    """What is to be made."""

    prompt: str = Field(max_length=2000)


class Images(Asked):
    """Some images of one prompt; one unless told otherwise."""

    count: int = Field(default=1, ge=1, le=100)


class Collection(Body):
    """Several flows, which start all or none."""

    flows: list[Images] = Field(min_length=1, max_length=50)


async def count_of(request: web.Request) -> int:
    """Return how many images are asked for."""
    return (await read(request, Images)).count


async def flows_of(request: web.Request) -> ReserveFields:
    """Return a hold over all flows of a collection, which is one job of the plan's `concurrent_jobs`."""
    flows = (await read(request, Collection)).flows
    lines: list[Line] = [{"operation": "generate_collection_flow", "quantity": flow.count} for flow in flows]
    return {"lines": lines, "occupies": {"concurrent_jobs": 1}}


# ---------------------------------------------------------------------------------------------------------------------
# Consumed after a successful enqueue: what the handler answers with 202 is paid for, what it raises is released.


def enqueue(request: web.Request, hold: Hold, kind: str, *prompts: str) -> web.Response:
    """Put a job on the queue, with the hold's id, by which a failure is refunded; raises 503 when there is no room."""
    try:
        job = request.app[STUDIO].enqueue(kind, prompts, hold)
    except QueueIsFull as error:
        raise web.HTTPServiceUnavailable(text="the queue is full: try again", headers={"Retry-After": "5"}) from error
    return web.json_response({"job": job.id}, status=202)


@routes.post("/images")
@gate("generate_image", quantity=count_of)
async def generate_images(request: web.Request, hold: Hold) -> web.Response:
    """Generate some images."""
    return enqueue(request, hold, "images", (await read(request, Images)).prompt)


@routes.post("/videos")
@gate("generate_video")
async def generate_video(request: web.Request, hold: Hold) -> web.Response:
    """Generate a video."""
    return enqueue(request, hold, "video", (await read(request, Asked)).prompt)


@routes.post("/edits")
@gate("edit_image")
async def edit_image(request: web.Request, hold: Hold) -> web.Response:
    """Edit an image."""
    return enqueue(request, hold, "edit", (await read(request, Asked)).prompt)


@routes.post("/collections")
@gate(asking=flows_of)
async def generate_collection(request: web.Request, hold: Hold) -> web.Response:
    """Generate a collection: one hold over all flows; a flow that fails is refunded alone."""
    flows = (await read(request, Collection)).flows
    return enqueue(request, hold, "collection", *(flow.prompt for flow in flows))


# ---------------------------------------------------------------------------------------------------------------------
# Consumed after success: the handler does the work, and its answer decides.


async def made_now(request: web.Request, kind: str) -> web.Response:
    """Make something while the caller waits; raises 502 when the model fails, which costs nothing."""
    try:
        asset = await request.app[STUDIO].model.make(kind, (await read(request, Asked)).prompt)
    except ModelFailed as error:
        raise web.HTTPBadGateway(text="the model failed; nothing was charged") from error
    return web.json_response({"asset": asset})


@routes.post("/upscales")
@gate("upscale_image")
async def upscale_image(request: web.Request) -> web.Response:
    """Upscale an image."""
    return await made_now(request, "upscale")


@routes.post("/background-removals")
@gate("remove_background")
async def remove_background(request: web.Request) -> web.Response:
    """Remove a background."""
    return await made_now(request, "cutout")


# ---------------------------------------------------------------------------------------------------------------------
# Not gated: no gate.


@routes.post("/transforms")
@routes.post("/adjustments")
@routes.post("/art-direction")
async def passes_freely(request: web.Request) -> web.Response:
    """Crop, adjust, or suggest: work that costs nothing, whoever asks and however many credits are left."""
    return await made_now(request, request.path.strip("/"))


@routes.get("/jobs/{job}")
async def show_job(request: web.Request) -> web.Response:
    """Show a job: its state, its assets, and what was given back."""
    job = request.app[STUDIO].jobs.get(request.match_info["job"])
    if job is None or job.team != team_of(request):
        raise web.HTTPNotFound
    return web.json_response(job.shown)


@routes.get("/credits")
async def show_credits(request: web.Request) -> web.Response:
    """Show how many credits are used and left; a team is known from its first gated request on."""
    try:
        quota = await request.app[LEDGER].quota(team_of(request))
    except LedgerError as error:
        return problem_response(error)
    return web.json_response({"used": quota.credits_used, "left": quota.credits_remaining})


def application(ledger: Ledger, studio: Studio) -> web.Application:
    """Return the application; it opens the ledger and runs the studio."""
    app = web.Application()
    app[LEDGER], app[STUDIO] = ledger, studio
    app.add_routes(routes)

    async def running(_: web.Application) -> AsyncIterator[None]:
        async with ledger, studio:
            yield

    app.cleanup_ctx.append(running)
    return app
