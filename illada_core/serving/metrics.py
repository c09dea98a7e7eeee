"""What the server did, in the text format of Prometheus."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

from illada_core.serving.engine import Engine

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Requests by path and status, beside what the engine counts."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.started = time.monotonic()
        self.requests: Counter[tuple[str, int]] = Counter()

    def count(self, path: str, status: int) -> None:
        """Note that a request was answered."""
        self.requests[path, status] += 1

    def text(self) -> str:
        """Return all metrics."""
        return "\n".join(self.lines()) + "\n"

    def lines(self) -> Iterator[str]:
        engine, counts = self.engine, self.engine.counts
        yield "# TYPE illada_requests_total counter"
        for (path, status), number in sorted(self.requests.items()):
            yield f'illada_requests_total{{path="{path}",status="{status}"}} {number}'
        for name, kind, value in (
            ("texts_total", "counter", counts.texts),
            ("verdicts_total", "counter", counts.verdicts),
            ("new_tokens_total", "counter", counts.new_tokens),
            ("forwards_total", "counter", counts.forwards),
            ("model_calls_total", "counter", counts.calls),
            ("tokens_per_forward", "gauge", counts.new_tokens / max(1, counts.forwards)),
            ("busy_seconds_total", "counter", counts.busy_s),
            ("jobs_live", "gauge", engine.jobs_live),
            ("jobs_waiting", "gauge", engine.jobs_waiting),
            ("uptime_seconds", "gauge", time.monotonic() - self.started),
        ):
            yield f"# TYPE illada_{name} {kind}"
            yield f"illada_{name} {round(value, 6)}"
