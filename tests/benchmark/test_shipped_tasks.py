"""Each shipped task: a model that knows is always right, one that guesses is right by chance."""

from dataclasses import replace

import pytest

from illada_core.benchmark.definition import load_benchmark, packaged_benchmarks
from illada_core.benchmark.exam import asks_of
from illada_core.benchmark.examination import for_checkpoint
from illada_core.benchmark.suites import load_suite, packaged_suites
from illada_core.inference.checkpoint import open_checkpoint
from illada_core.inference.presets import load_preset
from illada_core.inference.settings import Settings
from tests.benchmark.items import docs_for, right_text
from tests.benchmark.oracle import Guesser, Oracle, exam_of, examine

TASKS = list(packaged_benchmarks())
SMALL = Settings(max_new_tokens=160, block_length=32, steps_per_block=1)
EOS = 2


@pytest.fixture(scope="module")
def wide_model(byte_model, tmp_path_factory):
    """The byte model with a context that eight shots fit."""
    import json
    import shutil

    folder = tmp_path_factory.mktemp("wide") / "model"
    shutil.copytree(byte_model, folder)
    config = json.loads((folder / "config.json").read_text())
    config["max_position_embeddings"] = 8192
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def exam_for(name, count):
    benchmark, docs = load_benchmark(name), docs_for(name, count)
    scoring = exam_of(benchmark, docs).scoring
    delimiter = "" if benchmark.chat else benchmark.delimiter
    return docs, exam_of(
        benchmark, docs, settings=SMALL, scoring=replace(scoring, delimiter=delimiter)
    )


def knowledge(exam, docs, checkpoint, is_wrong=False):
    """Return what follows each prompt: the right choice, or a text that says the answer."""
    tokenizer = checkpoint.require_tokenizer()
    for ask in asks_of(for_checkpoint(exam, checkpoint), checkpoint):
        if ask.choices is not None:
            item, answer = ask.choices.item, ask.record.request.answer
            answer = (answer + is_wrong) % len(item.choices)
            yield item.prompt_of(answer).tolist(), item.choices[answer].tolist()
        else:
            place = (ask.record.place + is_wrong) % len(docs)
            record = exam.records[place]
            if ask.record.request is not None:  # its neighbour may have the same letter
                letter = (ask.record.request.answer + is_wrong) % 4
                record = replace(record, answer="ABCD"[letter])
            text = right_text(exam.name, docs[place], record)
            yield ask.task.task.runs[0], [*tokenizer.encode(text), EOS]


@pytest.mark.parametrize("name", TASKS)
def test_a_model_that_knows_is_always_right_and_one_that_lies_never(name, wide_model, tmp_path):
    docs, exam = exam_for(name, 6)
    checkpoint = open_checkpoint(wide_model)
    shares = {}
    for is_wrong in (False, True):
        model = Oracle(knowledge(exam, docs, checkpoint, is_wrong))
        result = examine([exam], model, tmp_path, wide_model, name=str(is_wrong))
        table = result.content["results"][exam.name]
        shares[is_wrong] = {
            metric: value
            for metric, value in table.items()
            if "," in metric and "_stderr" not in metric
        }
    assert set(shares[False].values()) == {1.0}
    assert set(shares[True].values()) == {0.0}
    assert exam.metric in shares[False]


CHOICE_TASKS = {"arc_challenge": 4, "piqa": 2, "winogrande": 2, "hellaswag": 4, "mmlu": 4}


@pytest.mark.parametrize(("name", "choices"), CHOICE_TASKS.items())
def test_a_model_that_guesses_is_right_by_chance(name, choices, wide_model, tmp_path):
    _, exam = exam_for(name, 240)
    result = examine([replace(exam, shots=0)], Guesser(), tmp_path, wide_model)
    low, high = result.ours(name)["intervals"]["acc,none"]
    assert low < 1 / choices < high
    assert result.content["n-samples"][name]["effective"] == 240


@pytest.mark.parametrize("name", packaged_suites())
def test_a_preset_names_tasks_that_are_there_or_the_harness_has(name):
    suite = load_suite(name)
    for entry in suite.tasks:
        assert entry.task in TASKS or entry.harness
        assert all(0 < figure < 100 for figure in entry.published.values())
        if entry.task in TASKS:
            task = load_benchmark(entry.task)
            assert task.kind == "choices" or not entry.score
            filters = {each.partition(",")[2] for each in (entry.metric, task.main_metric) if each}
            assert filters <= {"none", *(task.filters or ())}
        preset = entry.generate
        Settings(**(load_preset(preset) if isinstance(preset, str) else preset))
