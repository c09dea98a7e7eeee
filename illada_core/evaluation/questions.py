"""Ask a model many questions at once: packed by length, each distinct canvas computed once.

A question is a canvas, that is ids with masks among them, and some of its positions: how probable
is this token here? LogProbs do not depend on what else is asked, up to float ties. The model is a
callable `logits(ids_T, segment_ends, rows_M) -> logits_MV`, and no row that nobody reads reaches
its head.

Shapes: T packed tokens, M rows of logits, V vocabulary, L tokens of a canvas, R tokens asked for.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from illada_core.errors import CheckpointError
from illada_core.inference.checkpoint import batch_tokens_for
from illada_core.model.transfer import Fetched, sent
from illada_core.model.transformer import Transformer

LogitsAt = Callable[[Tensor, Sequence[int], Tensor], Tensor]

# Rows of the float32 softmax at a time: it bounds the copy that a half-precision model needs.
SOFTMAX_ROWS = 256
# What the logits of one call may take.
LOGITS_BYTES = {"cpu": 2**28, "cuda": 2**31}


@dataclass(frozen=True, eq=False)
class Question:
    """A canvas, and the tokens asked about at some of its positions; all arrays are int64.

    The first `context` tokens are the prompt, which the blind branch of guidance does not see.
    """

    canvas_L: np.ndarray
    context: int
    positions_R: np.ndarray
    targets_R: np.ndarray


@dataclass(frozen=True)
class Reader:
    """A model and how to ask it.

    A batch holds at most `budget_tokens` tokens and `budget_rows` rows of logits, or one question.
    With guidance w > 0 the logits are b + (w + 1)(s - b): s sees the context, b sees masks there.
    """

    logits: LogitsAt
    mask_id: int
    device: torch.device
    guidance: float = 0.0
    budget_tokens: int = 4096
    budget_rows: int = 1024

    def canvases(self, question: Question) -> list[np.ndarray]:
        """Return what the model has to see: the canvas and, with guidance, its blind twin."""
        if not self.guidance:
            return [question.canvas_L]
        blind_L = question.canvas_L.copy()
        blind_L[: question.context] = self.mask_id
        return [question.canvas_L, blind_L]

    def forwards(self, questions: Sequence[Question]) -> int:
        """Count the distinct canvases that the model has to see to answer questions."""
        return len({c.tobytes() for question in questions for c in self.canvases(question)})


@dataclass(frozen=True)
class LogProbs:
    """What one batch told: log-probabilities [R] by place of the question, and the batch's size."""

    by_place: dict[int, np.ndarray]
    forwards: int
    tokens: int


class CanvasBatch:
    """Distinct canvases laid end to end, and the questions they answer."""

    def __init__(self) -> None:
        self.starts: dict[bytes, int] = {}
        self.canvases: list[np.ndarray] = []
        self.tokens = 0
        self.places: list[int] = []
        self.questions: list[Question] = []
        self.rows_by_question: list[list[np.ndarray]] = []
        self.rows = 0

    def add(self, place: int, question: Question, canvases: list[np.ndarray]) -> None:
        rows = []
        for canvas_L in canvases:
            key = canvas_L.tobytes()
            if key not in self.starts:
                self.starts[key] = self.tokens
                self.canvases.append(canvas_L)
                self.tokens += len(canvas_L)
            rows.append(self.starts[key] + question.positions_R)
        self.places.append(place)
        self.questions.append(question)
        self.rows_by_question.append(rows)
        self.rows += len(question.positions_R) * len(canvases)

    def has_room(self, question: Question, canvases: list[np.ndarray], reader: Reader) -> bool:
        """Tell whether a question may join: its canvases are here, or the budgets allow it."""
        tokens = sum(
            len(canvas_L) for canvas_L in canvases if canvas_L.tobytes() not in self.starts
        )
        rows = len(question.positions_R) * len(canvases)
        return not tokens or (
            self.tokens + tokens <= reader.budget_tokens and self.rows + rows <= reader.budget_rows
        )


def reader_for(
    model: Transformer, mask_id: int, guidance: float, device: str, batch_tokens: int | None
) -> Reader:
    """Return what asks a model, within what its device can hold."""
    row_bytes = model.config.vocab_size * model.compute_dtype.itemsize
    logits_bytes = LOGITS_BYTES.get(torch.device(device).type, LOGITS_BYTES["cuda"])
    return Reader(
        logits=model.logits_at,
        mask_id=mask_id,
        device=torch.device(device),
        guidance=guidance,
        budget_tokens=batch_tokens or batch_tokens_for(device),
        budget_rows=max(1, logits_bytes // row_bytes),
    )


def read(questions: Sequence[Question], reader: Reader) -> Iterator[LogProbs]:
    """Answer questions batch by batch, under the reader's budgets.

    A batch is launched before the one ahead of it is brought back, so a device never waits.
    """
    ahead: tuple[CanvasBatch, Fetched] | None = None
    for batch in batches(questions, reader):
        launched = batch, launch(batch, reader)
        if ahead:
            yield collect(*ahead)
        ahead = launched
    if ahead:
        yield collect(*ahead)


def batches(questions: Sequence[Question], reader: Reader) -> Iterator[CanvasBatch]:
    """Pack questions, equal canvases and equal lengths side by side."""

    def by_length(place: int) -> tuple[int, bytes]:
        return len(questions[place].canvas_L), questions[place].canvas_L.tobytes()

    batch = CanvasBatch()
    for place in sorted(range(len(questions)), key=by_length):
        canvases = reader.canvases(questions[place])
        if batch.places and not batch.has_room(questions[place], canvases, reader):
            yield batch
            batch = CanvasBatch()
        batch.add(place, questions[place], canvases)
    if batch.places:
        yield batch


@torch.no_grad()
def launch(batch: CanvasBatch, reader: Reader) -> Fetched:
    """Start the forward of one batch; return its log-probabilities, question after question."""

    def on_device(array: np.ndarray) -> Tensor:
        return sent(torch.from_numpy(array), reader.device)

    rows_R, *blind_R = (np.concatenate(rows) for rows in zip(*batch.rows_by_question, strict=True))
    rows_M, first_M, where_R = np.unique(rows_R, return_index=True, return_inverse=True)
    if blind_R:
        rows_M = np.concatenate((rows_M, blind_R[0][first_M]))
    logits_MV = reader.logits(
        on_device(np.concatenate(batch.canvases)),
        tuple(accumulate(len(canvas_L) for canvas_L in batch.canvases)),
        on_device(rows_M),
    )
    if blind_R:
        seeing_MV, blind_MV = logits_MV.chunk(2)
        logits_MV = blind_MV + (reader.guidance + 1) * (seeing_MV - blind_MV)
    normalizer_M = torch.cat(
        [chunk.float().logsumexp(-1) for chunk in logits_MV.split(SOFTMAX_ROWS)]
    )
    places_R = on_device(where_R)
    targets_R = on_device(np.concatenate([question.targets_R for question in batch.questions]))
    log_probs_R = logits_MV[places_R, targets_R].float() - normalizer_M[places_R]
    return Fetched.of(log_probs_R.double())


def collect(batch: CanvasBatch, fetched_R: Fetched) -> LogProbs:
    """Bring the log-probabilities of one batch back and hand them to its questions.

    Raises CheckpointError where some are no finite numbers: they would still have a largest one.
    """
    found_R = fetched_R.read().numpy()
    if not np.isfinite(found_R).all():
        raise CheckpointError(
            "the model gives log-probabilities that are not finite numbers",
            "float16 may overflow: try --dtype bfloat16 or float32",
        )
    ends = np.cumsum([len(question.positions_R) for question in batch.questions])
    pieces = np.split(found_R, ends[:-1])
    return LogProbs(dict(zip(batch.places, pieces, strict=True)), len(batch.canvases), batch.tokens)
