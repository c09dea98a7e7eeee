"""The work of `illada serve`: an engine, and a server around it until a signal comes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from illada_cli.opening import open_asked
from illada_cli.serve.options import ServeOptions
from illada_cli.signals import Stop, stop_on_signals
from illada_cli.ui import Talk, plural
from illada_core.errors import UsageError
from illada_core.evaluation.questions import reader_for
from illada_core.inference.checkpoint import Checkpoint, choose_device
from illada_core.inference.requests import Prompting
from illada_core.inference.text_sampler import TextSampler, complete_settings
from illada_core.model.replay import replayed
from illada_core.serving.bodies import Desk
from illada_core.serving.engine import Engine
from illada_core.serving.jobs import TextJob

try:
    import uvicorn

    from illada_core.serving.access import LOOPBACK, Access
    from illada_core.serving.app import Limits, Line, Service, build_app
except ModuleNotFoundError as error:
    raise UsageError(
        f"illada serve needs {error.name}, which is not installed", "pip install 'illada[serve]'"
    ) from None

CLOSING_S = 5.0  # for the last bytes of a stream, when its text is whole
MOST_CONNECTIONS = 1000


def run(asked: ServeOptions, key: str | None, talk: Talk) -> None:
    """Serve until a signal comes; raises the error of an engine that failed."""
    checkpoint = open_asked(asked, talk)
    checkpoint.require_tokenizer()
    settings, notices = complete_settings(asked.settings, checkpoint)
    for notice in notices:
        talk.warn(notice)
    listener = listen(asked.host, asked.port)
    engine = start_engine(asked, checkpoint)
    hosts = {*LOOPBACK, asked.host, *(asked.allow_host or ())} if asked.is_local else None
    service = Service(
        name=asked.name or Path(asked.ckpt).name or str(checkpoint.folder),
        desk=Desk(checkpoint, settings, Prompting(asked.bos, asked.truncate)),
        engine=engine,
        access=Access(key, hosts, tuple(asked.cors or ())),
        limits=Limits(asked.max_waiting, asked.timeout),
        log=lambda line: tell(line, talk),
    )
    config = uvicorn.Config(
        build_app(service),
        http="h11",
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=int(asked.grace + CLOSING_S) + 1,
    )
    engine.thread.start()
    with stop_on_signals("requests may end, no more are taken") as stop:
        server = Server(config, engine, stop, asked.grace, address_of(listener), talk)
        asyncio.run(server.serve([listener]))
        engine.close()
        if engine.error is not None:
            raise engine.error
        stop.leave(f"stopped by a signal, after {plural(engine.counts.texts, 'text')}")


def start_engine(asked: ServeOptions, checkpoint: Checkpoint) -> Engine:
    """Load the weights, and return the engine that they are computed by."""
    device = choose_device(asked.device)
    weights = checkpoint.load(device, asked.dtype, asked.quantize)
    budgets = (asked.batch_tokens, asked.cache_tokens)
    sampler = TextSampler(checkpoint, replayed(weights, asked.graphs), device, *budgets)
    reader = reader_for(weights, checkpoint.mask_id, 0.0, device, asked.batch_tokens)
    return Engine(sampler, reader)


class Server(uvicorn.Server):
    """A server that ends in good order at a signal, and when its engine fails."""

    def __init__(
        self,
        config: uvicorn.Config,
        engine: Engine,
        stop: Stop,
        grace_s: float,
        address: str,
        talk: Talk,
    ) -> None:
        super().__init__(config)
        self.engine, self.stop, self.grace_s = engine, stop, grace_s
        self.address, self.talk = address, talk

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to whoever runs this."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say where."""
        await super().startup(sockets)
        print(f"{self.address}/v1", flush=True)
        self.talk.say(f"the page is at {self.address}/")

    async def on_tick(self, counter: int) -> bool:
        """Look, ten times a second, whether the end has come."""
        if self.stop.requested() and not self.engine.is_draining:
            self.engine.drain(self.grace_s)
        self.should_exit |= self.stop.requested() or self.engine.error is not None
        return await super().on_tick(counter)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket at an address, which takes no connection yet. Raises UsageError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError):
        raise UsageError(f"{host} is no address of this machine") from None
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        reason = (error.strerror or str(error)).lower()
        raise UsageError(
            f"port {port} of {host}: {reason}", "choose another --port; 0 takes any that is free"
        ) from None
    return listener


def address_of(listener: socket.socket) -> str:
    """Return where a socket listens, as a browser takes it."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def tell(line: Line, talk: Talk) -> None:
    """Say that a request was answered: how, and at what cost, never what it said."""
    if line.fault is not None:
        talk.warn(f"{line.path}: {type(line.fault).__name__}: {line.fault}", again=True)
    if line.path in ("/health", "/healthz", "/metrics") and line.status == 200:
        return
    told = f"{line.client} {line.path} {line.status} {line.seconds:.2f} s"
    if isinstance(line.job, TextJob):
        job = line.job
        told += f", {job.prompt_tokens:,} + {plural(job.new_tokens, 'token')} "
        told += f"in {plural(job.forwards, 'forward')}"
        told += ", dropped" * (not job.is_done) + ", timed out" * job.is_timed_out
    talk.say(told)
