"""How requests become tasks in the room that the context leaves."""

from types import SimpleNamespace

import pytest

from illada_core.errors import DataError
from illada_core.inference.canvas import Gap
from illada_core.inference.tasks import (
    Budget,
    continue_in,
    fit_prompt,
    gapped_task,
    infill_ids_task,
)

MASK = 5


def budget(new_tokens=10, grows=True, context=32, truncate=None):
    return Budget(new_tokens, grows, context, truncate)


def test_prompts_get_the_room_that_the_context_leaves():
    assert continue_in(range(20), budget()).gaps == (Gap(10, grows=True, may_end=True),)
    assert continue_in(range(30), budget()).gaps == (Gap(2, grows=True, may_end=True),)
    assert continue_in(range(31), budget()).gaps == (Gap(1, grows=True, may_end=True),)
    assert continue_in(range(22), budget(grows=False)).gaps == (Gap(10, may_end=True),)
    for length, grows in ((32, True), (23, False)):
        with pytest.raises(DataError, match=f"{length} tokens long"):
            continue_in(range(length), budget(grows=grows))


def test_a_canvas_without_room_for_a_prompt_is_refused():
    for truncate in (None, "left"):
        with pytest.raises(DataError, match="leaves no room for a prompt"):
            continue_in([7], budget(new_tokens=32, grows=False, truncate=truncate))


def test_truncation_keeps_the_end_of_a_prompt_and_room_for_what_is_wanted():
    task = continue_in(range(100), budget(truncate="left"))
    assert task.runs[0] == tuple(range(78, 100))
    assert task.gaps == (Gap(10, grows=True, may_end=True),)
    task = continue_in(range(100), budget(new_tokens=1000, truncate="left"))
    assert task.runs[0] == tuple(range(84, 100))
    assert task.gaps == (Gap(16, grows=True, may_end=True),)
    task = continue_in(range(100), budget(grows=False, truncate="left"))
    assert task.runs[0] == tuple(range(78, 100))
    assert continue_in(range(31), budget(truncate="left")).runs[0] == tuple(range(31))


def test_runs_of_the_mask_id_are_gaps():
    checkpoint = SimpleNamespace(mask_id=MASK, config=SimpleNamespace(vocab_size=50))
    task = infill_ids_task([MASK, 7, 8, MASK, MASK, 9, MASK], checkpoint, budget())
    assert task.runs == ((), (7, 8), (9,), ())
    assert task.gaps == (Gap(1), Gap(2), Gap(1))
    for wrong in ([7, 8], [7, MASK, 50]):
        with pytest.raises(DataError):
            infill_ids_task(wrong, checkpoint, budget())


def test_growing_gaps_share_what_the_context_leaves():
    runs = [[7] * 10, [8] * 6, [9] * 4]
    task = gapped_task(runs, [Gap(100, grows=True), Gap(100, grows=True)], budget())
    assert task.gaps == (Gap(6, grows=True), Gap(6, grows=True))
    with pytest.raises(DataError, match="context is 32"):
        gapped_task(runs, [Gap(13), Gap(10, grows=True)], budget())


def test_prompts_are_cut_from_the_left_only_on_request():
    assert fit_prompt([1, 2, 3], 3, None, 4) == [1, 2, 3]
    assert fit_prompt([1, 2, 3], 2, "left", 4) == [2, 3]
    with pytest.raises(DataError, match="3 tokens long, and the context of 4"):
        fit_prompt([1, 2, 3], 2, None, 4)


def test_a_prompt_without_any_room_is_cut_to_nothing():
    assert fit_prompt([1, 2, 3], 0, "left", 4) == []
