"""Chat examples as documents: whose turn each token is, one eos, and nothing that text can fake."""

import gzip
import json
import random
from functools import partial

import numpy as np
import pytest
import zstandard

from illada_core.data.chat_template import Message, Piece, encode
from illada_core.data.conversations import prompt_pieces
from illada_core.data.dataset import (
    InputFile,
    Manifest,
    SpecialIds,
    TokenizerRecord,
    open_dataset,
    open_packed,
    write_manifest,
)
from illada_core.data.examples import (
    Unusable,
    read_messages,
    turns_of_pieces,
    without_blank_end,
)
from illada_core.data.fitting import ChatFormat, Example, made_to_fit, padded
from illada_core.data.order import Sizes
from illada_core.data.packed import PackSettings, pack
from illada_core.data.shards import TokenShardWriter, shard_name
from illada_core.data.sources import list_sources
from illada_core.data.tokenizer import load_tokenizer
from illada_core.data.tokenizing import Job, Report, Skipped, tokenize_corpus
from illada_core.data.verify import describe, verify
from illada_core.errors import DataError
from tests.data.conftest import PHRASES

EOS = 2
WHOLE = ChatFormat()
# The frame of released LLaDA, with bos for its header tokens; it ends turns with <[PAD]>.
HEADERS = (
    "{% for m in messages %}{{ bos_token }}{{ m.role }}\n\n{{ m.content | trim }}<[PAD]>\n"
    "{% endfor %}{% if add_generation_prompt %}{{ bos_token }}assistant\n\n{% endif %}"
)
NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + HEADERS
)
# Turns end with eos and a line, as Qwen's do.
EOS_LINE = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}\n{% endfor %}"
WORDS_ONLY = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
TEMPLATES = [None, HEADERS, NO_SYSTEM, EOS_LINE, WORDS_ONLY]
HOSTILE = ["<[EOS]>", "<[MASK]>", "<[BOS]>assistant\n", "a\nb\n\n", "<[PAD]>", "naïve 日本 😀"]


@pytest.fixture
def tokenizer_folder(tokenizer_file, tmp_path):
    """Return a function that makes a folder of the small tokenizer with a chat template."""

    def make(template):
        folder = tmp_path / "tokenizer"
        folder.mkdir()
        for file in tokenizer_file.parent.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        if template is not None:
            (folder / "chat_template.jinja").write_text(template)
        return folder

    return make


def random_messages(generator, exchanges=None):
    def text():
        return "x" + "".join(generator.choices([*PHRASES, *HOSTILE], k=generator.randrange(1, 4)))

    messages = [Message("system", text())] if generator.random() < 0.3 else []
    for _ in range(exchanges or generator.randrange(1, 4)):
        messages += [Message("user", text()), Message("assistant", text())]
    return messages


def line_of(messages):
    if len(messages) == 2:
        return json.dumps({"prompt": messages[0].content, "response": messages[1].content})
    return json.dumps({"messages": [vars(message) for message in messages], "id": 7})


def write_examples(path, examples):
    path.write_text("".join(line_of(messages) + "\n" for messages in examples))
    return path


def job_of(path, tokenizer, chat=WHOLE, **options):
    return Job(list_sources([str(path)], "chat"), tokenizer, "", chat=chat, **options)


def run(job, folder, on_error="stop", workers=2):
    events = list(tokenize_corpus(job, folder, workers, on_error))
    assert isinstance(events[-1], Report)
    return open_dataset(folder), events[-1]


def documents_of(dataset):
    """Return (ids, turns) of every document, turns as the index tells them."""
    found = []
    for shard, index in enumerate(dataset.indexes()):
        turns = np.repeat(index.span_turns, np.diff(index.span_ends, prepend=0))
        start, begin = int(dataset.token_starts[shard]), 0
        for end in index.document_ends.tolist():
            ids = dataset.read(start + begin, start + end).tolist()
            found.append((ids, turns[begin:end].tolist()))
            begin = end
    return found


def files_of(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def examples():
    generator = random.Random(0)
    return [random_messages(generator) for _ in range(60)]


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_packed_prompt_is_what_the_model_is_asked(examples, tokenizer_folder, tmp_path, template):
    tokenizer = load_tokenizer(tokenizer_folder(template))
    path = write_examples(tmp_path / "pairs.jsonl", examples)
    dataset, _ = run(job_of(path, tokenizer), tmp_path / "tokens")
    for messages, (ids, turns) in zip(examples, documents_of(dataset), strict=True):
        responses = [place for place, m in enumerate(messages) if m.role == "assistant"]
        assert sorted(set(turns)) == [0, *range(1, len(responses) + 1)]
        for turn, place in enumerate(responses, 1):
            asked = encode(prompt_pieces(tokenizer, messages[:place]), tokenizer.encode)
            first = turns.index(turn)
            if template in (EOS_LINE, WORDS_ONLY):  # they do not say that the assistant is next
                asked += tokenizer.encode("assistant: ")
                joined = tokenizer.decode(ids[:first], keep_special=True)
                assert joined == tokenizer.decode(asked, keep_special=True)
            else:
                assert ids[:first] == asked


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
            is_last = turn == len(texts)
            end = {None: [EOS], EOS_LINE: [EOS], WORDS_ONLY: [EOS] if is_last else []}.get(
                template, [pad, EOS] if is_last else [pad]
            )
            said = [number for number, owner in zip(ids, turns, strict=True) if owner == turn]
            if template == WORDS_ONLY and not is_last:
                assert said == tokenizer.encode(shown)
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


def test_frame_between_a_response_and_its_end_belongs_to_it_but_never_bos():
    messages = [Message("user", "q"), Message("assistant", "a")] * 2
    ended = [
        *(Piece("q", turn=0), Piece("A:"), Piece("a", turn=1), Piece("\n"), Piece("<end>", 9)),
        *(Piece("\n"), Piece("q", turn=2), Piece("A:"), Piece("a", turn=3), Piece("."), Piece(" ")),
    ]
    assert turns_of_pieces(without_blank_end(ended), messages, 0) == [0, 0, 1, 1, 1, 0, 0, 0, 2, 2]
    opened = [
        *(
            Piece("q", turn=0),
            Piece("a", turn=1),
            Piece("\n"),
            Piece("<bos>", 0),
            Piece("q", turn=2),
        ),
        Piece("a", turn=3),
    ]
    assert turns_of_pieces(opened, messages, 0) == [0, 1, 0, 0, 0, 2]


def test_an_earlier_response_that_a_template_takes_apart_is_prompt(tokenizer_folder, tmp_path):
    template = (
        "{% for m in messages %}{{ bos_token }}{{ m.role }}\n{% if m.role == 'assistant' and not"
        " loop.last %}{{ m.content.split('</think>')[-1] }}{% else %}{{ m.content }}{% endif %}"
        "<[PAD]>{% endfor %}"
    )
    tokenizer = load_tokenizer(tokenizer_folder(template))
    messages = [Message("user", "q"), Message("assistant", "why</think>yes")] * 2
    path = write_examples(tmp_path / "pairs.jsonl", [messages])
    dataset, _ = run(job_of(path, tokenizer), tmp_path / "tokens")
    ((ids, turns),) = documents_of(dataset)
    said = [number for number, turn in zip(ids, turns, strict=True) if turn]
    assert said == [*tokenizer.encode("why</think>yes"), tokenizer.special.pad, EOS]
    assert set(turns) == {0, 1}


def test_the_date_never_enters_a_dataset(tokenizer_folder, tmp_path):
    template = "{{ strftime_now('%Y') if strftime_now is defined else 'no date' }}" + HEADERS
    tokenizer = load_tokenizer(tokenizer_folder(template))
    path = write_examples(
        tmp_path / "pairs.jsonl", [[Message("user", "q"), Message("assistant", "a")]]
    )
    dataset, _ = run(job_of(path, tokenizer), tmp_path / "tokens")
    ((ids, _),) = documents_of(dataset)
    assert tokenizer.decode(ids).startswith("no date")


def test_a_template_that_cannot_do_without_the_date_is_unfit(tokenizer_folder, tmp_path):
    tokenizer = load_tokenizer(tokenizer_folder("{{ strftime_now('%Y') }}" + HEADERS))
    path = write_examples(
        tmp_path / "pairs.jsonl", [[Message("user", "q"), Message("assistant", "a")]]
    )
    with pytest.raises(DataError, match="'strftime_now' is undefined"):
        run(job_of(path, tokenizer), tmp_path / "tokens")


def test_windows_lines_byte_order_marks_blank_lines_and_empty_prompts_are_fine(
    tokenizer_folder, tmp_path
):
    tokenizer = load_tokenizer(tokenizer_folder(HEADERS))
    pair, bare = '{"prompt": "q", "response": "a"}', '{"prompt": "", "response": "a"}'
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(f"\ufeff{pair}\r\n\r\n \n{bare}".encode())
    dataset, _ = run(job_of(path, tokenizer), tmp_path / "tokens")
    assert next(dataset.indexes()).document_records.tolist() == [0, 3]
    for (ids, turns), text in zip(documents_of(dataset), ("q", ""), strict=True):
        asked = encode(prompt_pieces(tokenizer, [Message("user", text)]), tokenizer.encode)
        assert ids == [*asked, *tokenizer.encode("a"), tokenizer.special.pad, EOS]
        assert turns == [0] * len(asked) + [1] * (len(ids) - len(asked))


BAD_LINES = {
    '{"prompt": "a", "response": ': ("broken JSON", "column"),
    "[1, 2]": ("no example", "not a JSON object"),
    '{"text": "a"}': ("no example", "neither messages nor prompt and response"),
    '{"prompt": "a"}': ("no example", "neither messages nor prompt and response"),
    '{"prompt": 1, "response": "a"}': ("no example", '"prompt" is not a string'),
    '{"prompt": "a", "response": " \\n"}': ("empty response", ""),
    '{"messages": []}': ("no example", "at least one message"),
    '{"messages": [{"role": "root", "content": ""}]}': ("no example", "'root'"),
    '{"prompt": "\\ud800", "response": "a"}': ("not UTF-8", "surrogate"),
}
BAD_ROLES = {
    ("user",): "the last message is not assistant",
    ("assistant",): "message 0 is assistant, not user",
    ("system",): "the last message is not assistant",
    ("user", "user", "assistant"): "message 1 is user, not assistant",
    ("user", "assistant", "system", "user", "assistant"): "message 2 is system, not user",
    ("system", "assistant"): "message 1 is assistant, not user",
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
    ):
        run(job, tmp_path / "tokens")
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
    assert read_messages(line) == [Message("user", "a"), Message("assistant", "b")]


def test_too_many_responses_for_the_format_are_refused(monkeypatch):
    monkeypatch.setattr("illada_core.data.examples.MOST_TURNS", 2)
    messages = [{"role": role, "content": "x"} for role in ("user", "assistant")] * 3
    with pytest.raises(Unusable, match="too many responses"):
        read_messages(json.dumps({"messages": messages}))


def slow_cut(tokens, longest):
    """Cut a list of (id, turn, asked): whole exchanges from the beginning, else less is asked."""
    stops = [
        place
        for place in range(1, len(tokens) + 1)
        if tokens[place - 1][1] and tokens[place - 1][1] not in [t for _, t, _ in tokens[place:]]
    ]
    beginnings = []
    for stop in stops:
        beginning = tokens[:stop]
        if beginning[-1][0] != EOS:
            beginning = [*beginning, (EOS, beginning[-1][1], False)]
        beginnings.append(beginning)
    fitting = [beginning for beginning in beginnings if len(beginning) <= longest]
    if fitting:
        return fitting[-1]
    first = beginnings[0]
    while len(first) > longest:
        asked = [place for place, token in enumerate(first) if token[2]]
        if len(asked) < 2:
            return None
        first = first[: asked[0]] + first[asked[0] + 1 :]
    return first


@pytest.mark.parametrize("seed", range(60))
def test_a_cut_keeps_whole_responses_their_end_and_the_frame(seed):
    generator = np.random.default_rng(seed)
    ends_with_eos = generator.random() < 0.5
    tokens = []
    for turn in range(1, int(generator.integers(1, 4)) + 1):
        ids = iter(generator.integers(10, 99, 99).tolist())
        tokens += [(next(ids), 0, bool(generator.random() < 0.7)) for _ in range(turn % 3 + 4)]
        tokens += [(next(ids), turn, False) for _ in range(int(generator.integers(1, 6)))]
        if ends_with_eos:
            tokens[-1] = (EOS, turn, False)
    if not ends_with_eos:
        tokens.append((EOS, turn, False))
    ids, turns, asked = (np.array(column) for column in zip(*tokens, strict=True))
    example = Example(ids.astype(np.uint32), turns.astype(np.uint16), asked)
    for longest in range(2, len(tokens)):
        got, expected = made_to_fit(example, longest, EOS), slow_cut(tokens, longest)
        found = got and [
            *zip(got.ids.tolist(), got.turns.tolist(), got.asked.tolist(), strict=True)
        ]
        assert found == expected


@pytest.mark.parametrize(("on_long", "kept"), [("drop", 1), ("cut", 2)])
def test_examples_longer_than_a_row_are_dropped_or_cut_and_counted(
    tokenizer_folder, tmp_path, on_long, kept
):
    tokenizer = load_tokenizer(tokenizer_folder(None))
    short, long_prompt, long_response = (
        [Message("user", "q" * asked), Message("assistant", "7" * said)]
        for asked, said in ((3, 3), (200, 3), (3, 200))
    )
    path = write_examples(tmp_path / "pairs.jsonl", [short, long_prompt, long_response])
    job = job_of(path, tokenizer, ChatFormat(60, on_long))
    dataset, report = run(job, tmp_path / "tokens")
    assert report.documents == kept
    assert report.cut == dataset.manifest.settings["cut_examples"] == (on_long == "cut")
    reason = "longer than a row" if on_long == "drop" else "response too long for a row"
    assert report.skipped == dataset.manifest.settings["left_out"] == {reason: 3 - kept}
    assert max(len(ids) for ids, _ in documents_of(dataset)) <= 60
    again, report = run(job, tmp_path / "tokens")
    assert (report.was_complete, report.cut) == (True, on_long == "cut")
    assert again.fingerprint == dataset.fingerprint


def test_padding_repeats_eos_as_part_of_the_last_response(examples, tokenizer_folder, tmp_path):
    tokenizer = load_tokenizer(tokenizer_folder(HEADERS))
    path = write_examples(tmp_path / "pairs.jsonl", examples)
    plain, _ = run(job_of(path, tokenizer), tmp_path / "tokens")
    wide, _ = run(job_of(path, tokenizer, ChatFormat(eos_padding=16)), tmp_path / "wide")
    for (ids, turns), (padded_ids, padded_turns) in zip(
        documents_of(plain), documents_of(wide), strict=True
    ):
        count = -len(ids) % 16
        assert padded_ids == ids + [EOS] * count
        assert padded_turns == turns + [turns[-1]] * count
    assert [step.problem for step in verify(wide) if step.problem] == []


def test_padding_ends_with_the_row():
    asked = np.array([True, False])
    example = Example(np.array([9, EOS], np.uint32), np.array([0, 1], np.uint16), asked)
    assert padded(example, EOS, ChatFormat(5, "drop", 8)).turns.tolist() == [0, 1, 1, 1, 1]
    assert len(padded(example, EOS, ChatFormat(None, None, 8)).ids) == 8
    assert len(padded(example, EOS, ChatFormat(None, None, 2)).ids) == 2


def test_compressed_files_hold_the_same_examples(examples, tokenizer_folder, tmp_path):
    tokenizer = load_tokenizer(tokenizer_folder(HEADERS))
    path = write_examples(tmp_path / "pairs.jsonl", examples)
    expected, _ = run(job_of(path, tokenizer), tmp_path / "tokens")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.compress(path.read_bytes()))
    for number, name in enumerate(("a.jsonl.gz", "a.jsonl.zst")):
        found, _ = run(job_of(tmp_path / name, tokenizer), tmp_path / f"tokens{number}")
        assert documents_of(found) == documents_of(expected)


@pytest.mark.parametrize("seed", range(4))
def test_a_run_stopped_anywhere_goes_on_as_if_never_stopped(
    tokenizer_folder, tmp_path, monkeypatch, seed
):
    monkeypatch.setattr("illada_core.data.reading.CHUNK_BYTES", 300)
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


STREAM = PackSettings(64, "stream", "row", shuffle=True, seed=1, holdout=0.2)
FIT = PackSettings(256, "fit", "document", shuffle=True, seed=1, holdout=0.2)


@pytest.mark.parametrize("settings", [STREAM, FIT], ids=["stream", "fit"])
def test_rows_keep_the_turn_of_every_token(tokenizer_folder, tmp_path, settings):
    generator = random.Random(3)
    tokenizer = load_tokenizer(tokenizer_folder(HEADERS))
    examples = [random_messages(generator) for _ in range(200)]
    path = write_examples(tmp_path / "pairs.jsonl", examples)
    longest = settings.sequence_length if settings.mode == "fit" else None
    chat = ChatFormat(longest, "drop" if longest else None)
    source, report = run(job_of(path, tokenizer, chat, shard_tokens=3000), tmp_path / "tokens")
    assert len(source.manifest.shards) > 3
    sizes = Sizes(block_tokens=700, window_tokens=4_000)
    list(pack(source, tmp_path / "packed", settings, sizes=sizes))
    records = [int(r) for index in source.indexes() for r in index.document_records]
    stored = dict(zip(records, documents_of(source), strict=True))
    seen = dict.fromkeys(records, 0)
    for part in open_packed(tmp_path / "packed"):
        assert part.has_turns
        assert [step.problem for step in verify(part) if step.problem] == []
        assert part.manifest.settings["left_out"] == report.skipped
        rows = [part.row(number) for number in range(part.rows)]
        ids = np.concatenate([row.ids for row in rows]).tolist()
        turns = np.concatenate([row.turns for row in rows]).tolist()
        assert all(len(row.ids) == len(row.turns) for row in rows)
        begin = 0
        for shard, index in enumerate(part.indexes()):
            base = int(part.token_starts[shard])
            ends = (index.document_ends + base).tolist()
            offsets = index.document_offsets.tolist()
            for end, record, offset in zip(ends, index.document_records, offsets, strict=True):
                whole_ids, whole_turns = stored[int(record)]
                piece = slice(offset, offset + end - begin)
                assert ids[begin:end] == whole_ids[piece]
                assert turns[begin:end] == whole_turns[piece]
                seen[int(record)] += end - begin
                begin = end
    assert seen == {record: len(ids) for record, (ids, _) in stored.items()}


def problems_of(folder, ids, document_lengths, span_lengths):
    """Write a chat dataset of one shard by hand and return the problems that verify finds."""
    folder.mkdir()
    ends, none = np.cumsum(document_lengths), np.zeros(len(document_lengths), np.int64)
    with TokenShardWriter(folder / shard_name(0, 300), 300, "job") as writer:
        writer.add_documents(np.array(ids, np.uint32), ends, none, none)
        if span_lengths:
            lengths = np.array(span_lengths)
            writer.add_spans(lengths, np.arange(len(lengths)) % 2)
        entry = writer.close()
    record = TokenizerRecord("hash", 300, SpecialIds(bos=0, pad=1, eos=EOS, mask=5))
    inputs = (InputFile("pairs.jsonl", 1, "hash"),)
    write_manifest(folder, Manifest("documents", record, inputs, {"chat": True}, (entry,)))
    return [step.problem for step in verify(open_dataset(folder)) if step.problem]


def test_verify_checks_spans_and_ends_and_allows_ends_within(tmp_path):
    sound = problems_of(tmp_path / "a", [9, EOS, 9, EOS, 9, EOS], [4, 2], [2, 2, 1, 1])
    assert sound == []
    (crossing,) = problems_of(tmp_path / "b", [9, EOS, 9, EOS, 9, EOS], [4, 2], [2, 3, 1])
    assert "a span that goes on after its document" in crossing
    (endless,) = problems_of(tmp_path / "c", [9, EOS, 9, 9, 9, EOS], [4, 2], [2, 2, 1, 1])
    assert "no eos at the end of a document, at token 3" in endless
    (lacking,) = problems_of(tmp_path / "d", [9, EOS], [2], [])
    assert "disagree" in lacking
    (short,) = problems_of(tmp_path / "e", [9, EOS], [2], [1])
    assert "its spans hold 1 tokens, not 2" in short


def test_statistics_tell_examples_responses_and_tokens_by_role(tokenizer_folder, tmp_path):
    generator = random.Random(3)
    tokenizer = load_tokenizer(tokenizer_folder(HEADERS))
    examples = [random_messages(generator) for _ in range(100)]
    path = write_examples(tmp_path / "pairs.jsonl", examples)
    source, _ = run(job_of(path, tokenizer), tmp_path / "tokens")
    list(pack(source, tmp_path / "packed", PackSettings(64, "stream", "row", True, 1, 0.0)))
    train, _ = open_packed(tmp_path / "packed")
    stored = documents_of(source)
    for facts in (describe(source), describe(train)):
        assert facts["examples"] == 100
        responses = [turns.count(t) for _, turns in stored for t in range(1, max(turns) + 1)]
        assert facts["responses"] == len(responses) == sum(len(m) // 2 for m in examples)
        assert facts["response_tokens"] == sum(responses)
        assert facts["prompt_tokens"] == sum(turns.count(0) for _, turns in stored)
        assert facts["response_length"]["max"] == max(responses)
        assert facts["response_length"]["mean"] == round(np.mean(responses), 2)
        assert facts["prompt_length"]["min"] == min(turns.count(0) for _, turns in stored)
        assert facts["example_length"]["max"] == max(len(ids) for ids, _ in stored)
        assert (facts["cut_examples"], facts["left_out"]) == (0, {})


def test_a_plain_dataset_has_no_statistics_of_turns(write_tokens):
    facts = describe(write_tokens([np.array([9, EOS], np.uint32)], 300))
    assert not {"examples", "responses", "left_out"} & facts.keys()
