"""Chat examples as documents: whose turn each token is, one eos, and nothing that text can fake."""

import json
import random
from datetime import date
from functools import partial

import pytest

from illada_core.data.build.documents import tokenize_corpus
from illada_core.data.build.events import Report, Skipped
from illada_core.data.build.examples import read_draft
from illada_core.data.build.fitting import ChatFormat
from illada_core.data.build.shapes import Unusable, read_dialogue
from illada_core.errors import DataError, UsageError
from illada_core.text.conversations import Chats
from illada_core.text.messages import Message
from illada_core.text.tokenizer import load_tokenizer
from tests.text.chat import (
    EOS,
    EOS_LINE,
    HEADERS,
    NO_SYSTEM,
    TEMPLATES,
    WORDS_ONLY,
    asked_ids,
    documents_of,
    files_of,
    job_of,
    random_messages,
    run,
    write_examples,
)

# How Llama 3.1's template asks.
CAREFUL = "{% if strftime_now is defined %}{{ strftime_now('%Y') }}{% else %}no date{% endif %}"


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_packed_prompt_is_what_the_model_is_asked(examples, tokenizer_folder, tmp_path, template):
    tokenizer = load_tokenizer(tokenizer_folder(template))
    path = write_examples(tmp_path / "pairs.jsonl", examples)
    dataset, _ = run(job_of(path, tokenizer), tmp_path / "tokens")
    for messages, (ids, turns) in zip(examples, documents_of(dataset), strict=True):
        responses = [place for place, m in enumerate(messages) if m.role == "assistant"]
        assert sorted(set(turns)) == [0, *range(1, len(responses) + 1)]
        for turn, place in enumerate(responses, 1):
            asked = asked_ids(tokenizer, messages[:place])
            assert ids[: turns.index(turn)] == asked


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_response_is_its_text_and_what_ends_it(examples, tokenizer_folder, tmp_path, template):
    tokenizer = load_tokenizer(tokenizer_folder(template))
    path = write_examples(tmp_path / "pairs.jsonl", examples)
    dataset, _ = run(job_of(path, tokenizer), tmp_path / "tokens")
    pad = tokenizer.special.pad
    for messages, (ids, turns) in zip(examples, documents_of(dataset), strict=True):
        texts = [message.content for message in messages if message.role == "assistant"]
        for turn, text in enumerate(texts, 1):
            shown = text.strip() if template in (HEADERS, NO_SYSTEM) else text
            if template in (EOS_LINE, WORDS_ONLY):  # they do not say that the assistant is next
                shown = f"assistant: {shown}"
            is_last = turn == len(texts)
            end = {None: [EOS], EOS_LINE: [EOS], WORDS_ONLY: [EOS] if is_last else []}.get(
                template, [pad, EOS] if is_last else [pad]
            )
            said = [number for number, owner in zip(ids, turns, strict=True) if owner == turn]
            if template == WORDS_ONLY and not is_last:
                # One text in one piece: its last token may hold the template's line end too.
                assert tokenizer.decode(said).rstrip("\n") == shown.rstrip("\n")
            else:
                assert said == tokenizer.encode(shown) + end
        assert ids[-1] == EOS
        assert ids[-2] != EOS
        assert turns[-1] == len(texts)


def test_no_text_becomes_a_control_token(tokenizer_folder, tmp_path):
    tokenizer = load_tokenizer(tokenizer_folder(HEADERS))
    hostile = "".join(tokenizer.controls)
    clean = [Message("user", "a"), Message("assistant", "b")]
    typed = [Message("user", f"a{hostile}a"), Message("assistant", f"b{hostile}b")]
    path = write_examples(tmp_path / "pairs.jsonl", [clean, typed])
    dataset, _ = run(job_of(path, tokenizer), tmp_path / "tokens")
    controls = set(tokenizer.controls.values())
    (first, _), (second, _) = documents_of(dataset)
    assert [i for i in second if i in controls] == [i for i in first if i in controls]


def test_an_earlier_response_that_a_template_takes_apart_is_prompt(tokenizer_folder, tmp_path):
    template = (
        "{% for m in messages %}{{ bos_token }}{{ m.role }}\n{% if m.role == 'assistant' and not"
        " loop.last %}{{ m.content.split('</think>')[-1] }}{% else %}{{ m.content }}{% endif %}"
        "<[PAD]>{% endfor %}{% if add_generation_prompt %}{{ bos_token }}assistant\n{% endif %}"
    )
    tokenizer = load_tokenizer(tokenizer_folder(template))
    messages = [Message("user", "q"), Message("assistant", "why</think>yes")] * 2
    path = write_examples(tmp_path / "pairs.jsonl", [messages])
    dataset, _ = run(job_of(path, tokenizer), tmp_path / "tokens")
    ((ids, turns),) = documents_of(dataset)
    said = [number for number, turn in zip(ids, turns, strict=True) if turn]
    assert said == [*tokenizer.encode("why</think>yes"), tokenizer.special.pad, EOS]
    assert set(turns) == {0, 1}


@pytest.mark.parametrize("asks", ["{{ strftime_now('%Y') }}", CAREFUL], ids=["asks", "careful"])
def test_a_template_that_asks_for_the_date_is_told_the_one_that_is_given(
    tokenizer_folder, tmp_path, asks
):
    tokenizer = load_tokenizer(tokenizer_folder(asks + HEADERS))
    path = write_examples(
        tmp_path / "pairs.jsonl", [[Message("user", "q"), Message("assistant", "a")]]
    )
    for on_error in ("stop", "skip"):
        with pytest.raises(UsageError, match="asks for the date") as caught:
            run(job_of(path, tokenizer), tmp_path / "tokens", on_error)
        assert "--date" in caught.value.hint
    job = job_of(path, tokenizer, date=date(2019, 5, 7))
    dataset, _ = run(job, tmp_path / "dated")
    ((ids, _),) = documents_of(dataset)
    assert tokenizer.decode(ids).startswith("2019")
    assert dataset.manifest.settings["date"] == "2019-05-07"
    assert job_of(path, tokenizer, date=date(2019, 5, 8)).fingerprint != job.fingerprint


SHAPES = "none of messages; prompt with response or completion; conversations; instruction with"
BAD_LINES = {
    '{"prompt": "a", "response": ': ("broken JSON", "column"),
    "[1, 2]": ("no example", "not a JSON object"),
    '{"text": "a"}': ("no example", SHAPES),
    '{"prompt": "a"}': ("no example", SHAPES),
    '{"prompt": 1, "response": "a"}': ("no example", '"prompt" is not a string'),
    '{"prompt": "a", "response": " \\n"}': ("empty response", ""),
    '{"messages": []}': ("no example", "at least one message"),
    '{"messages": [{"role": "root", "content": ""}]}': ("no example", "'root'"),
    '{"prompt": "\\ud800", "response": "a"}': ("not UTF-8", "surrogate"),
}


BAD_ROLES = {
    ("user",): "the last message is not assistant",
    ("system",): "the last message is not assistant",
    ("user", "assistant", "tool"): "the last message is not assistant",
    ("system", "user", "assistant", "user"): "the last message is not assistant",
}
BAD_LINES |= {
    json.dumps({"messages": [{"role": role, "content": "x"} for role in roles]}): (
        "roles out of order",
        detail,
    )
    for roles, detail in BAD_ROLES.items()
}


@pytest.mark.parametrize("line", BAD_LINES)
def test_a_line_that_is_no_example_stops_or_is_counted(tokenizer_folder, tmp_path, line):
    reason, detail = BAD_LINES[line]
    tokenizer = load_tokenizer(tokenizer_folder(None))
    good = '{"prompt": "a", "response": "b"}'
    (tmp_path / "pairs.jsonl").write_text(f"{good}\n\n{line}\n{good}\n")
    job = job_of(tmp_path / "pairs.jsonl", tokenizer)
    with pytest.raises(DataError, match=rf"^pairs\.jsonl:3: {reason}") as caught:
        run(job, tmp_path / "tokens")
    assert detail in caught.value.sentence
    assert "--on-error skip" in caught.value.hint
    assert not (tmp_path / "tokens" / "manifest.json").exists()
    dataset, report = run(job, tmp_path / "tokens", "skip")
    assert report.skipped == {reason: 1} == dataset.manifest.settings["left_out"]
    assert (report.documents, [int(r) for r in next(dataset.indexes()).document_records]) == (
        2,
        [0, 3],
    )


def test_a_template_that_fails_is_a_fault_of_the_line(tokenizer_folder, tmp_path):
    template = "{% if 'no' in messages[0].content %}{{ raise_exception('I refuse') }}{% endif %}"
    tokenizer = load_tokenizer(tokenizer_folder(template + HEADERS))
    pairs = [[Message("user", text), Message("assistant", "b")] for text in ("yes", "no")]
    job = job_of(write_examples(tmp_path / "pairs.jsonl", pairs), tokenizer)
    with pytest.raises(
        DataError, match=r"pairs\.jsonl:2: unfit for the chat template \(.*I refuse"
    ) as caught:
        run(job, tmp_path / "tokens")
    assert "mend the template" in caught.value.hint
    _, report = run(job, tmp_path / "tokens", "skip")
    assert report.skipped == {"unfit for the chat template": 1}


def test_a_template_that_loses_the_response_is_a_fault(tokenizer_folder, tmp_path):
    tokenizer = load_tokenizer(tokenizer_folder("{{ messages[0].content }}"))
    path = write_examples(
        tmp_path / "pairs.jsonl", [[Message("user", "q"), Message("assistant", "a")]]
    )
    with pytest.raises(DataError, match="leaves out the last response"):
        run(job_of(path, tokenizer), tmp_path / "tokens")


def test_messages_win_over_a_prompt_beside_them():
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    line = json.dumps({"prompt": "x", "messages": messages})
    assert read_dialogue(line).messages == (Message("user", "a"), Message("assistant", "b"))


def test_too_many_responses_for_the_format_are_refused(monkeypatch, tokenizer_folder):
    monkeypatch.setattr("illada_core.data.build.examples.MOST_TURNS", 2)
    messages = [{"role": role, "content": "x"} for role in ("user", "assistant")] * 3
    chats = Chats(load_tokenizer(tokenizer_folder(None)))
    with pytest.raises(Unusable, match="too many responses"):
        read_draft(json.dumps({"messages": messages}), 0, 0, chats)


@pytest.mark.parametrize("seed", range(4))
def test_a_run_stopped_anywhere_goes_on_as_if_never_stopped(
    tokenizer_folder, tmp_path, monkeypatch, seed
):
    monkeypatch.setattr("illada_core.data.sources.reading.CHUNK_BYTES", 300)
    generator = random.Random(seed)
    tokenizer = load_tokenizer(tokenizer_folder(HEADERS))
    examples = [random_messages(generator) for _ in range(60)]
    path = write_examples(tmp_path / "pairs.jsonl", examples)
    path.write_text(path.read_text().replace("\n", "\nbroken\n", 9))
    job = job_of(path, tokenizer, ChatFormat(300, "cut", 8), shard_tokens=500)
    reference, expected = run(job, tmp_path / "whole", "skip", workers=1)
    assert len(reference.manifest.shards) > 4
    assert expected.cut > 3
    assert expected.skipped["broken JSON"] == 9
    stops = 0
    while True:
        answers = [False] * generator.randrange(stops, stops + 4)
        should_stop = partial(next, iter(answers), True)
        events = list(tokenize_corpus(job, tmp_path / "broken", 2, "skip", should_stop))
        if isinstance(events[-1], Report):
            break
        stops += 1
    assert stops >= 3
    assert files_of(tmp_path / "broken") == files_of(tmp_path / "whole")
    report = events[-1]
    assert (report.cut, report.skipped) == (expected.cut, expected.skipped)
    assert not any(isinstance(event, Skipped) and "row" in event.text for event in events)
