"""Small tokenizers of every kind that released models have, as contents of tokenizer.json."""

from tests.byte_model import byte_letters

SIGN = "\u2581"  # what stands for a space
LETTERS = [*"abcdefghijklmnopqrstuvwxyz.,'!12\n", SIGN]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
BYTE_LEVEL = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": True,
}
FALLBACK = {
    "type": "Sequence",
    "decoders": [
        {"type": "Replace", "pattern": {"String": SIGN}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ],
}
STRIPPED = {
    "type": "Sequence",
    "decoders": [*FALLBACK["decoders"], {"type": "Strip", "content": " ", "start": 1, "stop": 0}],
}
REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": SIGN}


def added(name, number, special=True, **flags):
    token = {"id": number, "content": name, "special": special, "single_word": False}
    return token | {"lstrip": False, "rstrip": False, "normalized": False} | flags


def numbered(tokens):
    return {token: number for number, token in enumerate(dict.fromkeys(tokens))}


def merged(letters, merges):
    """Return a BPE model of letters and of what merges make."""
    made = ["".join(merge) for merge in merges]
    pairs = [" ".join(merge) for merge in merges]
    return {"type": "BPE", "vocab": numbered([*letters, *made]), "merges": pairs}


def content_of(model, normalizer=None, pre_tokenizer=None, decoder=None, words=()):
    """Return a tokenizer.json with <s>, </s>, <mask> (not special) and some words added."""
    size = len(model["vocab"])
    names = [("<s>", True), ("</s>", True), ("<mask>", False), *((word, False) for word in words)]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [added(name, size + at, sp) for at, (name, sp) in enumerate(names)],
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,
        "decoder": decoder,
        "model": model,
    }


def byte_level(pre_tokenizer=BYTE_LEVEL, normalizer=None, words=("<think>",)):
    letters = byte_letters()
    space = letters[ord(" ")]
    merges = [("t", "h"), ("th", "e"), (space, "the"), ("a", "b"), (space, "a"), (space, space)]
    return content_of(merged(letters, merges), normalizer, pre_tokenizer, BYTE_LEVEL, words)


def llama(normalizer, pre_tokenizer=None, decoder=STRIPPED, words=()):
    """Return a BPE over whole texts, with bytes for what it lacks, as Llama 2's."""
    merges = [("t", "h"), ("th", "e"), (SIGN, "the"), ("a", "b"), (SIGN, "a"), (SIGN, SIGN)]
    model = merged(["<unk>", *BYTES, *LETTERS], [*merges, (SIGN * 2, SIGN * 2)])
    model |= {"unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True}
    return content_of(model, normalizer, pre_tokenizer, decoder, words)


def unigram(pre_tokenizer, normalizer=None):
    pieces = ["<unk>", *LETTERS, "the", f"{SIGN}the", "ab", f"{SIGN}a", f"{SIGN}{SIGN}"]
    vocabulary = [[piece, -float(len(pieces) - 3 * len(piece))] for piece in pieces]
    model = {"type": "Unigram", "unk_id": 0, "vocab": vocabulary}
    return content_of(model, normalizer, pre_tokenizer, {**pre_tokenizer, "type": "Metaspace"})


def metaspace(scheme, split=True):
    return {"type": "Metaspace", "replacement": SIGN, "prepend_scheme": scheme, "split": split}


def word_pieces():
    letters = [*"abcdefghijklmnopqrstuvwxyz.,'!12"]
    vocabulary = numbered(["[UNK]", *letters, *(f"##{x}" for x in letters), "the", "##the", "ab"])
    model = {"type": "WordPiece", "vocab": vocabulary, "unk_token": "[UNK]"}
    model |= {"continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
    normalizer = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True}
    normalizer |= {"strip_accents": None, "lowercase": True}
    decoder = {"type": "WordPiece", "prefix": "##", "cleanup": True}
    return content_of(model, normalizer, {"type": "BertPreTokenizer"}, decoder)


def words():
    vocabulary = numbered(["[UNK]", "the", "a", "ab", ".", "12"])
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"}
    return content_of(model, None, {"type": "Whitespace"}, None)


def kinds():
    """Return the kinds by name."""
    prepend = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": SIGN}, REPLACE]}
    by_spaces = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious"}
    return {
        "byte level": byte_level(),
        "byte level, NFC, words with spaces": byte_level(
            normalizer={"type": "NFC"}, words=("<think>", "    ", "<a b>")
        ),
        "byte level, space in front": byte_level({**BYTE_LEVEL, "add_prefix_space": True}),
        "llama 2": llama(prepend, words=("<think>",)),
        "gemma": llama(REPLACE, {**by_spaces, "invert": False}, FALLBACK),
        "llama, metaspace": llama(None, metaspace("first", split=False)),
        "unigram": unigram(metaspace("always")),
        "unigram, whole texts": unigram(metaspace("never", split=False)),
        "word pieces": word_pieces(),
        "words": words(),
    }


KINDS = kinds()
