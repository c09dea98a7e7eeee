"""Static completion scripts for bash, zsh and fish, made from the command tree.

`python -m illada_cli.completions` rewrites `completions/`; no Python runs when TAB is pressed.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from typer.models import ArgumentInfo, OptionInfo

from illada_cli.app import VERBS

FOLDER = Path(__file__).resolve().parents[1] / "completions"
HEADER = "made by `make completions`: do not edit"


@dataclass(frozen=True)
class Flag:
    """One option of a verb: its spellings, and what may follow it."""

    names: tuple[str, ...]
    help: str
    takes_value: bool
    choices: tuple[str, ...] = ()
    repeatable: bool = False


@dataclass(frozen=True)
class Verb:
    name: str
    help: str
    flags: tuple[Flag, ...]


def command_tree() -> list[Verb]:
    """Read every verb and its options from the signatures that define them."""
    return [read_verb(name, function) for name, function in VERBS.items()]


def read_verb(name: str, function: Callable[..., Any]) -> Verb:
    summary = (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ")
    flags = [Flag(("--help", "-h"), "Show this message and exit.", takes_value=False)]
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        annotation, *extras = get_args(parameter.annotation) or (parameter.annotation,)
        info = next((x for x in extras if isinstance(x, OptionInfo | ArgumentInfo)), None)
        if isinstance(info, OptionInfo):
            flags.extend(read_flags(parameter.name, annotation, info))
    return Verb(name, summary.rstrip("."), tuple(flags))


def read_flags(name: str, annotation: Any, info: OptionInfo) -> Iterator[Flag]:
    """Yield the flag of one option, and its opposite when it has one (`--x/--no-x`)."""
    # Inside Annotated, typer keeps the first declaration where a default would stand.
    first = (info.default,) if isinstance(info.default, str) else ()
    declarations = (*first, *(info.param_decls or ())) or ("--" + name.replace("_", "-"),)
    pairs = [declaration.split("/") for declaration in declarations if declaration[0] == "-"]
    is_flag = annotation is bool
    choices = choices_of(annotation)
    names = tuple(pair[0].strip() for pair in pairs)
    repeatable = any(get_origin(part) is list for part in (annotation, *get_args(annotation)))
    help_text = (info.help or "").rstrip(".")
    yield Flag(names, help_text, not is_flag, choices, repeatable)
    opposites = tuple(pair[1].strip() for pair in pairs if len(pair) > 1)
    if opposites:
        yield Flag(opposites, f"Not: {help_text}", takes_value=False)


def choices_of(annotation: Any) -> tuple[str, ...]:
    """Return the words an option accepts, if it accepts only some."""
    for part in (annotation, *get_args(annotation)):
        if get_origin(part) is Literal:
            return tuple(str(choice) for choice in get_args(part))
        if inspect.isclass(part) and issubclass(part, Enum):
            return tuple(str(member.value) for member in part)
    return ()


def bash(tree: list[Verb]) -> str:
    """Write the bash script: words after the verb, choices after a flag, files otherwise."""
    verbs = " ".join(verb.name for verb in tree)
    lines = [
        f"# bash completion for illada ({HEADER})",
        "_illada() {",
        '    local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}"',
        "    COMPREPLY=()",
        "    if [[ $COMP_CWORD -eq 1 ]]; then",
        f'        COMPREPLY=($(compgen -W "{verbs} --help --version" -- "$word"))',
        "        return",
        "    fi",
        '    case "${COMP_WORDS[1]} $before" in',
    ]
    for verb in tree:
        for flag in verb.flags:
            if flag.choices:
                patterns = "|".join(f'"{verb.name} {name}"' for name in flag.names)
                words = " ".join(flag.choices)
                lines.append(
                    f'        {patterns}) COMPREPLY=($(compgen -W "{words}" -- "$word")); return ;;'
                )
    lines += ["    esac", '    if [[ "$word" == -* ]]; then', '        case "${COMP_WORDS[1]}" in']
    for verb in tree:
        words = " ".join(name for flag in verb.flags for name in flag.names)
        lines.append(f'            {verb.name}) COMPREPLY=($(compgen -W "{words}" -- "$word")) ;;')
    lines += [
        "        esac",
        "        return",
        "    fi",
        '    COMPREPLY=($(compgen -f -- "$word"))',
        "}",
        "complete -o filenames -F _illada illada",
    ]
    return "\n".join(lines) + "\n"


def zsh(tree: list[Verb]) -> str:
    """Write the zsh script, with a description beside every verb and option."""
    lines = ["#compdef illada", f"# {HEADER}", "_illada() {", "    local -a verbs", "    verbs=("]
    lines += [f"        {zsh_quote(verb.name + ':' + verb.help)}" for verb in tree]
    lines += [
        "    )",
        "    if (( CURRENT == 2 )); then",
        "        _describe -t verbs 'verb' verbs",
        "        return",
        "    fi",
        "    local verb=$words[2]",
        "    shift words",
        "    (( CURRENT-- ))",
        "    case $verb in",
    ]
    for verb in tree:
        lines.append(f"        {verb.name}) _arguments -S \\")
        lines += [
            f"            {zsh_quote(zsh_option(flag, name))} \\"
            for flag in verb.flags
            for name in flag.names
        ]
        lines.append("            '*:file:_files' ;;")
    lines += ["    esac", "}", '_illada "$@"']
    return "\n".join(lines) + "\n"


def zsh_option(flag: Flag, name: str) -> str:
    description = flag.help.replace("[", r"\[").replace("]", r"\]").replace(":", r"\:")
    spelling = ("*" if flag.repeatable else "") + name
    if not flag.takes_value:
        return f"{spelling}[{description}]"
    action = f"({' '.join(flag.choices)})" if flag.choices else "_files"
    return f"{spelling}[{description}]:{name.lstrip('-')}:{action}"


def zsh_quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def fish(tree: list[Verb]) -> str:
    """Write the fish script, with a description beside every verb and option."""
    lines = [f"# fish completion for illada ({HEADER})"]
    for verb in tree:
        lines.append(
            f"complete -c illada -n __fish_use_subcommand -f -a {verb.name}"
            f" -d {fish_quote(verb.help)}"
        )
    for verb in tree:
        for flag in verb.flags:
            parts = [f'complete -c illada -n "__fish_seen_subcommand_from {verb.name}"']
            parts += [f"-l {n[2:]}" if n.startswith("--") else f"-s {n[1:]}" for n in flag.names]
            if flag.choices:
                parts.append(f"-x -a {fish_quote(' '.join(flag.choices))}")
            elif flag.takes_value:
                parts.append("-r")
            parts.append(f"-d {fish_quote(flag.help)}")
            lines.append(" ".join(parts))
    return "\n".join(lines) + "\n"


def fish_quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def scripts() -> dict[str, str]:
    """Return the content of every completion script by its file name."""
    tree = command_tree()
    return {"illada.bash": bash(tree), "_illada": zsh(tree), "illada.fish": fish(tree)}


def main() -> None:
    """Rewrite the scripts; say which ones changed."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in scripts().items():
        path = FOLDER / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(f"wrote {path.name}", file=sys.stderr)


if __name__ == "__main__":
    main()
