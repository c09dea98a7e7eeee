"""A process that renders the chat templates of strangers, which may ask for all there is.

`TemplateChild` is this side of it, `serve` the other; plain templates need neither. A template that
runs for ever, or into the limit of memory, takes the child with it and nothing else. One line of
JSON goes in for each text that comes out. Here and there the text is the same: all is JSON.
"""

from __future__ import annotations

import atexit
import json
import os
import resource
import signal
import subprocess
import sys
from contextlib import suppress
from datetime import datetime
from functools import partial
from threading import Lock
from typing import Any

from illada_core.decoding import decode_record
from illada_core.errors import DataError
from illada_core.text.template_environment import TemplateError, compile_template, render_plain

MOST_SECONDS = 5  # of the processor, for one text
MOST_MEMORY = 1 << 30
MOST_CHARACTERS = 64 << 20
START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from {} import serve; serve({})"


class DateAsked(Exception):
    """A template asks for the date, and there is none."""


def render(source: str, names: dict[str, Any], now: datetime | None) -> str:
    """Return the text of a template, in this process if it is plain, else in the child.

    `names` are its variables, plain JSON; `now` is the date it is told. Raises DataError where it
    fails or asks for too much, DateAsked where it asks for the date and is told none.
    """
    if source in CHILD.fatal:
        raise DataError(CHILD.fatal[source])
    try:
        text = render_plain(source, {"strftime_now": partial(tell_date, now), **names})
    except DateAsked:
        raise
    except Exception as error:
        raise DataError(f"the chat template fails: {fault_of(error)}") from error
    return CHILD.render(source, names, now) if text is None else text


class TemplateChild:
    """The child of this process; it is started with the first text. Threads may share it."""

    def __init__(self, seconds: int = MOST_SECONDS) -> None:
        self.seconds = seconds
        self.lock = Lock()
        self.process: subprocess.Popen[bytes] | None = None
        self.owner = 0
        self.known: dict[str, int] = {}
        self.fatal: dict[str, str] = {}

    def render(self, source: str, names: dict[str, Any], now: datetime | None) -> str:
        """Return the text of a template, as `render` does."""
        with self.lock:
            if source in self.fatal:
                raise DataError(self.fatal[source])
            if self.process is None or self.owner != os.getpid():
                self.start()
            asked: dict[str, Any] = {"names": names, "now": now and now.isoformat()}
            if source not in self.known:
                self.known[source] = len(self.known)
                asked["source"] = source
            asked["template"] = self.known[source]
            answer = self.exchange(as_line(asked))
            if answer is None:
                self.fatal[source] = self.buried()
                raise DataError(self.fatal[source])
        if answer.get("asks_date"):
            raise DateAsked
        if "fault" in answer:
            raise DataError(f"the chat template fails: {answer['fault']}")
        return str(answer["text"])

    def start(self) -> None:
        """Start the child, which knows no template yet and reads nothing but what it is sent."""
        self.known = {}
        self.owner = os.getpid()
        self.process = subprocess.Popen(
            [sys.executable, "-c", START.format(__name__, self.seconds), json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for this process
        )
        atexit.register(self.stop)

    def exchange(self, line: bytes) -> dict[str, Any] | None:
        """Send a line and return what comes back, None if the child is no more."""
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(line)
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            return None
        except BaseException:  # Ctrl-C: the next text must not be taken for this one
            self.stop()
            raise
        if not answer.endswith(b"\n"):
            return None
        found: dict[str, Any] = decode_record(answer.decode())
        return found

    def buried(self) -> str:
        """Say why the child ended; the next text gets another one."""
        assert self.process is not None
        code = self.process.wait()
        self.stop()
        if code in (-signal.SIGXCPU, -signal.SIGKILL):
            return f"the chat template fails: it takes more than {self.seconds} s"
        return f"the chat template fails: it ended the process that renders it ({code})"

    def stop(self) -> None:
        """End the child, if it is this process that has it."""
        process, self.process = self.process, None
        if process is None or self.owner != os.getpid():
            return
        atexit.unregister(self.stop)
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):
                assert pipe is not None
                pipe.close()
        process.kill()
        process.wait()


CHILD = TemplateChild()


def as_line(value: Any) -> bytes:
    """Write a line of JSON. Raises DataError for a conversation that holds anything else."""
    try:
        return json.dumps(value).encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"a conversation is plain JSON, and this is none ({error})") from None


def serve(seconds: int) -> None:
    """Render what standard input asks for, until it ends; each text may take so many seconds."""
    limit(resource.RLIMIT_AS, MOST_MEMORY)
    limit(resource.RLIMIT_CORE, 0)
    sources: dict[int, str] = {}
    for line in sys.stdin.buffer:
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + seconds)
        asked = decode_record(line.decode())
        if "source" in asked:
            sources[asked["template"]] = asked["source"]
        answer = answer_to(sources[asked["template"]], asked["names"], asked["now"])
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()


def limit(kind: int, most: int) -> None:
    """Lower a limit of this process, as far as the system lets it."""
    _, hard = resource.getrlimit(kind)
    with suppress(ValueError, OSError):
        resource.setrlimit(kind, (most if hard < 0 else min(most, hard), hard))


def answer_to(source: str, names: dict[str, Any], now: str | None) -> dict[str, Any]:
    """Render one text."""
    told = partial(tell_date, datetime.fromisoformat(now) if now else None)
    try:
        text = compile_template(source).render({"strftime_now": told, **names})
    except DateAsked:
        return {"asks_date": True}
    except Exception as error:
        return {"fault": fault_of(error)}
    if len(text) > MOST_CHARACTERS:
        return {"fault": f"it writes {len(text):,} characters"}
    return {"text": text}


def tell_date(now: datetime | None, form: str) -> str:
    """Return the date in a form, as templates ask for it."""
    if now is None:
        raise DateAsked
    return now.strftime(form)


def fault_of(error: Exception) -> str:
    """Say why a template failed: it is foreign code, and whatever it raises is its failure."""
    if isinstance(error, MemoryError):
        return f"it needs more than {MOST_MEMORY >> 30} GiB"
    name = "" if isinstance(error, TemplateError) else f"{type(error).__name__}: "
    return " ".join(f"{name}{error}"[:400].split())
