"""Conversations that went wrong once, each with the ids of the obvious reference."""

import json
from datetime import date

import pytest

from illada_core.data.build.documents import tokenize_corpus
from illada_core.data.build.events import Notice
from illada_core.errors import DataError
from illada_core.text.messages import parse_messages
from tests.text.chat import asked_ids, documents_of, job_of, run
from tests.text.small_tokenizers import reference, small

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Of Qwen3's kind: thoughts come from a field or from the text, and only the last ones are printed.
THINKING = (
    "{% set ns = namespace(last=-1) %}{% for m in messages %}{% if m.role == 'user' %}"
    "{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}{% set content = m.content %}"
    "{% if m.role == 'assistant' %}{% set thoughts = '' %}"
    "{% if m.reasoning_content is defined %}{% set thoughts = m.reasoning_content %}"
    "{% elif '</think>' in content %}"
    "{% set thoughts = content.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{% if loop.index0 > ns.last %}"
    "{% set content = '<think>\n' + thoughts + '\n</think>\n\n' + content %}{% endif %}{% endif %}"
    "{{ '<|im_start|>' + m.role + '\n' + content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA2 = (
    "{% for m in messages %}{% if m.role == 'user' %}"
    "{{ bos_token + '[INST] ' + m.content.strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
LLADA = (
    "{% for m in messages %}{% if loop.first %}{{ bos_token }}{% endif %}"
    "{{ '<|head|>' + m.role + '<|tail|>\n\n' + m.content | trim + '<|eot_id|>' }}{% endfor %}"
    "{{ '<|head|>assistant<|tail|>\n\n' }}"
)
TOOLS = (
    "{% if tools is not none %}"
    "{{ '<|im_start|>system\nYou may call tools.<|im_end|>\n' }}{% endif %}"
)
GENERATION = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ m.content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def chat(*contents, **last):
    """Return messages of user and assistant in turn."""
    roles = ("user", "assistant")
    made = [{"role": roles[at % 2], "content": text} for at, text in enumerate(contents)]
    made[-1] |= last
    return made


@pytest.fixture
def packed(tmp_path):
    """Pack messages with a template; return tokenizer, ids, turns, and the reference's ids."""

    def pack(template, messages, kind="bytes", names=(), **options):
        tokenizer = small(tmp_path / "tokenizer", kind, template, **options.pop("config", {}))
        path = tmp_path / "pairs.jsonl"
        path.write_text(json.dumps({"messages": messages}) + "\n")
        dataset, _ = run(job_of(path, tokenizer, **options), tmp_path / "tokens")
        ((ids, turns),) = documents_of(dataset)
        expected = reference(tmp_path / "tokenizer", messages, False, **dict(names))
        return tokenizer, ids, turns, expected

    return pack


def said(tokenizer, ids, turns, turn=1):
    """Return what a response says, special tokens too."""
    return tokenizer.decode([i for i, t in zip(ids, turns, strict=True) if t == turn], True)


def without_line_end(tokenizer, ids):
    """Drop the line in which a template waits for the next turn."""
    return ids[:-1] if tokenizer.decode(ids[-1:]) == "\n" else ids


THOUGHT = "<think>\nadd them\n</think>\n\n4"


def test_an_answer_that_holds_its_thoughts_is_as_the_template_has_it(packed):
    tokenizer, ids, turns, expected = packed(THINKING, chat("2+2?", THOUGHT))
    assert ids == without_line_end(tokenizer, expected)
    assert said(tokenizer, ids, turns) == f"{THOUGHT}<|im_end|>"
    assert ids.count(tokenizer.files.ids["<think>"]) == 1


def test_thoughts_that_only_end_are_one_pair_of_tags(packed):
    messages = chat("What is 0+1?", "I add one to 0.\n</think>\n\nThe answer is 1.")
    tokenizer, ids, _, expected = packed(THINKING, messages)
    assert ids == without_line_end(tokenizer, expected)
    assert [ids.count(tokenizer.files.ids[tag]) for tag in ("<think>", "</think>")] == [1, 1]


def test_thoughts_in_a_field_are_learnt(packed):
    messages = chat("2+2?", "4", reasoning_content="add them")
    tokenizer, ids, turns, expected = packed(THINKING, messages)
    assert ids == without_line_end(tokenizer, expected)
    assert said(tokenizer, ids, turns) == f"{THOUGHT}<|im_end|>"


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
def test_thoughts_that_a_template_leaves_out_are_a_fault(packed, name):
    with pytest.raises(DataError, match="leaves out the thoughts"):
        packed(CHATML, chat("2+2?", "4", **{name: "add them"}))


def test_the_frame_of_thoughts_is_part_of_the_response(packed):
    tokenizer, ids, turns, expected = packed(THINKING, chat("Hello there", "Hi"))
    assert ids == without_line_end(tokenizer, expected)
    assert said(tokenizer, ids, turns) == "<think>\n\n</think>\n\nHi<|im_end|>"
    asked = asked_ids(tokenizer, parse_messages(chat("Hello there")))
    assert ids[: turns.index(1)] == asked


def test_added_words_in_an_answer_are_their_tokens_as_in_any_text(packed):
    text = "It ends with </think> and then <tool_call> or <|fim_prefix|> follows."
    tokenizer, ids, _, expected = packed(CHATML, chat("What?", text))
    assert ids == without_line_end(tokenizer, expected)
    for word in ("</think>", "<tool_call>", "<|fim_prefix|>"):
        assert tokenizer.files.ids[word] in ids


def test_no_tools_are_none(packed):
    tokenizer, ids, _, expected = packed(TOOLS + CHATML, chat("Hello there", "Hi"))
    assert ids == without_line_end(tokenizer, expected)
    assert "You may call tools" not in tokenizer.decode(ids)


def test_generation_tags_are_passed_over(packed):
    tokenizer, ids, turns, expected = packed(GENERATION, chat("Hello there", "Hi"))
    assert ids == without_line_end(tokenizer, expected)
    assert said(tokenizer, ids, turns) == "Hi<|im_end|>"


def test_the_date_is_the_one_that_is_given(packed):
    template = "{{ strftime_now('%Y-%m-%d') }}\n" + CHATML
    names = {"strftime_now": lambda form: "2024-02-29"}
    tokenizer, ids, _, expected = packed(
        template, chat("Hello there", "Hi"), names=names, date=date(2024, 2, 29)
    )
    assert ids == without_line_end(tokenizer, expected)


def test_a_generation_prompt_that_always_comes_last_is_no_response(packed):
    config = {"config": {"eos_token": "</s>"}}
    tokenizer, ids, turns, expected = packed(LLADA, chat("Hello there", "Hi"), **config)
    assert said(tokenizer, ids, turns) == "Hi<|eot_id|></s>"
    assert ids[:-1] == expected[: len(ids) - 1]


def test_the_first_of_two_answers_ends_where_such_a_prompt_begins(packed):
    config = {"config": {"eos_token": "</s>"}}
    tokenizer, ids, turns, expected = packed(LLADA, chat("a", "Hi", "b", "Bye"), **config)
    assert said(tokenizer, ids, turns) == "Hi<|eot_id|>"
    assert said(tokenizer, ids, turns, 2) == "Bye<|eot_id|></s>"
    assert ids[:-1] == expected[: len(ids) - 1]


@pytest.mark.parametrize("unwanted", [{"weight": 0}, {"weight": 0.0}, {"train": False}])
def test_an_answer_of_weight_zero_is_not_learnt(packed, unwanted):
    messages = chat("hi", "bad answer", "again", "good", weight=1)
    messages[1] |= unwanted
    tokenizer, ids, turns, expected = packed(CHATML, messages)
    assert ids == without_line_end(tokenizer, expected)
    assert set(turns) == {0, 1}
    assert said(tokenizer, ids, turns) == "good<|im_end|>"


@pytest.mark.parametrize("wrong", [{"weight": 0.5}, {"weight": "0"}, {"train": "no"}])
def test_other_weights_are_a_fault(packed, wrong):
    with pytest.raises(DataError, match=r"no example .*not 0 or 1"):
        packed(CHATML, chat("hi", "answer", **wrong))


def test_a_conversation_of_which_nothing_is_learnt_is_a_fault(packed):
    with pytest.raises(DataError, match="no answer of it is to be learnt"):
        packed(CHATML, chat("hi", "answer", weight=0))


def test_a_conversation_ends_with_the_last_answer_that_is_learnt(packed):
    messages = chat("hi", "good", "again", "bad", weight=0)
    tokenizer, ids, turns, expected = packed(CHATML, messages)
    assert said(tokenizer, ids, turns) == "good<|im_end|>"
    assert ids == expected[: len(ids)]
    assert ids[-1] == tokenizer.special.eos


def test_no_stretch_gets_a_blank_of_its_own(packed):
    messages = chat("Hello there", "Hi, what can I do?")
    tokenizer, ids, turns, expected = packed(
        LLAMA2, messages, "prepend", config={"eos_token": "</s>"}
    )
    assert ids == expected
    assert said(tokenizer, ids, turns).strip("▁ ") == "Hi,▁what▁can▁I▁do?▁</s>"


def test_earlier_answers_that_a_template_rewrites_are_as_it_prints_them(packed):
    messages = chat("hi", "Hello", "2+2?", THOUGHT, "thanks", "Bye")
    tokenizer, ids, turns, expected = packed(THINKING, messages)
    assert ids == without_line_end(tokenizer, expected)
    # The first is printed whole, without its frame; the second lost its thoughts.
    assert said(tokenizer, ids, turns) == "Hello<|im_end|>"
    assert said(tokenizer, ids, turns, 2) == "<think>\n\n</think>\n\nBye<|im_end|>"
    assert set(turns) == {0, 1, 2}


@pytest.mark.parametrize("turns", [2, 4])
def test_that_a_template_rewrites_answers_is_said_once(tmp_path, turns):
    tokenizer = small(tmp_path / "tokenizer", "bytes", THINKING)
    line = json.dumps({"messages": chat(*["hi", "Hello"] * (turns // 2))})
    (tmp_path / "pairs.jsonl").write_text(f"{line}\n" * 5)
    events = list(tokenize_corpus(job_of(tmp_path / "pairs.jsonl", tokenizer), tmp_path / "t", 1))
    told = [event.text for event in events if isinstance(event, Notice)]
    assert ["rewrites earlier answers" in text for text in told] == [True] * (turns > 2)


# Ends an answer otherwise once the conversation goes on, as Phi's and gpt-oss' templates do.
LAST = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '<|tail|>' + m.content }}"
    "{% if loop.last and not add_generation_prompt %}</s>{% else %}<|im_end|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant<|tail|>' }}{% endif %}"
)


@pytest.mark.parametrize("template", [THINKING, LAST])
def test_the_same_answer_twice_is_found_where_each_stands(packed, template):
    messages = chat("2+2?", THOUGHT, f"You said {THOUGHT}", THOUGHT)
    tokenizer, ids, turns, expected = packed(template, messages, config={"eos_token": "</s>"})
    assert ids[: len(expected) - 1] == expected[: len(expected) - 1]
    if template == LAST:
        assert said(tokenizer, ids, turns) == f"{THOUGHT}<|im_end|>"
        assert said(tokenizer, ids, turns, 2) == f"{THOUGHT}</s>"
    else:
        assert said(tokenizer, ids, turns) == f"{THOUGHT}<|im_end|></s>"
