"""An answer read out of a text that a model wrote. No torch.

Each way is a function from the text to what it says, None where it says nothing of the kind. What
was thought, up to the last `</think>`, is not looked at.
"""

import re
from collections.abc import Callable, Mapping

THOUGHT_END = "</think>"
NUMBER = re.compile(r"-?\$?(?:\d[\d,]*(?:\.\d+)?|\.\d+)")
AFTER_HASHES = re.compile(rf"####\s*({NUMBER.pattern})")
ANSWER_IS = re.compile(rf"[Tt]he answer is:?\s*({NUMBER.pattern})")
ANSWER_IS_WORDS = re.compile(r"[Tt]he answer is:?[ \t]*(.+?)\.?[ \t]*(?:\n|\Z)")
FINAL = re.compile(r"[Ff]inal answer is:?\s*(.+)")
LETTER_SAID = re.compile(r"(?i:answer(?:\s+is|:))\s*\*{0,2}\(?([A-Z])\b(?!['’])")
LONE_LETTER = re.compile(r"(?<![\w'’])\(?([A-Z])\)?(?![\w'’])")
FENCE = re.compile(r"```[^\n`]*\n(.*?)(?:\n?```|\Z)", re.DOTALL)
DASHES = str.maketrans("−–", "--")


def visible(text: str) -> str:
    """Return what follows the last thought."""
    return text.rpartition(THOUGHT_END)[2]


def whole(text: str) -> str | None:
    """Return the text without the space around it."""
    return visible(text).strip() or None


def after_hashes(text: str) -> str | None:
    """Return the number behind the last `####`."""
    return last(AFTER_HASHES, visible(text).translate(DASHES))


def after_answer_is(text: str) -> str | None:
    """Return the number behind the first "The answer is"."""
    found = ANSWER_IS.search(visible(text).translate(DASHES))
    return found.group(1) if found else None


def after_answer_is_words(text: str) -> str | None:
    """Return what the line says behind the first "The answer is", without its full stop."""
    found = ANSWER_IS_WORDS.search(visible(text))
    return found.group(1) if found else None


def last_number(text: str) -> str | None:
    """Return the last number."""
    found = NUMBER.findall(visible(text).translate(DASHES))
    return found[-1] if found else None


def final_answer(text: str) -> str | None:
    """Return what is boxed last, else what "final answer is" is followed by."""
    said = visible(text)
    boxed = last_boxed(said)
    if boxed is not None:
        return boxed
    found = last(FINAL, said)
    return found.split(". I hope")[0].strip().rstrip(".").strip("$ ") if found else None


def last_boxed(text: str) -> str | None:
    r"""Return what stands in the last \boxed{…} whose braces close."""
    place = text.rfind("\\boxed{")
    while place >= 0:
        depth, start = 1, place + len("\\boxed{")
        for at in range(start, len(text)):
            depth += {"{": 1, "}": -1}.get(text[at], 0)
            if not depth:
                return text[start:at].strip()
        place = text.rfind("\\boxed{", 0, place)
    return None


def first_letter(text: str) -> str | None:
    """Return the letter that an answer begins with."""
    found = re.match(r"\s*\(?([A-Z])(?!['’\w])", visible(text))
    return found.group(1) if found else None


def answer_letter(text: str) -> str | None:
    """Return the letter of a choice: boxed, or said to be the answer, else the last lone one."""
    said = visible(text)
    boxed = last_boxed(said) or ""
    inside = re.fullmatch(r"\W*(?:text\{)?\(?([A-Z])\)?\W*", boxed)
    return inside.group(1) if inside else last(LETTER_SAID, said) or last(LONE_LETTER, said)


def completion(text: str) -> str | None:
    """Return what continues a program: the text as it is."""
    return text if text.strip() else None


def fence(text: str) -> str | None:
    """Return the last fenced block that holds something, else the text from its first `def` on."""
    said = visible(text)
    blocks = [block for block in FENCE.findall(said) if block.strip()]
    if blocks:
        return str(blocks[-1])
    found = re.search(r"^(?:from |import |def |class |@)", said, re.MULTILINE)
    return said[found.start() :] if found else None


def last(pattern: re.Pattern[str], text: str) -> str | None:
    """Return the group of the last match."""
    found = pattern.findall(text)
    return str(found[-1]) if found else None


EXTRACTIONS: Mapping[str, Callable[[str], str | None]] = {
    "whole": whole,
    "hashes": after_hashes,
    "answer-is": after_answer_is,
    "answer-is-words": after_answer_is_words,
    "last-number": last_number,
    "final-answer": final_answer,
    "first-letter": first_letter,
    "answer-letter": answer_letter,
    "completion": completion,
    "fence": fence,
}
