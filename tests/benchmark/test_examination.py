"""Asked once, graded from what was kept: kills, ranks, repeats, shots and costs."""

import json
from dataclasses import replace

import pytest

from illada_core.benchmark.answers import open_answers
from illada_core.benchmark.cost import estimate
from illada_core.benchmark.definition import load_benchmark
from illada_core.benchmark.exam import asks_of
from illada_core.benchmark.examination import Share, ask_all, for_checkpoint, keys_of, missing
from illada_core.benchmark.rescoring import rescore
from illada_core.benchmark.results import read_results
from illada_core.benchmark.shots import choose_shots, pool_of
from illada_core.errors import CheckpointError, DataError, UsageError
from illada_core.evaluation.items import ScoringSettings
from illada_core.inference.checkpoint import open_checkpoint
from illada_core.inference.settings import Settings
from tests.benchmark.items import docs_for
from tests.benchmark.oracle import Guesser, Oracle, engine_of, exam_of, examine

SMALL = Settings(max_new_tokens=24, block_length=8)


def exams_of(count=12):
    """Return exams of both kinds."""
    names = {"arc_easy": {}, "piqa": {}, "gsm8k_chat": {"settings": SMALL, "samples": 2}}
    return [
        exam_of(load_benchmark(name), docs_for(name, count), **changes)
        for name, changes in names.items()
    ]


def run(folder, engine, exams, most=None, share=None):
    """Ask until `most` steps are done; return how many answers there are."""
    keys = keys_of(exams, engine)
    rank = share.rank if share else 0
    with open_answers(folder, rank) as answers:
        steps = 0

        def is_stopped():
            return most is not None and steps >= most

        for _ in ask_all(exams, keys, engine, answers, is_stopped, share or Share()):
            steps += 1
        return len(answers.places), len(missing(keys, answers))


def values_of(result):
    return {
        task: {m: v for m, v in table.items() if "," in m}
        for task, table in result.content["results"].items()
    }


@pytest.fixture
def ready(byte_model):
    """Exams for the byte model, and an engine that guesses."""
    checkpoint = open_checkpoint(byte_model)
    exams = [for_checkpoint(exam, checkpoint) for exam in exams_of()]
    return engine_of(Guesser(), checkpoint), exams


def test_a_run_that_was_killed_goes_on_without_asking_twice(ready, tmp_path, byte_model):
    engine, exams = ready
    (tmp_path / "killed").mkdir()
    (tmp_path / "whole").mkdir()
    known, open_keys = run(tmp_path / "killed", engine, exams, most=9)
    assert known
    assert open_keys
    answers = tmp_path / "killed" / "answers.jsonl"
    torn = answers.read_bytes() + b'{"key": "half'
    answers.write_bytes(torn)
    engine.model.calls = 0
    assert run(tmp_path / "killed", engine, exams) == (48, 0)
    rest = engine.model.calls
    engine.model.calls = 0
    assert run(tmp_path / "killed", engine, exams) == (48, 0)
    assert engine.model.calls == 0
    assert run(tmp_path / "whole", engine, exams) == (48, 0)
    assert rest < engine.model.calls
    found = [
        values_of(examine(exams, engine.model, tmp_path / name, byte_model))
        for name in ("killed", "whole")
    ]
    assert found[0] == found[1]
    lines = [json.loads(line) for line in answers.read_text().splitlines()]
    assert len({line["key"] for line in lines}) == len(lines) == 48


def test_ranks_change_nothing(ready, tmp_path, byte_model):
    engine, exams = ready
    for folder, world in (("one", 1), ("three", 3)):
        (tmp_path / folder).mkdir()
        for rank in range(world):
            # Each rank sees what the folder held when all of them began: nothing.
            held = tmp_path / folder / f"held-{rank}"
            held.mkdir()
            run(held, engine, exams, share=Share(rank, world))
            for path in held.glob("answers*"):
                path.rename(tmp_path / folder / path.name)
    assert len(list((tmp_path / "three").glob("answers*"))) == 3
    engine.model.calls = 0
    results = [
        examine(exams, engine.model, tmp_path / name, byte_model) for name in ("one", "three")
    ]
    assert engine.model.calls == 0
    assert values_of(results[0]) == values_of(results[1])
    assert results[0].path.name == results[1].path.name


def test_a_rank_that_begins_late_leaves_nothing_out(ready, tmp_path):
    """What the others have answered by then does not change which items are its own."""
    engine, exams = ready
    run(tmp_path, engine, exams, share=Share(0, 3))
    run(tmp_path, engine, exams, most=2, share=Share(2, 3))
    run(tmp_path, engine, exams, share=Share(1, 3))
    assert run(tmp_path, engine, exams, share=Share(2, 3))[1] == 0


class Overflowing(Guesser):
    """A guesser whose logits are no numbers where one item is asked."""

    def fill(self, segment, logits):
        super().fill(segment, logits)
        if b"number 7?" in bytes(token - 6 for token in segment if 6 <= token < 262):
            logits.fill_(float("nan"))


def test_numbers_that_are_none_stop_the_work_and_cost_no_other_item(ready, tmp_path):
    """They are told and never graded; what was answered before is kept, the rest is asked later."""
    engine, (exam, *_) = ready
    broken = replace(engine_of(Overflowing(), engine.checkpoint), batch_tokens=64)
    broken.__dict__["weights"] = engine.weights
    with pytest.raises(CheckpointError, match="not finite numbers"):
        run(tmp_path, broken, [exam])
    kept = len((tmp_path / "answers.jsonl").read_text().splitlines())
    assert run(tmp_path, engine, [exam]) == (12, 0)
    lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert 0 < kept < 12
    assert sorted(line["doc"] for line in lines) == list(range(12))


def test_other_weights_or_settings_are_asked_anew(ready, tmp_path):
    engine, exams = ready
    before = run(tmp_path, engine, exams)[0]
    other = engine_of(Guesser(), engine.checkpoint, "other weights")
    assert run(tmp_path, other, exams) == (2 * before, 0)
    ruled = [replace(exams[0], scoring=ScoringSettings(rule="one-shot", delimiter=" "))]
    assert run(tmp_path, other, ruled) == (2 * before + 12, 0)


def test_equal_asks_of_two_tasks_are_asked_once(ready, tmp_path):
    engine, exams = ready
    twin = replace(exams[0], benchmark=replace(exams[0].benchmark, name="twin"))
    assert run(tmp_path, engine, [exams[0], twin]) == (12, 0)


def test_a_file_that_holds_something_else_is_refused(ready, tmp_path):
    engine, exams = ready
    (tmp_path / "answers.jsonl").write_text('{"my": "notes"}\n')
    with pytest.raises(UsageError, match=r"line 1: not an answer"):
        run(tmp_path, engine, exams)


def test_items_that_do_not_fit_are_counted_before_any_work(ready):
    engine, _ = ready
    docs = docs_for("arc_easy", 4)
    docs[2]["question"] = "long " * 200
    exam = exam_of(load_benchmark("arc_easy"), docs)
    with pytest.raises(DataError, match=r"1 of 4 items cannot be asked; item 2: .*512"):
        keys_of([exam], engine)


def test_shots_depend_on_item_and_seed_alone():
    benchmark = load_benchmark("gsm8k")
    exam = exam_of(benchmark, docs_for("gsm8k", 40))
    pool = exam.pool
    drawn = {
        seed: [
            [shot.place for shot in choose_shots(r, pool, benchmark, 5, seed)] for r in exam.records
        ]
        for seed in (0, 1)
    }
    assert drawn[0] != drawn[1]
    assert len({tuple(each) for each in drawn[0]}) > 30
    for place, each in enumerate(drawn[0]):
        assert len(set(each)) == 5
        assert place not in each
    again = choose_shots(exam.records[7], pool, benchmark, 5, 0)
    assert [shot.place for shot in again] == drawn[0][7]


def test_the_first_shots_of_a_subject_are_its_own():
    benchmark = load_benchmark("mmlu")
    exam = exam_of(benchmark, docs_for("mmlu", 12))
    pool = pool_of(exam.records)
    shots = choose_shots(exam.records[4], pool, benchmark, 3, 0)
    assert [shot.place for shot in shots] == [0, 2, 6]
    with pytest.raises(UsageError, match=r"9 shots are asked for, and there are 5 of 'high school"):
        choose_shots(exam.records[4], pool, benchmark, 9, 0)


def test_saved_answers_are_graded_again(ready, tmp_path, byte_model):
    engine, exams = ready
    first = examine(exams, engine.model, tmp_path, byte_model)
    path = next(tmp_path.glob("samples_gsm8k_chat_*"))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert first.content["results"]["gsm8k_chat"]["exact_match,strict-match"] == 0
    for line in lines:
        line["resps"] = [[f"#### {line['target']}"] * 2]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (result,) = [rescore(each, None) for each in read_results(tmp_path)]
    assert result.content["results"]["gsm8k_chat"]["exact_match,strict-match"] == 1.0
    assert values_of(result)["arc_easy"] == values_of(first)["arc_easy"]
    assert result.content["task_hashes"] == first.content["task_hashes"]


WORDS = {"rule": "confidence", "delimiter": ""}  # of which no two begin with the same letter
COSTS = [
    ("arc_easy", {"scoring": ScoringSettings(**WORDS)}),
    ("arc_easy", {"scoring": ScoringSettings(**{**WORDS, "rule": "one-shot"})}),
    ("arc_easy", {"scoring": ScoringSettings(**WORDS, cfg=0.5)}),
    ("arc_easy", {"scoring": ScoringSettings(rule="likelihood", samples=4096, stop_gap=0.0)}),
    ("winogrande", {"scoring": ScoringSettings(**{**WORDS, "delimiter": " "})}),
    ("gsm8k_chat", {"settings": SMALL}),
    ("gsm8k_chat", {"settings": replace(SMALL, canvas="fixed", steps_per_block=3)}),
]


@pytest.mark.parametrize(("name", "changes"), COSTS)
def test_the_plan_counts_the_forwards_that_a_run_makes(name, changes, byte_model, tmp_path):
    """A model that says nothing reveals from left to right and never ends a text."""
    checkpoint = open_checkpoint(byte_model)
    exam = for_checkpoint(exam_of(load_benchmark(name), docs_for(name, 5), **changes), checkpoint)
    found = estimate(asks_of(exam, checkpoint), checkpoint.config)
    model = Oracle([])
    result = examine([exam], model, tmp_path, byte_model)
    if exam.scoring.rule == "likelihood":  # canvases that two choices share are computed once
        assert 0.9 * found.forwards < result.ours(name)["forwards"] <= found.forwards
    else:
        assert result.ours(name)["forwards"] == found.forwards
    assert found.token_forwards > found.forwards
    assert found.flops > 0
