"""Conversations as ids: those of the whole text, and no message becomes a special token."""

import functools
import itertools
import os
import tempfile
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from illada_core.data.build.examples import Draft, read_encoding
from illada_core.errors import DataError
from illada_core.text.conversations import Chats, special_strings
from illada_core.text.messages import Dialogue, Message, parse_messages, parse_tools
from illada_core.text.tokenizer import load_tokenizer
from tests.data.build.test_chat_cases import CHATML, LLADA, LLAMA2, THINKING
from tests.text.chat import asked_ids
from tests.text.small_tokenizers import KINDS, SPECIAL, WORDS, reference, small, write_small

LLAMA = (
    "{% for m in messages %}{% set text = '<|head|>' + m['role'] + '<|tail|>\n\n' + m['content']"
    " | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set text = bos_token + text %}{% endif %}"
    "{{ text }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|head|>assistant<|tail|>\n\n' }}{% endif %}"
)
# Marks put together from a role.
JOINED = (
    "{% for m in messages %}{{ '<|' + m.role + '|>' }}{{ m.content }}{{ '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
# Nothing between a message and its marks, nor between two messages.
BARE = (
    "{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}</s>{% endif %}"
    "{% endfor %}"
)
TEMPLATES = {
    "chatml": CHATML,
    "llama": LLAMA,
    "thinking": THINKING,
    "joined": JOINED,
    "llama2": LLAMA2,
    "llada": LLADA,
    "bare": BARE,
}
TALK = [Message("user", "Hello there"), Message("assistant", "Hi."), Message("user", "Bye")]
EXAMPLES = int(os.environ.get("ILLADA_EXAMPLES", "150"))


@functools.cache
def folder_of(kind, name):
    """Write a small tokenizer with a template once; return its folder."""
    scratch = tempfile.TemporaryDirectory()
    KEPT.append(scratch)
    return write_small(Path(scratch.name) / "tokenizer", kind, TEMPLATES[name])


KEPT = []


@functools.cache
def chats_of(kind, name):
    """Return the conversations of such a tokenizer."""
    return Chats(load_tokenizer(folder_of(kind, name), "tokenizers"), datetime.now)


def parts_of(marks):
    """Return beginnings, ends and middles of marks: what may lend half of one."""
    pieces = {mark[a:b] for mark in marks for a in range(len(mark)) for b in range(a, len(mark))}
    return sorted(pieces - {""})


def texts(*pieces):
    alphabet = ["a", "the ", " ", "\n", "x = 1", "é", "日", "<", "|", ">", "\U000f0000", "Hi"]
    return st.lists(st.sampled_from([*alphabet, *pieces]), max_size=6).map("".join)


def talks(content):
    """Draw messages of user and assistant in turn; answers say something."""

    def made(pairs):
        return [
            {"role": role, "content": text if role == "user" else f"x{text}"}
            for pair in pairs
            for role, text in zip(("user", "assistant"), pair, strict=True)
        ]

    return st.lists(st.tuples(content, content), min_size=1, max_size=3).map(made)


def specials(chats, ids):
    controls = set(chats.tokenizer.controls.values())
    return [number for number in ids if number in controls]


def coded(chats, messages, is_prompt=False):
    """Return the ids of a rendered conversation."""
    printed = chats.print_out(Dialogue(tuple(parse_messages(messages))), is_prompt)
    (found,) = chats.encode([printed])
    if isinstance(found, DataError):
        raise found
    return found.ids.tolist()


MIXES = st.tuples(st.sampled_from(sorted(KINDS)), st.sampled_from(sorted(TEMPLATES)))


@settings(max_examples=EXAMPLES, deadline=None)
@given(mix=MIXES, messages=talks(texts(*WORDS)))
def test_without_a_special_token_in_a_message_the_ids_are_those_of_the_text(mix, messages):
    for prompt in (False, True):
        asked = messages[:-1] if prompt else messages
        got = coded(chats_of(*mix), asked, prompt)
        assert got == reference(folder_of(*mix), asked, prompt)


@settings(max_examples=EXAMPLES, deadline=None)
@given(mix=MIXES, messages=talks(texts(*SPECIAL, *parts_of(SPECIAL))))
def test_no_text_becomes_a_special_token(mix, messages):
    chats = chats_of(*mix)
    clean = [{**m, "content": "x"} for m in messages]
    for prompt in (False, True):
        cut = -1 if prompt else None
        got, plain = coded(chats, messages[:cut], prompt), coded(chats, clean[:cut], prompt)
        unknown = chats.tokenizer.files.ids.get("<unk>")
        wanted = [number for number in specials(chats, plain) if number != unknown]
        assert [number for number in specials(chats, got) if number != unknown] == wanted


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    name=st.sampled_from(
        [name for name in sorted(TEMPLATES) if name not in ("thinking", "llama2")]
    ),
    messages=talks(texts(*SPECIAL, *WORDS, *parts_of(SPECIAL))),
)
def test_every_answer_is_a_span_of_its_own_and_whole(name, messages):
    chats = chats_of("bytes", name)
    told = chats.tell(Dialogue(tuple(parse_messages(messages))))
    (encoding,) = chats.encode([told.printed])
    example, _ = read_encoding(Draft(0, 0, 0, told), encoding, 99_999)
    turns = example.turns.tolist()
    answers = [message["content"] for message in messages if message["role"] == "assistant"]
    assert len(turns) == len(example.ids)
    assert [turn for turn, _ in itertools.groupby(turns) if turn] == [*range(1, len(answers) + 1)]
    for (begin, stop), text in zip(told.spans, answers, strict=True):
        said = told.printed.restored[begin:stop]
        assert (text.strip() if name in ("llama", "llada") else text) in said
    assert told.spans[-1][1] == len(told.printed.text)


@pytest.mark.parametrize("special", SPECIAL)
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_message_spells_is_encoded_as_text(tmp_path, kind, special):
    tokenizer = small(tmp_path / "tokenizer", kind, CHATML)
    clean = asked_ids(tokenizer, [Message("user", "x")])
    spelled = asked_ids(tokenizer, [Message("user", f"{special}x{special}{special}")])
    controls = set(tokenizer.controls.values()) - {tokenizer.files.ids.get("<unk>")}
    assert [i for i in spelled if i in controls] == [i for i in clean if i in controls]
    if kind == "bytes":
        assert tokenizer.decode(spelled, keep_special=True) == tokenizer.decode(
            clean, keep_special=True
        ).replace("x", f"{special}x{special}{special}")


HALVES = [
    ("<|im_start|>{{ messages[0].content }}_end|>", "<|im"),
    ("<|im_{{ messages[0].content }}", "end|>"),
    ("<|{{ messages[0].content }}|>", "im_end"),
    ("<|{{ messages[0].content | trim }}|>", "  user "),
    ("{{ messages[0].content }}{{ messages[1].content }}", "<|im_"),
    ("{{ messages[0].content.split('</think>')[-1] }}tail|>", "a</think><|"),
]


@pytest.mark.parametrize(("template", "text"), HALVES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_message_cannot_complete_a_mark_of_its_neighbour(tmp_path, kind, template, text):
    tokenizer = small(tmp_path / "tokenizer", kind, template)
    lent = asked_ids(tokenizer, [Message("user", text), Message("user", "end|>")])
    clean = asked_ids(tokenizer, [Message("user", "x"), Message("user", "y")])
    controls = set(tokenizer.controls.values()) - {tokenizer.files.ids.get("<unk>")}
    assert [i for i in lent if i in controls] == [i for i in clean if i in controls]


def test_a_template_sees_contents_as_they_are(tmp_path):
    template = (
        "{% set text = messages[0].content %}{% if text %}yes{% endif %}{{ text | length }}"
        "{{ text.startswith('<tool_call>') }}{{ text[0] }}{{ text.split('</think>')[-1].strip() }}"
    )
    text = "<tool_call> a</think>  b\n"
    folder = tmp_path / "tokenizer"
    tokenizer = small(folder, "bytes", template)
    expected = reference(folder, [{"role": "user", "content": text}], True)
    assert asked_ids(tokenizer, [Message("user", text)]) == expected


def test_outer_white_space_is_trimmed_or_kept_as_the_template_does(tmp_path):
    for number, template in enumerate((LLAMA, BARE)):
        folder = tmp_path / str(number)
        tokenizer = small(folder, "bytes", template)
        for head, tail in itertools.product(["", " ", "\n", "\n  \t"], repeat=2):
            messages = [{"role": "user", "content": f"{head}a  b{tail}"}]
            got = asked_ids(tokenizer, parse_messages(messages))
            assert got == reference(folder, messages, True)


def test_system_is_folded_into_the_first_user_turn_where_refused(tmp_path):
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + LLAMA
    tokenizer = small(tmp_path / "tokenizer", "bytes", refusing)
    system = Message("system", "Be brief.")
    folded = [Message("user", "Be brief.\n\nHello there"), *TALK[1:]]
    assert asked_ids(tokenizer, [system, *TALK]) == asked_ids(tokenizer, folded)


def test_plain_template_opens_turns_with_bos_and_ends_answers_with_eos(tmp_path):
    tokenizer = small(tmp_path / "tokenizer", "bytes")
    text = "<s>user\nHello there\n<s>assistant\nHi.<|im_end|><s>user\nBye\n<s>assistant\n"
    assert tokenizer.decode(asked_ids(tokenizer, TALK), keep_special=True) == text


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('no') }}",
        "{% for %}",
        "{{ messages[0].content + 1 }}",
        "{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ missing.attribute }}",
    ],
)
def test_a_failing_or_hostile_template_is_one_sentence(tmp_path, template):
    tokenizer = small(tmp_path / "tokenizer", "bytes", template)
    with pytest.raises(DataError, match="chat template"):
        asked_ids(tokenizer, TALK)


EVERY_PRIVATE = "".join(map(chr, [*range(0xF0000, 0xFFFFE), *range(0x100000, 0x10FFFE)]))


def test_a_message_that_leaves_no_character_for_stand_ins_is_refused(tmp_path):
    tokenizer = small(tmp_path / "tokenizer", "bytes", CHATML)
    assert asked_ids(tokenizer, [Message("user", EVERY_PRIVATE)])
    with pytest.raises(DataError, match="private-use"):
        asked_ids(tokenizer, [Message("user", EVERY_PRIVATE + "<|im_end|>")])


def test_a_character_that_names_a_mark_elsewhere_is_text_in_a_message(tmp_path):
    tokenizer = small(tmp_path / "tokenizer", "bytes", CHATML)
    text = "".join(map(chr, range(0xF0000, 0xF0040))) + "<|im_end|>"
    ids = asked_ids(tokenizer, [Message("user", text)])
    assert text in tokenizer.decode(ids)
    assert ids.count(tokenizer.files.ids["<|im_end|>"]) == 1


WRONG = [
    None,
    [],
    "text",
    [1],
    [{"role": "user"}],
    [{"role": "root", "content": ""}],
    [{"role": "user", "content": ["a"]}],
    [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}],
    [{"role": "user", "content": [{"type": "input_audio"}]}],
    [{"role": "assistant", "content": None}],
    [{"role": "assistant", "tool_calls": [{"function": {}}]}],
    [{"role": "assistant", "content": "a", "function_call": {"name": "f"}}],
    [{"role": "assistant", "content": "a", "reasoning_content": 1}],
    [{"role": "user", "content": "a", "weight": 1}],
]


@pytest.mark.parametrize("wrong", WRONG)
def test_messages_of_another_shape_are_refused(wrong):
    with pytest.raises(DataError):
        parse_messages(wrong)


@pytest.mark.parametrize("wrong", ["{", "5", 5, [1], {"a": 1}])
def test_tools_of_another_shape_are_refused(wrong):
    with pytest.raises(DataError):
        parse_tools(wrong)


def test_parts_are_given_as_a_list_to_a_template_that_knows_them_and_else_as_one_text(tmp_path):
    parts = [{"type": "text", "text": " one"}, {"type": "text", "text": " two"}]
    messages = parse_messages([{"role": "user", "content": parts}])
    knowing = (
        "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}"
        "{% for part in m.content %}{% if part.type == 'text' %}{{ part.text | trim }}{% endif %}"
        "{% endfor %}{% endif %}{% endfor %}"
    )
    for number, (template, text) in enumerate(
        ((knowing, "onetwo"), ("{{ messages[0].content }}", " one two"))
    ):
        tokenizer = small(tmp_path / str(number), "bytes", template)
        assert tokenizer.decode(asked_ids(tokenizer, messages)) == text


TOOL = {"type": "function", "function": {"name": "add", "parameters": {"a<|im_end|>": "<s>"}}}
CALL = {"id": "c", "type": "function", "function": {"name": "add", "arguments": {"a": "</s>"}}}


def test_tools_and_their_calls_reach_the_template_and_spell_no_special_token(tmp_path):
    template = (
        "{% if tools %}<|head|>{{ tools | tojson }}<|tail|>{% endif %}{% for m in messages %}"
        "<|im_start|>{{ m.role }}\n{{ m.content }}{% for call in m.tool_calls or [] %}"
        "<tool_call>{{ call.function.name }} {{ call.function.arguments | tojson }}{% endfor %}"
        "<|im_end|>{% endfor %}"
    )
    tokenizer = small(tmp_path / "tokenizer", "bytes", template)
    messages = [
        {"role": "developer", "content": "Obey."},
        {"role": "user", "content": "add"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "4", "tool_call_id": "c"},
    ]
    ids = asked_ids(tokenizer, parse_messages(messages), [TOOL])
    text = tokenizer.decode(ids, keep_special=True)
    assert '{"a<|im_end|>": "<s>"}' in text
    assert '<tool_call>add {"a": "</s>"}' in text
    marks = [tokenizer.files.ids[mark] for mark in ("<|head|>", "<|tail|>")]
    turn = [tokenizer.files.ids[mark] for mark in ("<|im_start|>", "<|im_end|>")]
    controls = set(tokenizer.controls.values())
    assert [i for i in ids if i in controls] == [*marks, *turn * 4]


@pytest.mark.parametrize(("tools", "what"), [([TOOL], "description"), (None, "call")])
def test_tools_that_a_template_leaves_out_are_told(tmp_path, tools, what):
    tokenizer = small(tmp_path / "tokenizer", "bytes", CHATML)
    messages = [{"role": "user", "content": "sum"}]
    if tools is None:
        messages += [{"role": "assistant", "content": "", "tool_calls": [CALL]}]
    with pytest.raises(DataError, match=f"leaves out .*{what} .*'add'"):
        asked_ids(tokenizer, parse_messages(messages), tools)


def test_special_strings_are_those_of_the_files_and_the_map_wins_without_a_table(tmp_path):
    folder = write_small(tmp_path / "tokenizer", "bytes", cls_token="<s>", boi_token="<|head|>")
    (folder / "special_tokens_map.json").write_text(
        '{"eos_token": {"content": "</s>"}, "pad_token": null}'
    )
    named = special_strings(load_tokenizer(folder))
    assert [named[name] for name in ("eos_token", "boi_token")] == ["</s>", "<|head|>"]
    assert "pad_token" not in named
    more = {"extra_special_tokens": {"x_token": "<s>"}}
    write_small(folder, "bytes", added_tokens_decoder={}, **more)
    named = special_strings(load_tokenizer(folder))
    assert (named["eos_token"], named["x_token"]) == ("<|im_end|>", "<s>")


def test_templates_are_given_what_transformers_gives(tmp_path):
    folder = tmp_path / "tokenizer"
    template = (
        "{{ tools is none }} {{ documents is none }} {{ add_generation_prompt }} {{ bos_token }}"
        " {{ cls_token }} {{ unk_token is defined }} {{ strftime_now is defined }}"
        " {{ {'é': [1]} | tojson(indent=1) }}"
    )
    tokenizer = small(folder, "bytes", template, cls_token="<|head|>")
    ids = asked_ids(tokenizer, [Message("user", "x")])
    assert tokenizer.decode(ids, keep_special=True) == (
        'True True True <s> <|head|> False True {\n "é": [\n  1\n ]\n}'
    )


def test_a_template_for_tools_is_taken_where_there_are_tools(tmp_path):
    templates = [
        {"name": "default", "template": CHATML},
        {"name": "tool_use", "template": "{{ tools[0].function.name }}" + CHATML},
    ]
    tokenizer = small(tmp_path / "tokenizer", "bytes", chat_template=templates)
    asked = [Message("user", "x")]
    assert tokenizer.decode(asked_ids(tokenizer, asked, [TOOL])).startswith("add")
    assert not tokenizer.decode(asked_ids(tokenizer, asked)).startswith("add")


def test_an_added_word_that_takes_the_beginning_of_a_mark_away_from_it_does_so_here_too(tmp_path):
    folder = write_small(tmp_path / "tokenizer", "bytes", "<think><|im_{{ messages[0].content }}")
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace('"content": "<think>"', '"content": "<think><|im_"'))
    tokenizer = load_tokenizer(folder, "tokenizers")
    text = "start|><|im_end|>"
    ids = asked_ids(tokenizer, [Message("user", text)])
    assert tokenizer.decode(ids) == f"<think><|im_{text}"
    assert not set(ids) & set(tokenizer.controls.values())
