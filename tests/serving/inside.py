"""A service in this process, around a model that a test can hold or break."""

import threading
from contextlib import contextmanager

import torch
from starlette.testclient import TestClient

from illada_core.evaluation.questions import Reader
from illada_core.inference.checkpoint import open_checkpoint
from illada_core.inference.requests import Prompting
from illada_core.inference.settings import Settings
from illada_core.inference.text_sampler import TextSampler, complete_settings
from illada_core.model.transformer import Transformer
from illada_core.serving.access import Access
from illada_core.serving.app import Limits, Service, build_app
from illada_core.serving.bodies import Desk
from illada_core.serving.engine import Engine


class Held:
    """A model whose every call waits for `allow`, and which fails where it is told to."""

    def __init__(self, vocab_size):
        self.vocab_size = vocab_size
        self.may_go = threading.Semaphore(0)
        self.calls, self.fails = 0, False
        self.order = 1  # the last position first; -1: the first

    def __call__(self, ids_T, ends, rows_M):
        self.may_go.acquire()
        self.calls += 1
        if self.fails:
            raise RuntimeError("the device is gone")
        logits_MV = torch.zeros(len(rows_M), self.vocab_size)
        logits_MV[:, 103] = 1.0 + rows_M / (1000 * self.order)  # the letter a
        return logits_MV

    def allow(self, calls=10**6):
        self.may_go.release(calls)


@contextmanager
def service_around(model, byte_model, log=lambda line: None):
    """Serve a model in this process; yield its client and its engine."""
    checkpoint = open_checkpoint(byte_model)
    settings, _ = complete_settings(Settings(block_length=8, max_new_tokens=8), checkpoint)
    ask = model.logits_at if isinstance(model, Transformer) else model
    engine = Engine(
        TextSampler(checkpoint, model, "cpu"),
        Reader(ask, checkpoint.mask_id, torch.device("cpu")),
    )
    desk = Desk(checkpoint, settings, Prompting())
    access = Access(hosts=None)
    service = Service("toy", desk, engine, access, Limits(), log)
    engine.thread.start()
    client = TestClient(build_app(service), raise_server_exceptions=False)
    try:
        yield client, engine
    finally:
        if isinstance(model, Held):
            model.allow()
        engine.close()


def asking(client, path, body):
    """Ask in a thread; return what gives the response."""
    found = []

    def ask():
        found.append(client.post(path, json=body))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()

    def response():
        thread.join(20)
        return found[0]

    return response
