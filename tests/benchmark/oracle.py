"""Models that know the answers, or nothing at all, in place of a transformer."""

import zlib
from types import SimpleNamespace

import torch

from illada_core.benchmark.answering import Engine
from illada_core.benchmark.answers import open_answers
from illada_core.benchmark.child import run_programs
from illada_core.benchmark.exam import Exam
from illada_core.benchmark.examination import ask_all, for_checkpoint, keys_of, write_results
from illada_core.benchmark.results import Result
from illada_core.benchmark.shots import example_pool, pool_of
from illada_core.inference.checkpoint import open_checkpoint

VOCABULARY = 320
FACTS = {"model_args": {}, "model_name": "oracle", "limit": None, "ours": {}}


class Oracle:
    """Logits that put the known continuation of a prompt behind it, and say nothing of others."""

    config = SimpleNamespace(vocab_size=VOCABULARY)
    compute_dtype = torch.float32

    def __init__(self, known):
        self.known = {tuple(prompt): tuple(ids) for prompt, ids in known}
        self.lengths = sorted({len(prompt) for prompt in self.known}, reverse=True)
        self.calls = 0

    def __call__(self, *asked):
        return self.logits_at(*asked)

    def logits_at(self, ids_T, segment_ends, rows_M):
        self.calls += 1
        ids, logits = ids_T.tolist(), torch.zeros(len(ids_T), VOCABULARY)
        start = 0
        for end in segment_ends:
            segment = tuple(ids[start:end])
            self.fill(segment, logits[start:end])
            start = end
        return logits[rows_M]

    def fill(self, segment, logits):
        found = next((n for n in self.lengths if segment[:n] in self.known), None)
        if found is not None:
            for place, token in enumerate(self.known[segment[:found]], found):
                if place < len(segment):
                    logits[place, token] = 50.0


class Guesser(Oracle):
    """Logits that depend on nothing but a hash of the segment: one token is likelier."""

    def __init__(self):
        super().__init__([])

    def fill(self, segment, logits):
        generator = torch.Generator().manual_seed(zlib.crc32(repr(segment).encode()))
        logits.copy_(3 * torch.randn(logits.shape, generator=generator))


def engine_of(model, checkpoint, name="known"):
    """Return an engine around a model; those here have no weights to be named by."""
    engine = Engine(checkpoint, model, "cpu")
    engine.__dict__["weights"] = name
    return engine


def exam_of(benchmark, docs, **changes):
    """Return a benchmark on some objects as an exam."""
    from illada_core.benchmark.records import read_record

    records = tuple(read_record(at, doc, benchmark) for at, doc in enumerate(docs))
    pool = example_pool(benchmark) if benchmark.examples else pool_of(records)
    defaults = {"metric": benchmark.main_metric, "shots": benchmark.shots}
    return Exam(benchmark=benchmark, records=records, pool=pool, **{**defaults, **changes})


def examine(exams, model, folder, byte_model, name="known", run=run_programs):
    """Ask, grade and write; return the result."""
    checkpoint = open_checkpoint(byte_model)
    exams = [for_checkpoint(exam, checkpoint) for exam in exams]
    engine = engine_of(model, checkpoint, name)
    keys = keys_of(exams, engine)
    with open_answers(folder) as answers:
        for _ in ask_all(exams, keys, engine, answers, lambda: False):
            pass
        path = write_results(exams, keys, engine.weights, answers, folder, FACTS, run)
    return Result.read(path)
