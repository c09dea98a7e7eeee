"""lm-evaluation-harness beside us: the same prompts, answers and values; and what it is refused."""

import json
import os

import pytest

pytest.importorskip("lm_eval")
os.environ["HF_HUB_OFFLINE"] = "1"

import lm_eval
from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from illada_core.benchmark.definition import load_benchmark, packaged_benchmarks
from illada_core.benchmark.harness import ChatPrompt, IlladaLM, settings_for
from illada_core.errors import UsageError
from illada_core.evaluation.items import ScoringSettings
from illada_core.inference.checkpoint import open_checkpoint
from illada_core.inference.settings import Settings
from tests.benchmark.items import docs_for
from tests.benchmark.oracle import FACTS, Guesser, engine_of, exam_of, examine

FILES = {
    "arc_easy": "arc/arc_easy.yaml",
    "arc_challenge": "arc/arc_challenge.yaml",
    "piqa": "piqa/piqa.yaml",
    "hellaswag": "hellaswag/hellaswag.yaml",
    "winogrande": "winogrande/default.yaml",
    "openbookqa": "openbookqa/openbookqa.yaml",
    "mmlu": "mmlu/default/mmlu_virology.yaml",
    "gsm8k": "gsm8k/gsm8k.yaml",
    "humaneval": "humaneval/humaneval.yaml",
}
BUDGET = {"max_new_tokens": 12, "block_length": 4}
BROKEN_OFFLINE = ("humaneval",)  # its module loads a metric from the hub when it is imported


def harness_task(name, docs, folder):
    """Return the harness's own task on our items, in place of those of the hub."""
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    place = os.path.join(os.path.dirname(lm_eval.__file__), "tasks", FILES[name])
    config = dict(load_yaml(place, resolve_func=True))
    config |= {"dataset_path": "json", "dataset_name": None, "num_fewshot": 0}
    config |= {"dataset_kwargs": {"data_files": {"test": str(path)}}, "test_split": "test"}
    config |= {"fewshot_split": None, "training_split": None, "validation_split": None}
    config.pop("tag", None)
    return {**config, "task": name}


def our_lm(byte_model, folder, how=None):
    """Return the adapter around a model that guesses, which our own tasks are given too."""
    from illada_core.benchmark.harness import how_of

    engine = engine_of(Guesser(), open_checkpoint(byte_model))
    found = how_of(how or {})
    return IlladaLM.around(engine, found, folder)


def by_harness(lm, tasks, **options):
    """Return the samples of tasks by the harness."""
    manager = TaskManager(include_defaults=False)
    found = lm_eval.simple_evaluate(
        model=lm, tasks=tasks, task_manager=manager, bootstrap_iters=0, **options
    )
    return found["samples"]


def test_each_task_that_names_a_harness_task_is_compared():
    named = {name for name in packaged_benchmarks() if load_benchmark(name).harness}
    assert named == set(FILES)


def test_prompts_answers_and_values_equal_the_harness(byte_model, tmp_path):
    names = [name for name in FILES if name not in BROKEN_OFFLINE]
    docs = {name: docs_for(name, 5) for name in names}
    docs["mmlu"] = [{**doc, "subject": "virology"} for doc in docs["mmlu"]]
    tasks = [harness_task(name, docs[name], tmp_path) for name in names]
    lm = our_lm(byte_model, tmp_path / "theirs", BUDGET)
    theirs = by_harness(lm, tasks)
    scoring = ScoringSettings(delimiter=" ")
    exams = [
        exam_of(
            load_benchmark(name), docs[name], shots=0, scoring=scoring, settings=Settings(**BUDGET)
        )
        for name in names
    ]
    (tmp_path / "ours").mkdir()
    result = examine(exams, Guesser(), tmp_path / "ours", byte_model)
    for name in names:
        ours = list(result.samples(name))
        expected = sorted(theirs[name], key=lambda sample: (sample["filter"], sample["doc_id"]))
        ours.sort(key=lambda sample: (sample["filter"], sample["doc_id"]))
        assert len(ours) == len(expected) >= 5
        for one, other in zip(ours, expected, strict=True):
            assert one["prompt_hash"] == other["prompt_hash"]
            sent = [part["arg_0"] for part in one["arguments"].values()]
            assert sent == [args[0] for args in other["arguments"]]
            metric = other["metrics"][0]
            assert one[metric] == other[metric]
            if name != "gsm8k":
                found = [list(each) for each in other["filtered_resps"]]
                assert one["filtered_resps"] == found


def test_shots_are_laid_out_as_the_harness_does(byte_model, tmp_path):
    docs = {name: docs_for(name, 4) for name in ("arc_easy", "winogrande", "mmlu")}
    docs["mmlu"] = [{**doc, "subject": "virology"} for doc in docs["mmlu"]]
    lm = our_lm(byte_model, None)
    for name, own in docs.items():
        task = {**harness_task(name, own, tmp_path), "num_fewshot": 2}
        pool = tmp_path / f"{name}-shots.jsonl"
        pool.write_text("".join(json.dumps(doc) + "\n" for doc in own[2:]))
        files = {"test": str(tmp_path / f"{name}.jsonl"), "train": str(pool)}
        task |= {"dataset_kwargs": {"data_files": files}, "fewshot_split": "train"}
        task |= {"fewshot_config": {"sampler": "first_n"}}
        (sample, *_) = by_harness(lm, [task], limit=1)[name]
        exam = exam_of(load_benchmark(name), own, shots=2)
        benchmark = exam.benchmark
        from illada_core.benchmark.prompts import choice_request

        request = choice_request(exam.records[0], exam.records[2:], benchmark)
        prompts = request.contexts or [request.prompt]
        assert [args[0] for args in sample["arguments"]][: len(prompts)] == list(prompts)


CHAT_TASK = {
    "task": "chat",
    "output_type": "generate_until",
    "doc_to_text": "{{question}} <|eot_id|>",
    "doc_to_target": "{{answer}}",
    "generation_kwargs": {"until": ["Q:"], "max_gen_toks": 8},
    "metric_list": [{"metric": "exact_match"}],
}


def test_a_chat_keeps_its_messages_and_a_begun_answer(byte_model, tmp_path):
    """What a question spells is no control token, though the harness hands on text."""
    doc = {"question": "Why?", "answer": "so"}
    path = tmp_path / "chat.jsonl"
    path.write_text(json.dumps(doc) + "\n")
    data = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(path)}}}
    lm = our_lm(byte_model, tmp_path / "kept", {"block_length": 4})
    begun = {**CHAT_TASK, "task": "begun", "gen_prefix": "So"}
    tasks = [{**each, **data, "test_split": "test"} for each in (CHAT_TASK, begun)]
    samples = by_harness(lm, tasks, apply_chat_template=True)
    checkpoint, tokenizer = lm.engine.checkpoint, lm.engine.checkpoint.require_tokenizer()
    plain = samples["chat"][0]["arguments"][0][0]
    other = samples["begun"][0]["arguments"][0][0]
    assert isinstance(plain, ChatPrompt)
    assert plain.dialogue.messages[0].content == "Why? <|eot_id|>"
    ids = checkpoint.encode_chat(plain.dialogue)
    header = checkpoint.encode_chat(
        lm.apply_chat_template([{"role": "user", "content": "x"}]).dialogue
    )
    mark = tokenizer.controls["<|eot_id|>"]
    assert ids.count(mark) == header.count(mark)
    assert lm.begun(other) == [*ids, *tokenizer.encode("So")]
    with pytest.raises(Exception, match="messages are lost"):
        lm.generate_until([instance("generate_until", ("text", {}))])


def instance(kind, arguments, doc_id=0, repeats=1, idx=0):
    return Instance(kind, {}, arguments, idx, metadata=("task", doc_id, repeats))


def test_order_and_padding_of_requests_change_nothing(byte_model, tmp_path):
    lm = our_lm(byte_model, None)
    requests = [
        instance("loglikelihood", (f"Q{doc}:", f" {word}"), doc, idx=at)
        for doc in range(3)
        for at, word in enumerate(("red", "green", "red"))
    ]
    sums = lm.loglikelihood(requests)
    assert [flag for _, flag in sums] == [False] * 9
    assert sums[0] == sums[2]
    turned = lm.loglikelihood([*reversed(requests), requests[0], requests[0]])
    assert turned == [*reversed(sums), sums[0], sums[0]]


def test_repeats_draw_numbers_of_their_own_and_are_kept(byte_model, tmp_path):
    lm = our_lm(byte_model, tmp_path, {**BUDGET, "temperature": 1.0})
    request = instance("generate_until", ("Once", {"until": []}), repeats=3)
    other = instance("generate_until", ("Twice", {"until": None}), doc_id=1)
    texts = lm.generate_until([request] * 3 + [other])
    assert len(set(texts)) == 4
    lm.engine.model.calls = 0
    assert lm.generate_until([request] * 3 + [other]) == texts
    assert lm.engine.model.calls == 0
    assert lm.costs["task"].texts == 8


def test_what_a_diffusion_model_has_not_is_refused(byte_model):
    lm = our_lm(byte_model, None)
    with pytest.raises(UsageError, match="rolling tasks have no answer"):
        lm.loglikelihood_rolling([instance("loglikelihood_rolling", ("text",))])
    lambada = [instance("loglikelihood", (f"A {doc}", " b"), doc) for doc in range(3)]
    with pytest.raises(UsageError, match="task asks whether one continuation is greedy"):
        lm.loglikelihood(lambada)
    with pytest.raises(UsageError, match="no argument tresholt"):
        IlladaLM(pretrained=str(byte_model), tresholt=0.9)


def test_arguments_are_settings_and_outrank_the_task(byte_model):
    text = f"pretrained={byte_model},max_new_tokens=6,block_length=2,rule=one-shot"
    lm = IlladaLM.create_from_arg_string(text, {"batch_size": 1, "device": "cuda:0"})
    how = lm.how
    assert how.scoring.rule == "one-shot"
    settings = settings_for(how, {"until": ["\n\n", ""], "max_gen_toks": 99, "temperature": 0.5})
    assert (settings.max_new_tokens, settings.stop, settings.temperature) == (6, ("\n\n",), 0.5)
    greedy = settings_for(how, {"until": "Q", "do_sample": False, "temperature": 0.5})
    assert (greedy.stop, greedy.temperature) == (("Q",), 0.0)
    assert len(lm.generate_until([instance("generate_until", ("Once", {"until": []}))])) == 1


def test_tasks_of_the_harness_become_results_beside_ours(byte_model, tmp_path):
    """Item by item they are those of our own task on the same items."""
    from illada_core.benchmark.harness import how_of
    from illada_core.benchmark.harness_tasks import HarnessExam
    from illada_core.benchmark.harness_tasks import examine as examine_task
    from illada_core.benchmark.report import compare, rows_of

    docs = docs_for("openbookqa", 8)
    files = {"test": str(tmp_path / "items.jsonl")}
    config = {**harness_task("openbookqa", docs, tmp_path), "dataset_kwargs": {"data_files": files}}
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    engine = engine_of(Guesser(), open_checkpoint(byte_model))
    for name, changes in (
        ("sound", {}),
        ("greedy", {"output_type": "loglikelihood", "doc_to_choice": None}),
        ("brier", {"metric_list": [{"metric": "brier_score"}]}),
    ):
        (tmp_path / f"{name}.yaml").write_text(json.dumps({**config, **changes}))
    lm = IlladaLM.around(engine, how_of({}), tmp_path / "theirs")

    def examine_file(name):
        exam = HarnessExam(name=str(tmp_path / f"{name}.yaml"), ours={"published": {"illada": 30}})
        return examine_task(exam, lm, tmp_path / "theirs", FACTS)

    theirs = examine_file("sound")
    (tmp_path / "ours").mkdir()
    benchmark = load_benchmark("openbookqa")
    exam = exam_of(benchmark, docs, scoring=ScoringSettings(delimiter=" "))
    ours = examine([exam], Guesser(), tmp_path / "ours", byte_model)
    (test,) = compare([ours], [theirs])
    assert (test.paired.count, test.alone, test.paired.won, test.paired.lost) == (8, 0, 0, 0)
    row, our_row = rows_of([theirs])[0], rows_of([ours])[0]
    assert (row.value, row.interval, row.forwards) == (
        our_row.value,
        our_row.interval,
        our_row.forwards,
    )
    assert row.published == 0.3
    assert ours.content["task_hashes"] == theirs.content["task_hashes"]
    with pytest.raises(UsageError, match="whether one continuation is greedy"):
        examine_file("greedy")
    with pytest.raises(UsageError, match="reads brier_score off the scores"):
        examine_file("brier")
    with pytest.raises(UsageError, match="there is no file"):
        examine_file("gone")
