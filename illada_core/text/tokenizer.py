"""The one adapter around tokenizer libraries: text to ids and back, never a control token.

`fastokens` encodes twenty times faster where it is installed, `tokenizers` is always there. Both
are used through the few calls that `tokenizers` 0.2x and 1.0 share.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Literal

import numpy as np
import tokenizers

from illada_core.arrays import Counts, Ids
from illada_core.decoding import decode_json
from illada_core.errors import DataError, UsageError
from illada_core.text.decoders import BYTE, is_steady, joins_bytes
from illada_core.text.joints import Joints, continuing, cutting_words, opens
from illada_core.text.library_json import decoding_json, encoding_json
from illada_core.text.special_tokens import SpecialIds
from illada_core.text.tokenizer_files import (
    TokenizerFiles,
    TokenizerRecord,
    read_tokenizer_files,
    with_eos,
    with_mask,
)

Engine = Literal["auto", "fastokens", "tokenizers"]
# Texts in; their ids end to end, and where each text's ids end.
Encoder = Callable[[Sequence[str]], tuple[Ids, Counts]]
CHECKED_CHARACTERS = 64_000
UNFINISHED = "\ufffd"  # what the bytes of a character decode to until its last token is there


class Tokenizer:
    """Turn text into ids and ids into text. Threads may share it.

    Text never gives control tokens: a literal `<[MASK]>` is encoded as the characters it has. Other
    added tokens are vocabulary, and found in text as in transformers.
    `engine` names the library that encodes, `fallback` says why it is not the fast one.
    """

    def __init__(self, files: TokenizerFiles, engine: Engine) -> None:
        self.files = files
        try:
            self._encoding_json = encoding_json(files.library_content, files.added, files.controls)
        except DataError as error:
            raise DataError(f"{files.path}: {error.sentence}", error.hint) from None
        self.fallback: str | None = None
        self._reference: Encoder | None = None
        self.engine, self._encode = self._load(engine)

    @property
    def sha256(self) -> str:
        """The hash of tokenizer.json."""
        return self.files.sha256

    @property
    def vocab_size(self) -> int:
        """The largest id + 1, the mask id included."""
        return self.files.vocab_size

    @property
    def special(self) -> SpecialIds:
        """The ids of the control tokens."""
        return self.files.special

    @property
    def chat_template(self) -> str | None:
        """The text of the chat template, if the tokenizer has one."""
        return self.files.chat_template

    @property
    def controls(self) -> dict[str, int]:
        """Control token to id: the strings that text can never become."""
        return self.files.controls

    @property
    def unknown_id(self) -> int | None:
        """The id that stands for what the vocabulary lacks, None if there is none."""
        return self.files.unknown_id

    @property
    def record(self) -> TokenizerRecord:
        """What a manifest says of this tokenizer."""
        return TokenizerRecord(self.sha256, self.vocab_size, self.special)

    def encode_flat(self, texts: Sequence[str]) -> tuple[Ids, Counts]:
        """Encode texts: all ids end to end as uint32, and where each text's ids end as int64."""
        return self._encode(texts)

    def encode_rest(self, text: str) -> Ids:
        """Encode a piece of a document that does not begin it.

        What is put in front of a text is also put behind each added token, but not here in front.
        """
        found = self._cutting_words.search(text) if self._cutting_words else None
        at = found.start() if found else len(text)
        parts = [self._rest_encoder([text[:at]])[0]]
        if found:
            parts.append(self._encode([text[at:]])[0])
        return np.concatenate(parts)

    def cuts_cleanly(self, before: str, after: str) -> bool:
        """Tell whether a text may be cut at a place, by what is around it, and no id changes."""
        return self._joints.is_clean(before, after)

    def encode(self, text: str) -> list[int]:
        """Encode one text."""
        ids: list[int] = self._encode([text])[0].tolist()
        return ids

    def decode(self, ids: Iterable[int], keep_special: bool = False) -> str:
        """Turn ids into text, control tokens left out or kept as their names.

        An id in a gap of the vocabulary has no text, nor has a mask id past it, as some models have
        it. DataError if any other lies outside it.
        """
        numbers = [int(number) for number in ids]
        roles = vars(self.special).values()
        wrong = next((n for n in numbers if not 0 <= n < self.vocab_size and n not in roles), None)
        if wrong is not None:
            raise DataError(f"id {wrong} is not in the vocabulary of {self.vocab_size}")
        shown = self._named if keep_special else self._worded
        kept = [number for number in numbers if number in shown]
        text: str = self._decoder.decode(kept, skip_special_tokens=False)
        return text

    def settled(self, ids: Iterable[int]) -> str:
        """Turn ids into as much of their text as no ids after them can change."""
        decoder = self.files.json.get("decoder")
        if not is_steady(decoder):
            return ""
        kept = [number for number in map(int, ids) if number in self._worded]
        if joins_bytes(decoder):
            while kept and BYTE.fullmatch(self._names[kept[-1]]):
                kept.pop()
        return self.decode(kept).rstrip(UNFINISHED)

    def count_unknown(self, ids: Ids | Sequence[int]) -> int:
        """Return how many tokens stand for what the vocabulary lacks."""
        return 0 if self.unknown_id is None else int((np.asarray(ids) == self.unknown_id).sum())

    def tell_unknown(self, count: int) -> str:
        """Say how many tokens stand for what the vocabulary lacks."""
        name = "" if self.unknown_id is None else self.piece(self.unknown_id)
        what = "1 token is" if count == 1 else f"{count:,} tokens are"
        return f"{what} {name}: the vocabulary lacks letters of this text"

    def piece(self, id: int) -> str:
        """Return the text of one token, replacement characters where it is part of a character."""
        return self.decode([id], keep_special=True)

    def disagrees(self, texts: Sequence[str]) -> bool:
        """Tell whether `tokenizers` encodes the beginning of these texts to other ids."""
        if self._reference is None:
            return False
        sample, room = [], CHECKED_CHARACTERS
        for text in texts:
            sample.append(text[:room])
            room -= len(sample[-1])
            if not room:
                break
        with ThreadPoolExecutor(1) as pool:  # both leave Python free
            expecting = pool.submit(self._reference, sample)
            ids, ends = self._encode(sample)
            expected, expected_ends = expecting.result()
        self._reference = None  # its memory is of use elsewhere
        return not (np.array_equal(ids, expected) and np.array_equal(ends, expected_ends))

    def fall_back(self, reason: str) -> None:
        """Encode with `tokenizers` from now on."""
        self.fallback = reason
        self.__dict__.pop("_rest_encoder", None)
        self.engine, self._encode = self._load("tokenizers")

    def _load(self, engine: Engine) -> tuple[str, Encoder]:
        if engine == "tokenizers":
            self._reference = None
            return f"tokenizers {version('tokenizers')}", self._load_reference()
        # fastokens takes its time to load, and leaves Python free meanwhile.
        with ThreadPoolExecutor(1) as pool:
            loading = pool.submit(fastokens_encoder, self._encoding_json)
            self._reference = self._load_reference()
            try:
                return f"fastokens {version('fastokens')}", loading.result()
            except ImportError as error:
                self.fallback = "fastokens is not installed"
                cause: Exception = error
            except Exception as error:  # whatever it refuses, tokenizers may take
                self.fallback = f"fastokens cannot load this tokenizer ({error})"
                cause = error
        if engine == "fastokens":
            raise UsageError(self.fallback, "use --engine tokenizers") from cause
        return self._load("tokenizers")

    def _load_reference(self) -> Encoder:
        with naming_tokenizer(self.files.path, "cannot be loaded"):
            encode = tokenizers_encoder(self._encoding_json)

        def encode_or_refuse(texts: Sequence[str]) -> tuple[Ids, Counts]:
            with naming_tokenizer(self.files.path, "cannot encode a text"):
                return encode(texts)

        return encode_or_refuse

    @cached_property
    def _copy(self) -> dict[str, Any]:
        content: dict[str, Any] = decode_json(self._encoding_json)
        return content

    @cached_property
    def _rest_encoder(self) -> Encoder:
        if not opens(self._copy):
            return lambda texts: self._encode(texts)
        rest = json.dumps(continuing(self._copy), ensure_ascii=False)
        if self.engine.startswith("fastokens"):
            return fastokens_encoder(rest)
        return tokenizers_encoder(rest)

    @cached_property
    def _joints(self) -> Joints:
        return Joints(self._copy, lambda text: self.encode_rest(text).tolist())

    @cached_property
    def _cutting_words(self) -> re.Pattern[str] | None:
        return cutting_words(self._copy)

    @cached_property
    def _names(self) -> dict[int, str]:
        return {number: name for name, number in self.files.ids.items()}

    @property
    def _named(self) -> Collection[int]:
        return self._names.keys()

    @cached_property
    def _worded(self) -> frozenset[int]:
        return frozenset(self._names).difference(self.controls.values())

    @cached_property
    def _decoder(self) -> Any:
        return tokenizers_tokenizer(decoding_json(self.files.json, self.files.added))


def load_tokenizer(
    path: Path, engine: Engine = "auto", eos: str | None = None, mask: str | None = None
) -> Tokenizer:
    """Load a tokenizer.json, or the one in a folder; DataError if it cannot be used.

    "auto" is `fastokens` where it is installed and takes the file, else `tokenizers`. `eos` and
    `mask` name control tokens its files do not name; UsageError if there is no token `eos`.
    """
    files = read_tokenizer_files(path)
    files = with_eos(files, eos) if eos else files
    return Tokenizer(with_mask(files, mask) if mask else files, engine)


@contextmanager
def naming_tokenizer(path: Path, fault: str) -> Iterator[None]:
    """Tell as DataError what the library raises, also where its own code breaks off."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{path} {fault}: {reason}") from error


def fastokens_encoder(content: str) -> Encoder:
    """Load a tokenizer.json into `fastokens`; ImportError if it is not installed."""
    # One thread a call: how many calls run at once is the business of whoever makes them.
    os.environ.setdefault("FASTOKENS_BPE_THREADS", "1")
    import fastokens  # an optional extra

    tokenizer = fastokens.Tokenizer.from_json_str(content)

    def encode(texts: Sequence[str]) -> tuple[Ids, Counts]:
        ids, offsets = tokenizer.encode_batch_flat(list(texts))
        return np.frombuffer(ids, "<u4"), np.frombuffer(offsets, "<i8")[1:]

    encode(["a"])  # builds the tables that the first text would have to wait for
    return encode


def tokenizers_encoder(content: str) -> Encoder:
    """Load a tokenizer.json into `tokenizers`, 0.2x or 1.0."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    tokenizer = tokenizers_tokenizer(content)
    # 0.2x has a way without offsets, which nothing here needs; 1.0 has only that.
    has_fast = hasattr(tokenizer, "encode_batch_fast")
    encode_batch = tokenizer.encode_batch_fast if has_fast else tokenizer.encode_batch

    def encode(texts: Sequence[str]) -> tuple[Ids, Counts]:
        encodings = encode_batch(list(texts), add_special_tokens=False)
        ids = [ids_of(encoding) for encoding in encodings]
        ends = np.cumsum([len(part) for part in ids], dtype=np.int64)
        return np.concatenate(ids) if ids else np.empty(0, np.uint32), ends

    return encode


def ids_of(encoding: Any) -> Ids:
    """Return the ids of an encoding: 1.0 has them as an array."""
    if hasattr(encoding, "ids_array"):
        return np.asarray(encoding.ids_array, np.uint32)
    return np.array(encoding.ids, np.uint32)


def tokenizers_tokenizer(content: str) -> Any:
    """Build a tokenizer of `tokenizers`; 1.0 takes nothing but a file."""
    with NamedTemporaryFile("w", encoding="utf-8", suffix=".json") as file:
        file.write(content)
        file.flush()
        return tokenizers.Tokenizer.from_file(file.name)
