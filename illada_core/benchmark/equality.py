r"""Whether an answer means the right one: as text, as a number, or as mathematics. No torch.

Mathematics are compared as LaTeX in a plain form, then as numbers where both are one: `\frac12`
is 0.5, `\dfrac{1}{2}` and `1/2`. It is strict: what it cannot read alike counts as wrong.
"""

import re
from decimal import Decimal, InvalidOperation
from fractions import Fraction

DROPPED = ("\\left", "\\right", "\\!", "\\,", "\\;", "\\:", "\\ ", "\\$", "$", "\\displaystyle")
UNITS = re.compile(r"\\(?:text|mbox|mathrm|textbf)\{([^{}]*)\}")
FRACTION = re.compile(r"(-?)\\frac\{([^{}]+)\}\{([^{}]+)\}")
SHORT_FRACTION = re.compile(r"\\frac(?:\{([^{}]+)\}|(\d))(?:\{([^{}]+)\}|(\d))")
SHORT_ROOT = re.compile(r"\\sqrt(\w)")


def are_equal(found: str, wanted: str, equal: str) -> bool:
    """Tell whether an answer means the right one."""
    if equal == "number":
        one, other = number(found), number(wanted)
        return one is not None and one == other
    if equal == "mathematics":
        return same_mathematics(found, wanted)
    return found.strip().casefold() == wanted.strip().casefold()


def number(text: str) -> Decimal | None:
    """Return the number that a text is: thousands may have commas, and money its sign."""
    plain = re.sub(r"[,$%\s]", "", text).rstrip(".")
    try:
        value = Decimal(plain)
    except InvalidOperation:
        return None
    return value if value.is_finite() else None


def same_mathematics(found: str, wanted: str) -> bool:
    """Tell whether two expressions are alike, or two numbers equal."""
    one, other = plain_form(found), plain_form(wanted)
    if one == other:
        return bool(one)
    value, other_value = rational(one), rational(other)
    return value is not None and value == other_value


def plain_form(text: str) -> str:
    """Return LaTeX without what does not bear on its value."""
    text = text.strip().rstrip(".")
    for token in DROPPED:
        text = text.replace(token, "")
    text = text.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
    text = re.sub(r"\^\{?\\circ\}?|\\degree|\\%|%", "", text)
    inner = UNITS.sub("", text).strip()
    text = inner or UNITS.sub(r"\1", text)
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
    text = re.sub(r"\s+", "", text)
    text = SHORT_FRACTION.sub(full_fraction, text)
    text = SHORT_ROOT.sub(r"\\sqrt{\1}", text)
    head, equals, value = text.partition("=")
    return value if equals and len(head) <= 2 else text  # x=5 says 5


def full_fraction(found: re.Match[str]) -> str:
    """Return a fraction with both its braces."""
    over, short_over, under, short_under = found.groups()
    return f"\\frac{{{over or short_over}}}{{{under or short_under}}}"


def rational(text: str) -> Fraction | None:
    """Return the value of a plain number or fraction, None for anything else."""
    text = FRACTION.sub(r"\1\2/\3", text)
    if not re.fullmatch(r"-?(\d+\.?\d*|\.\d+)(/-?\d+)?", text):
        return None
    over, _, under = text.partition("/")
    if not under:
        return Fraction(over)
    return Fraction(over) / int(under) if int(under) else None
