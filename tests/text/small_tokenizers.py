"""Small tokenizers with the properties of released ones, and the obvious way to encode a chat."""

import json

import jinja2
import tokenizers
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

from illada_core.text.tokenizer import load_tokenizer
from tests.byte_model import byte_letters

SPECIAL = ("<s>", "</s>", "<[PAD]>", "<[MASK]>", "<|im_start|>", "<|im_end|>", "<|user|>")
SPECIAL += ("<|assistant|>", "<|system|>", "<|eot_id|>", "<|head|>", "<|tail|>")
WORDS = ("<think>", "</think>", "<tool_call>", "<|fim_prefix|>")
CONFIG = {
    "bos_token": "<s>",
    "eos_token": "<|im_end|>",
    "pad_token": "<[PAD]>",
    "mask_token": "<[MASK]>",
    "tokenizer_class": "PreTrainedTokenizerFast",
}


def added(first):
    """Return the added tokens, special ones first; the others are vocabulary."""
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return [
        {"id": number, "content": text, "special": text in SPECIAL, **flags}
        for number, text in enumerate((*SPECIAL, *WORDS), first)
    ]


def bytes_content():
    """A BPE of bytes with a few merges across words and lines, as Qwen's and Llama 3's."""
    vocabulary = {letter: number for number, letter in enumerate(byte_letters())}
    merges = []
    pairs = ("Ċ Ċ", "ĊĊ Ċ", "t h", "Ġ t", "th e", "| >", "< |", "i n", "Ġ Ġ", "> Ċ")
    for left, right in map(str.split, pairs):
        merges.append(f"{left} {right}")
        vocabulary[left + right] = len(vocabulary)
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}
    return {
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {**byte_level, "use_regex": False},
        "post_processor": None,
        "decoder": {**byte_level, "use_regex": True},
        "model": {"type": "BPE", "vocab": vocabulary, "merges": merges},
    }


def prepend_content():
    """A BPE of characters with a blank in front of every stretch, as Llama 2's."""
    letters = ["▁", *map(chr, range(33, 127)), "\n", "é", "日"]
    vocabulary = {"<unk>": 0, **{f"<0x{byte:02X}>": byte + 1 for byte in range(256)}}
    for letter in letters:
        vocabulary[letter] = len(vocabulary)
    merges = []
    for left, right in (("▁", "t"), ("t", "h"), ("▁t", "h"), ("▁", "["), ("i", "n"), ("▁", "▁")):
        merges.append(f"{left} {right}")
        vocabulary.setdefault(left + right, len(vocabulary))
    model = {"type": "BPE", "vocab": vocabulary, "merges": merges, "unk_token": "<unk>"}
    return {
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "<s>", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
            ],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [len(vocabulary)], "tokens": ["<s>"]}},
        },
        "decoder": {"type": "ByteFallback"},
        "model": {**model, "byte_fallback": True, "fuse_unk": True},
    }


def unigram_content():
    """A Unigram model with a blank in front of the text, as T5's."""
    pieces = [["<unk>", 0.0], *([text, 0.0] for text in (*SPECIAL, *WORDS))]
    letters = ["▁", *map(chr, range(33, 127)), "\n", "▁th", "ing", "the", "<|"]
    pieces += [[letter, -2.0 - len(letter)] for letter in letters]
    return {
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Metaspace",
            "replacement": "▁",
            "prepend_scheme": "first",
            "split": True,
        },
        "post_processor": None,
        "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first"},
        "model": {"type": "Unigram", "unk_id": 0, "vocab": pieces, "byte_fallback": False},
    }


KINDS = {"bytes": bytes_content, "prepend": prepend_content, "unigram": unigram_content}


def write_small(folder, kind, template=None, **config):
    """Write a small tokenizer's files and return the folder."""
    folder.mkdir(exist_ok=True)
    content = {"version": "1.0", "truncation": None, "padding": None, **KINDS[kind]()}
    vocabulary = content["model"]["vocab"]
    first = 1 if kind == "unigram" else len(vocabulary)
    content["added_tokens"] = added(first)
    (folder / "tokenizer.json").write_text(json.dumps(content))
    (folder / "tokenizer_config.json").write_text(json.dumps({**CONFIG, **config}))
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return folder


def small(folder, kind, template=None, **config):
    """Return a small tokenizer."""
    return load_tokenizer(write_small(folder, kind, template, **config), "tokenizers")


class Passing(Extension):
    """`{% generation %}`, passed over."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


def printed(folder, messages, prompt, **names):
    """Return the text of a chat in the template of a folder, with jinja2 alone."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", Passing]
    )

    def refuse(reason):
        raise jinja2.TemplateError(reason)

    config = json.loads((folder / "tokenizer_config.json").read_text())
    given = {name: text for name, text in config.items() if name.endswith("_token") and text}
    given |= {"messages": messages, "add_generation_prompt": prompt, "raise_exception": refuse}
    given |= {"tools": None, "documents": None, **names}
    environment.filters["tojson"] = lambda value, **o: json.dumps(value, ensure_ascii=False, **o)
    return environment.from_string((folder / "chat_template.jinja").read_text()).render(given)


def reference(folder, messages, prompt, **names):
    """Return the ids of a chat: the printed text, encoded by `tokenizers` in one piece."""
    library = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    text = printed(folder, messages, prompt, **names)
    return library.encode(text, add_special_tokens=False).ids
