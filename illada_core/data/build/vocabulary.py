"""Training a vocabulary: byte-level BPE with the control tokens of the released model.

The result is a tokenizer.json and a tokenizer_config.json that Hugging Face's libraries load.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import tokenizers

from illada_core.data.build.events import BuildEvent, Headway, OnError, leave_out
from illada_core.data.sources.corpus import corpus_chunks
from illada_core.data.sources.listing import Source
from illada_core.decoding import decode_json
from illada_core.errors import DataError, UsageError
from illada_core.files import json_bytes, write_json
from illada_core.text.cutting import cut_text
from illada_core.text.tokenizer_files import CONFIG_FILE, ids_of_vocabulary

# The released ids: a token's place is its id (3 and 4 are of our choice: nothing states them).
CONTROL_TOKENS = ("<[BOS]>", "<[PAD]>", "<[EOS]>", "<[UNK]>", "<[SEP]>", "<[MASK]>")
BOS, PAD, EOS, UNK, SEP, MASK = CONTROL_TOKENS
BYTES = 256
SMALLEST_SIZE = len(CONTROL_TOKENS) + BYTES
# Words with the character before them, numbers by three digits, punctuation with its line ends,
# and white space with the last space left to the word it precedes: the pattern of GPT-4.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# What tokenizer_config.json says of every vocabulary trained here.
CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": BOS,
    "pad_token": PAD,
    "eos_token": EOS,
    "unk_token": UNK,
    "mask_token": MASK,
    "additional_special_tokens": [SEP],
    "add_bos_token": False,
    "clean_up_tokenization_spaces": False,
}
# Enough for any vocabulary, and few enough words for a gigabyte of memory.
TRAINING_BYTES = 256 << 20
INFLATION = 4  # text over its compressed size, about


def train_vocabulary(texts: Iterable[str], size: int) -> dict[str, Any]:
    """Train a byte-level BPE of at most `size` tokens and return its tokenizer.json.

    The same texts in the same order give the same result. It is smaller than `size` if the texts
    hold no more pairs that occur twice. DataError without text, UsageError if `size` is too small
    or the installed tokenizers cannot train.
    """
    if size <= SMALLEST_SIZE:
        raise UsageError(
            f"a vocabulary of {size} is too small",
            f"{SMALLEST_SIZE} are bytes and control tokens, so take more than that",
        )
    if not hasattr(tokenizers, "trainers"):
        raise UsageError(
            f"tokenizers {tokenizers.__version__} cannot train vocabularies",
            "pip install 'tokenizers<1'",
        )
    pre_tokenizers = tokenizers.pre_tokenizers
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    split = pre_tokenizers.Split(tokenizers.Regex(PATTERN), "isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        special_tokens=list(CONTROL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    stream = iter(texts)
    first = list(islice(stream, 1))
    if not first:
        raise DataError("no text to train a vocabulary on")
    tokenizer.train_from_iterator(chain(first, stream), trainer)
    content: dict[str, Any] = decode_json(tokenizer.to_str())
    vocabulary = ids_of_vocabulary(content)
    assert [vocabulary[token] for token in CONTROL_TOKENS] == list(range(len(CONTROL_TOKENS)))
    return content


def write_vocabulary(content: dict[str, Any], path: Path) -> None:
    """Write tokenizer.json, and beside it what Hugging Face's libraries want to know."""
    write_json(path.with_name(CONFIG_FILE), CONFIG)
    write_json(path, content)


def files_in_the_way(path: Path) -> list[Path]:
    """Return the files that `write_vocabulary` would replace, and that cannot be of a vocabulary.

    Whether one that is there is the same vocabulary is known when that is trained (`is_another`).
    """
    config = path.with_name(CONFIG_FILE)
    if config.exists():
        return (
            [] if config.read_bytes() == json_bytes(CONFIG) else [path] * path.exists() + [config]
        )
    return [path] * path.exists()


def is_another(content: dict[str, Any], path: Path) -> bool:
    """Tell whether a file is there that holds anything but this vocabulary."""
    return path.exists() and path.read_bytes() != json_bytes(content)


def texts_to_train_on(
    sources: Sequence[Source], text_key: str, on_error: OnError, tell: Callable[[BuildEvent], None]
) -> Iterator[str]:
    """Yield the texts of a corpus, or a share of them if it is large; `tell` hears what happens.

    Which ones are chosen depends on the numbers of file and record alone; giant documents count by
    pieces. It ends at TRAINING_BYTES characters, come what may.
    """
    share, taken = share_to_train_on(sources), 0
    for chunk in corpus_chunks(sources, text_key):
        texts = chunk.read()
        for fault in texts.faults:
            tell(leave_out(fault, sources, on_error))
        places = zip(texts.files, texts.records, strict=True)
        for text, (file, record) in zip(texts.texts, places, strict=True):
            for number, piece in enumerate(cut_text([text])):
                draw = zlib.crc32(f"{file} {record} {number}".encode()) / 2**32
                if draw < share and piece and taken < TRAINING_BYTES:
                    taken += len(piece)
                    yield piece
        tell(Headway(chunk.source_bytes, len(texts.texts), 0))
        if taken >= TRAINING_BYTES:
            return


def share_to_train_on(sources: Sequence[Source]) -> float:
    """Return which share of a corpus makes about TRAINING_BYTES, going by sizes on disk."""
    on_disk = sum(source.bytes * (INFLATION if source.compression else 1) for source in sources)
    return min(1.0, 0.9 * TRAINING_BYTES / max(on_disk, 1))
