"""The HTTP server: from the socket to the endpoint, and back with an answer for everything that can go wrong.

It is built on aiohttp's low-level server, which is its parser and its responses without an application: the router of
this package finds a path in a third of the time, and every error, even bytes that are no HTTP, is answered as a problem
in one place. What a request costs is measured there too. A request that came as a whole is answered without the rest of
aiohttp (`listener.py`). A request that has begun is finished even when its caller goes away; at shutdown the port is
closed first, streams that follow the log end, and what runs has ten seconds.

Health and metrics are open, so they are on the main port only when that is the loopback's; else on a port of their own.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine
from time import perf_counter
from typing import Any, TypeVar, cast

from aiohttp import StreamReader, hdrs, web
from aiohttp.http_parser import RawRequestMessage

from events.errors import NotFound, Refusal
from service.access import Access, is_loopback
from service.checkpoints.proofs import Proofs
from service.gateway import Gateway
from service.http.answers import Answer, Malformed, MethodNotAllowed, allowing, answer, nothing, response_of
from service.http.endpoints import Door, Serve, Stream, batch, command, query, query_body
from service.http.export import events
from service.http.incoming import Incoming, WholeRequest
from service.http.listener import Port
from service.http.operations import operations
from service.http.proofs import proof
from service.http.router import Router
from service.http.routes import ROUTES, Route
from service.outages import Outage
from service.replies import failed, out_of_order, refused
from service.store.feed import Feed
from service.telemetry.health import Health
from service.telemetry.metrics import Distribution, Family, Metrics, Value

NOWHERE = "unmatched"
"""The route that a request which found none is counted under; its path is the caller's and without bound."""

_log = logging.getLogger(__name__)


class HttpServer:
    """Serves the ledger on a port of a host.

    `port` 0 takes a free one. On a host that is not the loopback, health and metrics are on `operations_port`, and
    nowhere when that is None; AUTH=off is refused there with ValueError.
    """

    def __init__(  # noqa: PLR0913 - what it serves and where, all named
        self,
        *,
        gateway: Gateway,
        feed: Feed,
        access: Access,
        health: Health,
        metrics: Metrics,
        host: str,
        port: int,
        operations_port: int | None = None,
        proofs: Proofs | None = None,
    ) -> None:
        is_private = is_loopback(host)
        if access.is_open and not is_private:
            raise ValueError(f"AUTH=off is for the loopback only, and {host} is not")
        self._feed = feed
        self._measures = _Measures(metrics)
        endpoints = _endpoints(gateway, feed, access, health, metrics, proofs)
        open_routes = [route for route in ROUTES if route.kind == "operation"]
        main_routes = [route for route in ROUTES if is_private or route.kind != "operation"]
        self._main = Port(_Dispatcher(main_routes, endpoints, self._measures), host, port)
        self._operations: Port | None = None
        if not is_private and operations_port is not None:
            self._operations = Port(_Dispatcher(open_routes, endpoints, self._measures), host, operations_port)
        _measure_connections(metrics, self._main)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._main.port

    @property
    def operations_port(self) -> int | None:
        """The port of health and metrics, or None when they are not served."""
        if self._operations is not None:
            return self._operations.port
        return self._main.port if is_loopback(self._main.host) else None

    async def start(self) -> None:
        """Listen; raises OSError when a port is taken."""
        await self._main.start()
        if self._operations is not None:
            try:
                await self._operations.start()
            except OSError:
                await self._main.stop()
                raise

    async def stop(self) -> None:
        """Take no new requests, finish those that run within a bounded time, and close all connections."""
        self._feed.close()
        await self._main.stop()
        if self._operations is not None:
            await self._operations.stop()


def _measure_connections(metrics: Metrics, main: Port) -> None:
    """Add how many callers are connected, and how many were turned away."""
    connections = metrics.number("gauge", "credit_ledger_http_connections", "Connections that are open.").labels()
    turned_away = metrics.number(
        "counter", "credit_ledger_http_turned_away_total", "Connections for which there was no room."
    ).labels()

    async def show() -> None:
        connections.value, turned_away.value = main.connections, main.room.turned_away

    metrics.probe(show)


def _endpoints(
    gateway: Gateway, feed: Feed, access: Access, health: Health, metrics: Metrics, proofs: Proofs | None
) -> dict[Route, Serve | Stream]:
    """Return what serves each row of the table."""
    door = Door(access)
    in_flight = metrics.number(
        "gauge", "credit_ledger_commands_in_flight", "Commands that wait for their outcome.", "via"
    )
    open_to_all = operations(feed, health, metrics)

    def endpoint(route: Route) -> Serve | Stream:
        match route.kind:
            case "command":
                return command(route, door, gateway, in_flight.labels("http"))
            case "batch":
                return batch(door, gateway, in_flight.labels("http"))
            case "query":
                return query(route, door, gateway)
            case "query_body":
                return query_body(route, door, gateway)
            case "events":
                return events(route, door, feed)
            case "proof":
                return proof(route, door, proofs)
            case "operation":
                return open_to_all[route.name]

    return {route: endpoint(route) for route in ROUTES}


class _Measures:
    """What is measured of requests."""

    def __init__(self, metrics: Metrics) -> None:
        self.requests: Family[Value] = metrics.number(
            "counter", "credit_ledger_http_requests_total", "Requests answered.", "method", "route", "status"
        )
        self.latencies: Family[Distribution] = metrics.latency(
            "credit_ledger_http_request_seconds", "From the head of a request to its answer.", "method", "route"
        )


class _Target:
    """An endpoint with its measures at hand, made when there is something to measure.

    `streams` says that it sends its answer itself.
    """

    __slots__ = ("_counts", "_latency", "_measures", "_method", "_path", "serve", "streams")

    def __init__(
        self, method: str, path: str, serve: Serve | Stream, measures: _Measures, *, streams: bool = False
    ) -> None:
        self.serve = serve
        self.streams = streams
        self._method, self._path, self._measures = method, path, measures
        self._latency: Distribution | None = None
        self._counts: dict[int, Value] = {}

    def measure(self, status: int, seconds: float) -> None:
        """Count one answer."""
        count = self._counts.get(status)
        if count is None:
            count = self._counts[status] = self._measures.requests.labels(self._method, self._path, str(status))
        if self._latency is None:
            self._latency = self._measures.latencies.labels(self._method, self._path)
        count.value += 1
        self._latency.observe(seconds)


class _Dispatcher:
    """Finds the endpoint of a request and answers for it; never raises but for a caller that is gone."""

    def __init__(self, routes: list[Route], endpoints: dict[Route, Serve | Stream], measures: _Measures) -> None:
        self._router: Router[_Target] = Router()
        for route in routes:
            target = _Target(route.method, route.path, endpoints[route], measures, streams=route.kind == "events")
            self._router.add(route.method, route.path, target)
        self._nowhere = _Target("any", NOWHERE, _not_found, measures)

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request as it comes."""
        target, serve, path = self._find(request)
        given = await _answered(target, cast("Stream", serve), request, path)
        return response_of(given) if isinstance(given, Answer) else given

    def whole(self, message: RawRequestMessage, content: StreamReader) -> Coroutine[Any, Any, Answer] | None:
        """Return what answers a request that came as a whole; None for one that is not served in this way."""
        found = self._router.find(message.url.raw_path)
        if found is None:
            return None
        place, path = found
        target = place.targets.get(message.method)
        if target is None or target.streams:
            return None
        return _answered(target, cast("Whole", target.serve), WholeRequest(message, content), path)

    def _find(self, request: web.BaseRequest) -> tuple[_Target, Serve | Stream, dict[str, str]]:
        found = self._router.find(request.rel_url.raw_path)
        if found is None:
            return self._nowhere, _not_found, {}
        place, path = found
        method = request.method
        target = place.targets.get("GET" if method == hdrs.METH_HEAD else method)
        if target is not None:
            return target, target.serve, path
        return self._nowhere, _options(place.methods) if method == hdrs.METH_OPTIONS else _no_method(place.methods), {}


Whole = Callable[[WholeRequest, dict[str, str]], Awaitable[Answer]]
Request = TypeVar("Request", web.BaseRequest, WholeRequest)
Given = TypeVar("Given", Answer, Answer | web.StreamResponse)


async def _answered(
    target: _Target,
    serve: Callable[[Request, dict[str, str]], Awaitable[Given]],
    request: Request,
    path: dict[str, str],
) -> Answer | Given:
    """Return what a request is answered, whatever comes of it, and measure it."""
    started = perf_counter()
    given: Answer | Given
    try:
        given = await serve(request, path)
    except Refusal as refusal:
        given = answer(refused(refusal))
    except Outage as outage:
        given = answer(out_of_order(outage))
    except ConnectionError:
        given = answer(refused(Malformed("the caller went away before its request was complete")))
    except Exception:  # noqa: BLE001 - whatever it is, the caller gets an answer
        _log.exception("%s %s failed", request.method, request.rel_url.raw_path)
        given = answer(failed())
    target.measure(given.status, perf_counter() - started)
    return given


async def _not_found(request: Incoming, _path: dict[str, str]) -> Answer:
    path = request.rel_url.raw_path.encode("ascii", "backslashreplace").decode()
    raise NotFound(f"there is nothing at {path}; GET /docs lists what there is")


def _options(methods: str) -> Serve:
    async def serve(_request: Incoming, _path: dict[str, str]) -> Answer:
        return allowing(nothing(), methods)

    return serve


def _no_method(methods: str) -> Serve:
    async def serve(request: Incoming, _path: dict[str, str]) -> Answer:
        refusal = MethodNotAllowed(f"{request.method} is not for this path, {methods} are", allow=methods.split(", "))
        return allowing(answer(refused(refusal)), methods)

    return serve
