"""A prompt and what may follow it as ids, cut where the evaluation harnesses cut. No torch."""

from collections.abc import Callable, Sequence


def encode_continuations(
    encode: Callable[[str], list[int]], prompt: str, continuations: Sequence[str]
) -> tuple[list[int], list[list[int]]]:
    """Return the ids of a prompt, and of each continuation as it is tokenized after it.

    White space that ends the prompt goes to the continuations, where most vocabularies have it.
    A continuation's ids are those of the whole text beyond as many as the prompt has alone, so
    there may be none if the two melt into one token.
    """
    prompt_ids = encode(prompt.rstrip())
    wholes = [encode(prompt + continuation) for continuation in continuations]
    return prompt_ids, [whole[len(prompt_ids) :] for whole in wholes]
