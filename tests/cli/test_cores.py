"""Threads that wait spin for a bounded time, and hardly while cores are short."""

import os

import pytest

from illada_cli import cores


class Team:
    """Writes down when it begins and ends."""

    def __init__(self):
        STORY.append("begins")

    def end(self):
        STORY.append("ends")


STORY = []


def watched(monkeypatch, queued):
    """Return what a watch does as it reads these seconds, a quarter of a second apart."""
    STORY.clear()
    readings, moments = iter([*queued, None]), iter(range(1000))
    monkeypatch.setattr(cores, "queued_seconds", lambda: next(readings))
    monkeypatch.setattr(cores.time, "monotonic", lambda: next(moments) * cores.EVERY_S)
    monkeypatch.setattr(cores.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(cores, "IdleTeam", Team)
    cores.watch()
    return STORY


def test_a_team_is_held_while_threads_queue_and_until_it_was_calm_for_a_while(monkeypatch):
    still, crowded = [5.0] * 20, [5 + 0.1 * step for step in range(8)]
    assert watched(monkeypatch, still) == []
    assert watched(monkeypatch, [*still, *crowded]) == ["begins"]
    assert watched(monkeypatch, [*crowded, *[crowded[-1]] * (cores.CALM_TIMES - 1)]) == ["begins"]
    calm = [crowded[-1]] * cores.CALM_TIMES
    again = [calm[-1] + 0.1 * step for step in range(1, 4)]
    assert watched(monkeypatch, [*crowded, *calm]) == ["begins", "ends"]
    assert watched(monkeypatch, [*crowded, *calm, *again]) == ["begins", "ends", "begins"]


@pytest.mark.parametrize("name", cores.ASKED)
def test_what_a_person_said_stands(monkeypatch, name):
    for each in cores.ASKED:
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv(name, "7")
    monkeypatch.setattr(cores.threading, "Thread", None)
    cores.share_cores()
    assert [os.environ.get(each) for each in cores.ASKED if each != name] == [None, None]
    assert os.environ[name] == "7"


@pytest.mark.skipif(not cores.TASKS.exists(), reason="nothing tells of queues here")
def test_the_kernel_tells_how_long_threads_queued():
    assert 0 <= cores.queued_seconds() <= cores.queued_seconds() + 1
