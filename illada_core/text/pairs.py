"""A prompt and what may follow it as ids, cut where the evaluation harnesses cut. No torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Continued:
    """The ids of a prompt and of its continuations; `apart` are the places of those that melt."""

    prompt: list[int]
    continuations: list[list[int]]
    apart: tuple[int, ...] = ()


def encode_continuations(
    encode: Callable[[str], list[int]], prompt: str, continuations: Sequence[str]
) -> Continued:
    """Return the ids of a prompt, and of each continuation as it is tokenized after it.

    A continuation's ids are those of the whole text beyond the prompt's. White space that ends the
    prompt goes to the continuations, where most vocabularies have it, unless it only melts with
    what stands before it (`?` and a newline). Where prompt and continuation melt, so that the
    prompt's ids do not begin the whole's, nothing can be cut: the continuation is encoded apart,
    or a part of it, mostly what tells it from others, would be lost.
    """
    kept = prompt.rstrip()
    wholes = [encode(prompt + continuation) for continuation in continuations]
    for text in dict.fromkeys((kept, prompt)):
        prompt_ids = encode(text)
        if all(begins(prompt_ids, whole) for whole in wholes):
            return Continued(prompt_ids, [whole[len(prompt_ids) :] for whole in wholes])
    prompt_ids, moved = encode(kept), prompt[len(kept) :]
    apart = [i for i, whole in enumerate(wholes) if not begins(prompt_ids, whole)]
    found = [
        encode(moved + continuation) if i in apart else whole[len(prompt_ids) :]
        for i, (continuation, whole) in enumerate(zip(continuations, wholes, strict=True))
    ]
    return Continued(prompt_ids, found, tuple(apart))


def begins(some: list[int], whole: list[int]) -> bool:
    """Tell whether some ids are how the whole begins."""
    return whole[: len(some)] == some
