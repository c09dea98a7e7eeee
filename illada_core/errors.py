"""What can go wrong for a user: one sentence, a hint if there is one, and an exit code.

Programming mistakes are not here: they are assertions and keep their tracebacks.
"""

SIGNAL_EXIT_BASE = 128
MOST_CHARACTERS = 1000  # of a sentence: what it quotes may come from anyone


class IlladaError(Exception):
    """A user's mistake or a damaged input, told in one sentence.

    `sentence` states the fact, `hint` says what to do next, `code` is the exit code.
    """

    code = 1

    def __init__(self, sentence: str, hint: str | None = None) -> None:
        if len(sentence) > MOST_CHARACTERS:
            half = MOST_CHARACTERS // 2
            sentence = f"{sentence[:half]} … {sentence[-half:]}"
        super().__init__(sentence)
        self.sentence = sentence
        self.hint = hint


class UsageError(IlladaError):
    """Wrong options, a wrong recipe, or settings that contradict what is on disk."""

    code = 2


class DataError(IlladaError):
    """Input text, a tokenizer or a dataset that cannot be used as it is."""


class CheckpointError(IlladaError):
    """A checkpoint that is missing, incomplete, damaged or of another shape."""


class DivergedError(IlladaError):
    """Training met too many non-finite losses or gradient norms."""

    code = 3


class LostRankError(IlladaError):
    """Another rank is gone, which takes this one with it; only a launcher reads the code."""

    code = 4


class StoppedBySignal(IlladaError):
    """Work ended early, in good order, because a signal asked for it."""

    def __init__(self, sentence: str, signal_number: int, hint: str | None = None) -> None:
        super().__init__(sentence, hint)
        self.code = SIGNAL_EXIT_BASE + signal_number


def first_line(error: Exception) -> str:
    """Return the first line of a library's message, its name where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
