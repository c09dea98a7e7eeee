"""From ids to the text that a reader gets: cut at stop strings, and settled as far as it can be."""

from collections.abc import Sequence
from typing import Protocol

from illada_core.inference.rules import FindStop
from illada_core.inference.sampler import Completion


class Decoder(Protocol):
    """What turns ids into text; a tokenizer does."""

    def decode(self, ids: Sequence[int], keep_special: bool = False) -> str: ...

    def settled(self, ids: Sequence[int]) -> str: ...


def first_stop(text: str, stops: Sequence[str]) -> int | None:
    """Return where the first of the stop strings begins in a text, or None."""
    found = [place for stop in stops if (place := text.find(stop)) >= 0]
    return min(found, default=None)


def stop_finder(tokenizer: Decoder, stops: Sequence[str]) -> FindStop | None:
    """Return the function that counts the ids which stand wholly before a stop string."""
    if not stops:
        return None

    def find_stop(ids: list[int]) -> int | None:
        place = first_stop(tokenizer.decode(ids, keep_special=True), stops)
        if place is None:
            return None
        low, high = 0, len(ids)
        while low < high:
            middle = (low + high + 1) // 2
            fits = len(tokenizer.decode(ids[:middle], keep_special=True)) <= place
            low, high = (middle, high) if fits else (low, middle - 1)
        return low

    return find_stop


def completed_text(
    completion: Completion, around: Sequence[str], tokenizer: Decoder, stops: Sequence[str]
) -> str:
    """Return the text of a completion, with what stands `around` its gaps if it fills several."""
    texts = []
    for fill, cut in zip(completion.fills, completion.cuts, strict=True):
        text = tokenizer.decode([*fill, *cut])
        place = first_stop(text, stops) if cut else None
        texts.append(tokenizer.decode(fill) if place is None else text[:place])
    if not around:
        return "".join(texts)
    first, *rest = around
    return first + "".join(text + run for text, run in zip(texts, rest, strict=True))


def settled_ids(ids: Sequence[int], mask_id: int) -> list[int]:
    """Return what stands before the first mask: no later step changes it."""
    ids = list(ids)
    return ids[: ids.index(mask_id)] if mask_id in ids else ids


def settled_text(ids: Sequence[int], tokenizer: Decoder, stops: Sequence[str]) -> str:
    """Return what a reader may see of settled ids: nothing of it is ever taken back.

    What later ids may change is held back, and so is what may become a stop string.
    """
    text = tokenizer.settled(ids)
    place = first_stop(text, stops)
    return text[: len(text) - stop_overlap(text, stops) if place is None else place]


def stop_overlap(text: str, stops: Sequence[str]) -> int:
    """Return how many last characters of a text may be the beginning of a stop string."""
    beginnings = (stop[:length] for stop in stops for length in range(1, len(stop)))
    return max((len(part) for part in beginnings if text.endswith(part)), default=0)
