"""From what a model wrote to the program that decides: its code, and the tests of its item.

No torch, and nothing is run here.
"""

import ast
from collections.abc import Mapping

from illada_core.benchmark.definition import Extraction
from illada_core.benchmark.extraction import EXTRACTIONS


def program_of(text: str, extraction: Extraction, fields: Mapping[str, str]) -> str | None:
    """Return the program whose end means that a text is right; None where it holds no code."""
    code = EXTRACTIONS[extraction](text)
    if code is None:
        return None
    prompt = fields.get("prompt", "") if "entry_point" in fields else ""
    if prompt and extraction == "completion":
        code = prompt + code
    elif prompt:
        code = whole_function(prompt, code, fields["entry_point"])
    return f"{code}\n\n{fields['program_test']}\n"


def whole_function(prompt: str, code: str, entry_point: str) -> str:
    """Return code that defines a function: imports and helpers of its prompt stand before it.

    Code without the function's own line is taken for its body.
    """
    if defines(code, entry_point):
        return prompt[: prompt.rfind(f"def {entry_point}")] + "\n" + code
    return prompt + code


def defines(code: str, name: str) -> bool:
    """Tell whether code defines a function at its top level; code that is none does not."""
    try:
        body = ast.parse(code).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return f"def {name}(" in code
    return any(isinstance(each, ast.FunctionDef) and each.name == name for each in body)
