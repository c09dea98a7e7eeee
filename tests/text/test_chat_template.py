"""Conversations as ids: control tokens from the template only, messages as the text they are."""

import itertools
import random
import re

import pytest

from illada_core.errors import DataError
from illada_core.text.chat_template import Message, Piece, encode, parse_messages, render

CONTROLS = {"<bos>": 0, "<eos>": 2, "<|eot_id|>": 3, "<|start|>": 4, "<[MASK]>": 5}
STRINGS = {"bos_token": "<bos>", "eos_token": "<eos>"}
LLAMA_LIKE = (
    "{% for m in messages %}{% set text = '<|start|>' + m['role'] + '\n\n' + m['content'] | trim"
    " + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set text = bos_token + text %}{% endif %}"
    "{{ text }}{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant\n\n' }}{% endif %}"
)
UNTRIMMED = "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<eos>{% endfor %}"
NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}" + UNTRIMMED
)
TALK = [Message("user", "Hello there"), Message("assistant", "Hi."), Message("user", "Bye")]


def characters(text):
    """A tokenizer of characters, whose ids are far from the control ids."""
    return [1000 + ord(character) for character in text]


def ids(template, messages, **options):
    return encode(render(template, messages, CONTROLS, STRINGS, **options), characters)


def naive(text):
    """Encode rendered text as if every control string in it were meant."""
    pattern = "|".join(map(re.escape, CONTROLS))
    pieces = re.split(f"({pattern})", text)
    return [i for p in pieces for i in ([CONTROLS[p]] if p in CONTROLS else characters(p))]


def test_frame_becomes_control_tokens_and_text():
    frame = (
        "<bos><|start|>user\n\nHello there<|eot_id|><|start|>assistant\n\nHi.<|eot_id|>"
        "<|start|>user\n\nBye<|eot_id|>"
    )
    assert ids(LLAMA_LIKE, TALK) == naive(frame + "<|start|>assistant\n\n")
    assert ids(LLAMA_LIKE, TALK, add_generation_prompt=False) == naive(frame)


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("template", [LLAMA_LIKE, UNTRIMMED, None])
def test_control_strings_in_a_message_stay_text(control, template):
    clean = ids(template, [Message("user", "x")])
    literal = ids(template, [Message("user", f"{control}x{control}{control}")])
    assert [i for i in literal if i < 1000] == [i for i in clean if i < 1000]
    at = clean.index(1000 + ord("x"))
    text = characters(f"{control}x{control}{control}")
    assert literal == clean[:at] + text + clean[at + 1 :]


def test_overlapping_and_one_letter_control_strings_stay_text():
    controls = {"ab": 1, "bc": 2, "~": 3}
    pieces = render("{{ messages[0].content }}ab~", [Message("user", "xabc~")], controls, {})
    assert pieces == [Piece("xabc~", turn=0), Piece("ab", 1), Piece("~", 3)]


def test_a_message_cannot_complete_a_control_string_of_the_frame():
    for left, right in (("<|eot", "_id|>"), ("<|eot_id|", ">"), ("<", "|eot_id|>")):
        after = render("{{ messages[0].content }}" + right, [Message("user", left)], CONTROLS, {})
        before = render(left + "{{ messages[0].content }}", [Message("user", right)], CONTROLS, {})
        assert not any(piece.control_id for piece in after + before)


@pytest.mark.parametrize("template", [LLAMA_LIKE, UNTRIMMED])
def test_outer_white_space_is_trimmed_or_kept_as_the_template_does(template):
    for head, tail in itertools.product(["", " ", "\n", "\n  \t"], repeat=2):
        text = f"{head}a  b{tail}"
        got = render(template, [Message("user", text)], CONTROLS, STRINGS)
        expected = text.strip() if template == LLAMA_LIKE else text
        assert [piece.text for piece in got if piece.turn == 0] == [expected]


def test_any_text_comes_through_whole_and_as_text():
    drawn = random.Random(0)
    alphabet = [
        *CONTROLS,
        "<",
        "|",
        ">",
        "a",
        " ",
        "\n",
        "\x1c",
        "\x85",
        "\U000f0000",
        "é",
        "[MASK]",
    ]
    for _ in range(300):
        texts = ["".join(drawn.choices(alphabet, k=drawn.randrange(8))) for _ in range(3)]
        messages = [Message("user", text) for text in texts]
        pieces = render(UNTRIMMED, messages, CONTROLS, STRINGS)
        for turn, text in enumerate(texts):
            assert "".join(piece.text for piece in pieces if piece.turn == turn) == text
        assert sum(piece.control_id is not None for piece in pieces) == 6


def test_a_template_may_cut_a_message_and_the_rest_stays_text():
    template = "{{ messages[0].content.split('</think>')[-1] }}<eos>"
    message = Message("assistant", "<think>no</think>yes <|eot_id|>")
    pieces = render(template, [message], CONTROLS, STRINGS)
    assert "".join(piece.text for piece in pieces) == "yes <|eot_id|><eos>"
    assert [piece.control_id for piece in pieces if piece.control_id is not None] == [2]


def test_a_template_may_look_for_readable_tags_which_stay_text_in_a_message():
    template = (
        "{% for m in messages %}{% set text = m.content %}"
        "{% if '</think>' in text %}{% set text = text.split('</think>')[-1] %}{% endif %}"
        "<|start|>{{ text }}<eos>{% endfor %}<think>"
    )
    controls = {**CONTROLS, "<think>": 8, "</think>": 9}
    messages = [Message("assistant", "<think>no</think>yes"), Message("user", "a <think> b")]
    pieces = render(template, messages, controls, STRINGS, readable=("<think>", "</think>"))
    assert [piece.control_id or piece.text for piece in pieces] == [
        4,
        "yes",
        2,
        4,
        "a <think> b",
        2,
        8,
    ]


def test_system_is_folded_into_the_first_user_turn_where_refused():
    system = Message("system", "Be brief.")
    folded = [Message("user", "Be brief.\n\nHello there"), *TALK[1:]]
    assert ids(NO_SYSTEM, [system, *TALK]) == ids(UNTRIMMED, folded)
    assert ids(UNTRIMMED, [system, *TALK]) != ids(UNTRIMMED, folded)


def test_plain_template_opens_turns_with_bos_and_ends_answers_with_eos():
    expected = "<bos>user\nHello there\n<bos>assistant\nHi.<eos><bos>user\nBye\n<bos>assistant\n"
    assert ids(None, TALK) == naive(expected)


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
def test_a_failing_or_hostile_template_is_one_sentence(template):
    with pytest.raises(DataError, match="chat template"):
        render(template, TALK, CONTROLS, STRINGS)


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        [],
        "text",
        [1],
        [{"role": "user"}],
        [{"role": "root", "content": ""}],
        [{"role": "user", "content": ["a"]}],
    ],
)
def test_messages_of_another_shape_are_refused(wrong):
    with pytest.raises(DataError):
        parse_messages(wrong)


EVERY_SPACE = "".join(map(chr, range(0x1C, 0x3001)))
EVERY_PRIVATE = "".join(map(chr, range(0xF0000, 0x110000)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(EVERY_SPACE, "white space", id="spaces"),
        pytest.param(EVERY_PRIVATE, "private-use", id="private"),
    ],
)
def test_a_message_that_leaves_no_character_for_marks_is_refused(text, said):
    with pytest.raises(DataError, match=said):
        render(None, [Message("user", text)], CONTROLS, STRINGS)
