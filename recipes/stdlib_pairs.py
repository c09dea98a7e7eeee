"""Instruction pairs from the standard library: a documented function asks, its body answers.

    python recipes/stdlib_pairs.py FOLDER

writes pairs.jsonl (prompt and response, to train on), held-out.jsonl (prompts of functions that
are in no training pair) and choices.jsonl (each of those with its own body among three others).
Which function is held out depends on its text alone, so the files are the same on every machine
with the same library.
"""

import ast
import hashlib
import json
import sys
import sysconfig
import textwrap
from collections.abc import Iterator
from pathlib import Path

LONGEST_CHARACTERS = 240
HELD_OUT_ONE_IN = 40
OTHERS = 3


def documented_functions(root: Path) -> Iterator[tuple[str, str]]:
    """Yield (signature and docstring, body) of every short function below a folder."""
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if "site-packages" in parts or any(part.startswith("test") for part in parts):
            continue
        try:
            source = path.read_text()
            tree = ast.parse(source)
        except (SyntaxError, UnicodeDecodeError):
            continue  # a few files of the library are wrong on purpose
        lines = source.splitlines()
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) and node.body[1:]:
                documented = node.body[0].end_lineno
                asked = textwrap.dedent("\n".join(lines[node.lineno - 1 : documented]))
                answer = lines[documented : node.end_lineno]
                answered = textwrap.indent(textwrap.dedent("\n".join(answer)).strip("\n"), "    ")
                if len(asked) + len(answered) <= LONGEST_CHARACTERS:
                    yield asked, answered


def is_held_out(prompt: str) -> bool:
    return hashlib.sha256(prompt.encode()).digest()[0] % HELD_OUT_ONE_IN == 0


def asked_by_user(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]


def with_others(held_out: list[tuple[str, str]]) -> Iterator[dict[str, object]]:
    """Yield each question with its own body among those of the next functions that differ."""
    bodies = [body for _, body in held_out]
    for place, (prompt, body) in enumerate(held_out):
        rest = dict.fromkeys(bodies[place:] + bodies[:place])
        others = [other for other in rest if other != body][:OTHERS]
        answer = place % (OTHERS + 1)
        yield {
            "messages": asked_by_user(prompt),
            "choices": [*others[:answer], body, *others[answer:]],
            "answer": answer,
        }


def write_lines(path: Path, records: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    print(f"{path}: {len(records)} lines")


def main(folder: Path) -> None:
    pairs = list(dict(documented_functions(Path(sysconfig.get_path("stdlib")))).items())
    held_out = [pair for pair in pairs if is_held_out(pair[0])]
    learnt = [pair for pair in pairs if not is_held_out(pair[0])]
    write_lines(
        folder / "pairs.jsonl", [{"prompt": asked, "response": body} for asked, body in learnt]
    )
    write_lines(
        folder / "held-out.jsonl", [{"messages": asked_by_user(asked)} for asked, _ in held_out]
    )
    write_lines(folder / "choices.jsonl", list(with_others(held_out)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
