"""The engine: one thread that owns the model, and all requests share its calls.

Jobs come in from an event loop and are told there how far they are. Nothing here knows HTTP.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue

from illada_core.errors import IlladaError
from illada_core.evaluation.questions import Reader
from illada_core.evaluation.scoring import score
from illada_core.inference.sampler import Commit
from illada_core.inference.text_sampler import Generation, TextSampler
from illada_core.serving.jobs import Choice, EngineError, Job, OverdueError, ScoreJob, TextJob

IDLE_S = 0.5  # between two looks at what is overdue, while nothing is to be computed


@dataclass
class Counts:
    """What was computed so far; `forwards` is the sum over texts, `calls` counts those they share.

    `busy_s` are the seconds in which the engine computed.
    """

    texts: int = 0
    verdicts: int = 0
    new_tokens: int = 0
    forwards: int = 0
    calls: int = 0
    busy_s: float = 0.0


class Engine:
    """Jobs through one model: first come, first served, many at once.

    `submit` and `drop` belong to the event loop; all else runs in the engine's own thread. When it
    fails it fails all jobs, says why in `error`, and takes no more.
    """

    def __init__(self, sampler: TextSampler, reader: Reader) -> None:
        self.sampler, self.reader = sampler, reader
        self.counts = Counts()
        self.orders: SimpleQueue[Job | None] = SimpleQueue()
        self.waiting: deque[TextJob] = deque()
        self.live: dict[int, tuple[TextJob, Choice]] = {}
        self.scoring: deque[ScoreJob] = deque()
        self.error: Exception | None = None
        self.cutoff = float("inf")
        self.is_closed = False
        self.thread = threading.Thread(target=self.run, name="engine", daemon=True)

    @property
    def jobs_waiting(self) -> int:
        """How many jobs have not begun."""
        return len(self.waiting) + self.orders.qsize()

    @property
    def jobs_live(self) -> int:
        """How many texts and items are in work."""
        return len(self.live) + len(self.scoring)

    @property
    def is_draining(self) -> bool:
        """Whether the engine only ends what it has."""
        return self.cutoff < float("inf")

    def submit(self, job: Job) -> None:
        """Take a job in; one that comes after the end fails."""
        self.orders.put(job)
        if self.is_closed:  # perhaps just now, and nobody may look again
            self.give_up()

    def drop(self, job: Job) -> None:
        """Let go of a job that nobody reads any more."""
        job.is_dropped = True
        if not job.is_done:
            self.orders.put(None)

    def drain(self, grace_s: float) -> None:
        """Go on with what there is for so long, then end it with what has settled."""
        self.cutoff = time.monotonic() + grace_s
        self.orders.put(None)

    def close(self) -> None:
        """End the thread after the step at hand."""
        self.is_closed = True
        self.orders.put(None)
        self.thread.join()

    def run(self) -> None:
        """Serve until closed or failed, which no job outlives; the body of the thread."""
        try:
            while not self.is_closed:
                self.take_orders()
                self.end_some()
                self.admit()
                self.write()
                self.judge()
        except Exception as error:
            self.error = error
        self.is_closed = True
        self.give_up()

    def take_orders(self) -> None:
        """Take in what has come; wait for it where there is nothing else to do."""
        is_busy = bool(self.live or self.scoring)
        try:
            order = self.orders.get(not is_busy, None if is_busy else IDLE_S)
            while True:
                if isinstance(order, TextJob):
                    self.waiting.append(order)
                elif isinstance(order, ScoreJob):
                    self.begin_scoring(order)
                order = self.orders.get_nowait()
        except Empty:
            return

    def begin_scoring(self, job: ScoreJob) -> None:
        """Take an item in: batches of its own, one between two steps of the texts."""
        reader = replace(self.reader, guidance=job.guidance)
        job.batches = score([job.item.item], job.rule, reader)
        self.scoring.append(job)

    def jobs(self) -> list[Job]:
        """Return all jobs, those in work first."""
        writing = [job for job, _ in self.live.values()]
        return [*dict.fromkeys([*writing, *self.waiting, *self.scoring])]

    def end_some(self) -> None:
        """End the jobs that nobody waits for any more, or whose time is over."""
        now = time.monotonic()
        for job in self.jobs():
            if job.is_dropped or job.is_done:
                self.remove(job)
            elif now >= min(job.deadline, self.cutoff):
                self.end_overdue(job)

    def remove(self, job: Job) -> None:
        """Let go of a job: what it wrote goes with it."""
        for index in [index for index, (owner, _) in self.live.items() if owner is job]:
            self.sampler.cancel(index)
            del self.live[index]
        if isinstance(job, TextJob) and job in self.waiting:
            self.waiting.remove(job)
        if isinstance(job, ScoreJob) and job in self.scoring:
            self.scoring.remove(job)

    def end_overdue(self, job: Job) -> None:
        """End a job with the text that has settled; without one, with an error."""
        job.is_timed_out = True
        if isinstance(job, TextJob) and not job.unstarted and is_continued(job):
            for index, (owner, choice) in list(self.live.items()):
                if owner is job:
                    self.take(job, choice, self.sampler.cancel(index))
                    del self.live[index]
            job.tell()
        else:
            self.remove(job)
            when = "as the server was stopped" if self.is_draining else "when its time was over"
            job.finish(OverdueError(f"the request was not finished {when}"))

    def admit(self) -> None:
        """Bring in texts while there is room, in the order of their jobs."""
        while self.waiting and self.sampler.has_room:
            job = self.waiting[0]
            choice = job.unstarted.popleft()
            try:
                index = self.sampler.add(choice.task, choice.sample)
            except IlladaError as error:
                self.remove(job)
                job.finish(error)
                continue
            self.live[index] = (job, choice)
            if not job.unstarted:
                self.waiting.popleft()

    def write(self) -> None:
        """Call the model once for the texts that fit."""
        if not self.live:
            return
        started, calls = time.perf_counter(), self.sampler.forwards
        touched: dict[TextJob, None] = {}
        for index, event in self.sampler.step():
            job, choice = self.live[index]
            self.take(job, choice, event)
            if choice.generation is not None:
                del self.live[index]
            touched[job] = None
        for job in touched:
            if job.is_streamed or job.is_done:
                job.tell()
        self.counts.calls += self.sampler.forwards - calls
        self.counts.busy_s += time.perf_counter() - started

    def take(self, job: TextJob, choice: Choice, event: Commit | Generation) -> None:
        """Give what a text got to its job, and count what is finished."""
        job.take(choice, event)
        if isinstance(event, Generation):
            self.counts.texts += 1
            self.counts.new_tokens += event.new_tokens
            self.counts.forwards += event.forwards

    def judge(self) -> None:
        """Answer one batch of questions of the item whose turn it is."""
        if not self.scoring:
            return
        started, job = time.perf_counter(), self.scoring.popleft()
        batch = next(job.batches)
        self.counts.calls += batch.forwards > 0
        if batch.scores:
            job.scores = batch.scores[0]
            self.counts.verdicts += 1
            job.finish()
        else:
            self.scoring.append(job)
        self.counts.busy_s += time.perf_counter() - started

    def give_up(self) -> None:
        """Fail all jobs that there are."""
        told = EngineError("the engine has ended, and the server with it")
        for job in self.jobs():
            job.finish(told)
        while not self.orders.empty():
            order = self.orders.get()
            if order is not None:
                order.finish(told)


def is_continued(job: TextJob) -> bool:
    """Tell whether what has settled of each text is a beginning of it."""
    tasks = [choice.task for choice in job.choices]
    return all(not task.around and len(task.task.gaps) == 1 for task in tasks)
