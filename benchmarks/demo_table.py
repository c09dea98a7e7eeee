"""Held-out bits per byte of a trained model beside what simpler models need for the same text.

    python benchmarks/demo_table.py PACKED RUN

Unigram and bigram are counted on the training rows and measured on the validation rows that the
model was validated on; zstd compresses the very text of those rows. All sides pay for the
same tokens (each document's eos included) and are divided by the same bytes.
"""

import json
import sys
from pathlib import Path

import numpy as np
import zstandard

from illada_core.data.store.dataset import open_packed
from illada_core.text.tokenizer import load_tokenizer

ZSTD_LEVEL = 19


def unigram_bits(train: np.ndarray, held: np.ndarray, vocab_size: int) -> float:
    """Return the bits a unigram with add-one counts needs for the held-out tokens."""
    counts = np.bincount(train, minlength=vocab_size) + 1
    return float(-np.log2(counts[held] / counts.sum()).sum())


def bigram_bits(train: np.ndarray, held: np.ndarray, vocab_size: int) -> float:
    """Return the bits of a bigram, interpolated with the unigram by Witten and Bell's rule."""
    unigram = np.bincount(train, minlength=vocab_size) + 1
    unigram = unigram / unigram.sum()
    pairs, counts = np.unique(train[:-1] * vocab_size + train[1:], return_counts=True)
    seen = np.bincount(pairs // vocab_size, weights=counts, minlength=vocab_size)
    followers = np.bincount(pairs // vocab_size, minlength=vocab_size)
    before, after = held[:-1], held[1:]
    wanted = before * vocab_size + after
    place = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
    joint = np.where(pairs[place] == wanted, counts[place], 0)
    total = np.maximum(seen[before] + followers[before], 1)
    share = np.where(seen[before] > 0, followers[before] / total, 1.0)
    bits = -np.log2(joint / total + share * unigram[after]).sum()
    return float(bits - np.log2(unigram[held[0]]))


def zstd_bits(text: bytes) -> int:
    """Return the size of the text under zstd -19, in bits."""
    return 8 * len(zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(text))


def last_validation(run: Path) -> dict[str, float]:
    """Return the newest validation record of a run's metrics."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return next(record for record in reversed(records) if "bits_per_byte" in record)


def main(packed: Path, run: Path) -> None:
    train_rows, held_rows = open_packed(packed)
    if held_rows is None:
        sys.exit(f"{packed} has no validation rows")
    train = train_rows.read(0, train_rows.tokens).astype(np.int64)
    held = held_rows.read(0, held_rows.tokens).astype(np.int64)
    text = load_tokenizer(packed / "tokenizer.json").decode(held.tolist()).encode()
    vocab_size = train_rows.vocab_size
    rows = [
        ("unigram", unigram_bits(train, held, vocab_size) / len(text)),
        (f"zstd -{ZSTD_LEVEL}", zstd_bits(text) / len(text)),
        ("bigram", bigram_bits(train, held, vocab_size) / len(text)),
        ("this model (upper bound)", last_validation(run)["bits_per_byte"]),
    ]
    print(f"\nheld-out text: {len(held):,} tokens, {len(text):,} bytes\n")
    print(f"{'model':26}{'bits per byte':>14}")
    for name, bits in sorted(rows, key=lambda row: -row[1]):
        print(f"{name:26}{bits:14.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
