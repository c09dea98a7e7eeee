"""The routes: from a request to a job for the engine, and from the job to a reply."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route

from illada_core.errors import IlladaError
from illada_core.evaluation.items import rule_for
from illada_core.evaluation.verdicts import judge
from illada_core.serving import bodies, metrics, streams
from illada_core.serving.access import Access, read_body
from illada_core.serving.bodies import Asked, Desk
from illada_core.serving.engine import Engine
from illada_core.serving.jobs import Job, ScoreJob, TextJob
from illada_core.serving.page import page
from illada_core.serving.replies import SERVER, Refusal, Reply, refusal_of

POLL_S = 0.5  # between two looks whether a client is still there
CLIENT_LEFT = 499
RETRY_AFTER_S = 1


@dataclass(frozen=True)
class Limits:
    """How many requests may wait, and how long one may take in all."""

    waiting: int = 64
    timeout_s: float = 600.0


@dataclass(frozen=True)
class Line:
    """One answered request, for a log: never what was asked or answered.

    `fault` is an error of the server itself.
    """

    path: str
    status: int
    client: str
    seconds: float
    job: Job | None = None
    fault: Exception | None = None


class Service:
    """A served model: the handlers of its paths, and what they share."""

    def __init__(
        self,
        name: str,
        desk: Desk,
        engine: Engine,
        access: Access,
        limits: Limits,
        log: Callable[[Line], None],
    ) -> None:
        self.name, self.desk, self.engine = name, desk, engine
        self.access, self.limits, self.log = access, limits, log
        self.created = int(time.time())
        self.metrics = metrics.Metrics(engine)
        self.page = page()

    async def show_page(self, request: Request) -> Response:
        text, headers = self.page
        return HTMLResponse(text, headers=headers)

    async def health(self, request: Request) -> Response:
        if self.engine.is_closed or self.engine.is_draining:
            return JSONResponse({"status": "draining"}, 503)
        return JSONResponse({"status": "ok"})

    async def show_metrics(self, request: Request) -> Response:
        return PlainTextResponse(self.metrics.text(), media_type=metrics.MEDIA_TYPE)

    async def models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self.model_fields()]})

    async def model(self, request: Request) -> Response:
        if request.path_params["id"] != self.name:
            raise Refusal(404, f"the model here is {self.name}", code="model_not_found")
        return JSONResponse(self.model_fields())

    def model_fields(self) -> dict[str, Any]:
        """Return the model as a list of models has it, and what holds where a body is silent."""
        return {
            "id": self.name,
            "object": "model",
            "created": self.created,
            "owned_by": "illada",
            "max_model_len": self.desk.checkpoint.config.max_length,
            "settings": vars(self.desk.settings),
        }

    async def chat(self, request: Request) -> Response:
        reply = Reply("chat.completion", "chatcmpl", self.name)
        return await self.write(request, reply, bodies.read_chat)

    async def complete(self, request: Request) -> Response:
        reply = Reply("text_completion", "cmpl", self.name)
        return await self.write(request, reply, bodies.read_completion)

    async def infill(self, request: Request) -> Response:
        reply = Reply("illada.infill", "infill", self.name)
        return await self.write(request, reply, bodies.read_infill)

    async def write(
        self, request: Request, reply: Reply, read: Callable[[dict[str, Any], Desk], Asked]
    ) -> Response:
        """Answer with texts, as they settle or whole."""
        asked = await run_in_threadpool(read, await read_body(request), self.desk)
        job = TextJob(asked.tasks, self.limits.timeout_s, asked.is_streamed)
        self.submit(job, request)
        if asked.is_streamed:
            checkpoint, has_usage = self.desk.checkpoint, asked.has_usage
            events = streams.text_events(job, reply, checkpoint, has_usage)
            return self.streamed(job, request, events)
        if not await self.wait_for(job, request):
            return Response(status_code=CLIENT_LEFT)
        return JSONResponse(reply.whole(job))

    async def stream_steps(self, request: Request) -> Response:
        """Answer with every step of one text."""
        body = await read_body(request)
        asked = await run_in_threadpool(bodies.read_stream, body, self.desk)
        job = TextJob(asked.tasks, self.limits.timeout_s, is_streamed=True, keeps_commits=True)
        self.submit(job, request)
        reply = Reply("illada.stream", "stream", self.name)
        events = streams.step_events(job, reply, self.desk.checkpoint)
        return self.streamed(job, request, events)

    async def score(self, request: Request) -> Response:
        body = await read_body(request)
        asked = await run_in_threadpool(bodies.read_score, body, self.desk)
        rule = rule_for(asked.settings, self.desk.checkpoint)
        job = ScoreJob(asked.item, rule, asked.settings.cfg, self.limits.timeout_s)
        self.submit(job, request)
        if not await self.wait_for(job, request):
            return Response(status_code=CLIENT_LEFT)
        assert job.scores is not None
        verdict = judge(asked.item, job.scores)
        reply = Reply("illada.verdict", "score", self.name)
        return JSONResponse({**verdict.fields(), **reply.head()})

    async def tokenize(self, request: Request) -> Response:
        ids = await run_in_threadpool(bodies.tokens_of, await read_body(request), self.desk)
        most = self.desk.checkpoint.config.max_length
        return JSONResponse({"tokens": ids, "count": len(ids), "max_model_len": most})

    async def detokenize(self, request: Request) -> Response:
        text = await run_in_threadpool(bodies.text_of, await read_body(request), self.desk)
        return JSONResponse({"content": text, "prompt": text})

    def submit(self, job: Job, request: Request) -> None:
        """Hand a job to the engine. Raises Refusal where that takes no more."""
        if self.engine.is_closed or self.engine.is_draining:
            raise Refusal(503, "the server is being stopped", SERVER, "stopping")
        if self.engine.jobs_waiting >= self.limits.waiting:
            raise Refusal(
                429,
                f"{self.limits.waiting} requests are waiting already",
                "rate_limit_error",
                "too_many_waiting",
                headers={"retry-after": str(RETRY_AFTER_S)},
            )
        request.state.job = job
        self.engine.submit(job)

    async def wait_for(self, job: Job, request: Request) -> bool:
        """Wait until a job is done; drop it and return False where the client leaves.

        Raises the error of the job.
        """
        try:
            while not job.is_done:
                await job.wait(POLL_S)
                if not job.is_done and await request.is_disconnected():
                    return False
        finally:
            self.engine.drop(job)
        if job.error is not None:
            raise job.error
        return True

    def streamed(self, job: Job, request: Request, events: AsyncIterator[bytes]) -> Response:
        """Return a stream; the job goes with whoever reads it."""

        async def watched() -> AsyncIterator[bytes]:
            try:
                async for each in events:
                    yield each
            finally:
                self.engine.drop(job)
                self.note(request, 200)

        return StreamingResponse(watched(), headers=streams.HEADERS, media_type=streams.MEDIA_TYPE)

    def note(self, request: Request, status: int, fault: Exception | None = None) -> None:
        """Count and log an answered request."""
        path, state = request.scope["route"].path, request.state
        self.metrics.count(path, status)
        client = request.client.host if request.client else "?"
        seconds = time.monotonic() - state.started
        self.log(Line(path, status, client, seconds, state.job, fault))


Handler = Callable[[Request], Awaitable[Response]]


def build_app(service: Service) -> Starlette:
    """Return the application of a served model."""
    get: tuple[tuple[str, Handler], ...] = (
        ("/", service.show_page),
        ("/health", service.health),
        ("/healthz", service.health),
        ("/metrics", service.show_metrics),
        ("/v1/models", service.models),
        ("/v1/models/{id:path}", service.model),
    )
    post: tuple[tuple[str, Handler], ...] = (
        ("/v1/chat/completions", service.chat),
        ("/v1/completions", service.complete),
        ("/v1/infill", service.infill),
        ("/v1/score", service.score),
        ("/illada/stream", service.stream_steps),
        ("/tokenize", service.tokenize),
        ("/detokenize", service.detokenize),
    )
    routes = [Route(path, guarded(service, handler)) for path, handler in get]
    routes += [Route(path, guarded(service, handler), methods=["POST"]) for path, handler in post]
    origins = list(service.access.origins)
    cors = Middleware(
        CORSMiddleware, allow_origins=origins, allow_methods=["*"], allow_headers=["*"]
    )
    return Starlette(
        routes=routes,
        middleware=[cors] if origins else [],
        exception_handlers={HTTPException: unknown_path},
    )


def guarded(service: Service, handler: Handler) -> Handler:
    """Return a handler that serves who may ask, tells errors as objects, and is logged."""

    async def answer(request: Request) -> Response:
        request.state.started, request.state.job = time.monotonic(), None
        fault = None
        try:
            service.access.check(request)
            response = await handler(request)
        except Exception as error:
            refusal = refusal_of(error)
            fault = None if isinstance(error, IlladaError) else error
            response = refused(refusal)
        if not isinstance(response, StreamingResponse):  # which is noted when it ends
            service.note(request, response.status_code, fault)
        return response

    return answer


def refused(refusal: Refusal) -> Response:
    """Return the response of a refusal; a client is not to try again what will not pass."""
    again = {} if refusal.status in (429, 503) else {"x-should-retry": "false"}
    return JSONResponse(refusal.fields(), refusal.status, headers={**again, **refusal.headers})


async def unknown_path(request: Request, error: Exception) -> Response:
    """Tell in an error object that there is no such path, or no such method of it."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        return refused(Refusal(405, f"{request.method} is no method of this path"))
    return refused(Refusal(404, f"there is no {request.url.path[:80]} here", code="not_found"))
