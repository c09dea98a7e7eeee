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
from illada_cli.words import Words

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

    @property
    def unfinished(self) -> tuple[str, ...]:
        """The choices after which more is to be typed."""
        return tuple(word for word in self.choices if word.endswith("="))


@dataclass(frozen=True)
class Verb:
    """One verb: `words` are what its arguments may be, beside files."""

    name: str
    help: str
    flags: tuple[Flag, ...]
    words: tuple[str, ...] = ()


def command_tree() -> list[Verb]:
    """Read every verb and its options from the signatures that define them."""
    return [read_verb(name, function) for name, function in VERBS.items()]


def read_verb(name: str, function: Callable[..., Any]) -> Verb:
    summary = (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ")
    flags = [Flag(("--help", "-h"), "Show this message and exit.", takes_value=False)]
    words: tuple[str, ...] = ()
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        annotation, *extras = get_args(parameter.annotation) or (parameter.annotation,)
        info = next((x for x in extras if isinstance(x, OptionInfo | ArgumentInfo)), None)
        found = tuple(word for x in extras if isinstance(x, Words) for word in x.find())
        if isinstance(info, OptionInfo):
            flags.extend(read_flags(parameter.name, annotation, info, found))
        else:
            words += found
    return Verb(name, summary.rstrip("."), tuple(flags), words)


def read_flags(
    name: str, annotation: Any, info: OptionInfo, words: tuple[str, ...]
) -> Iterator[Flag]:
    """Yield the flag of one option, and its opposite when it has one (`--x/--no-x`)."""
    # Inside Annotated, typer keeps the first declaration where a default would stand.
    first = (info.default,) if isinstance(info.default, str) else ()
    declarations = (*first, *(info.param_decls or ())) or ("--" + name.replace("_", "-"),)
    pairs = [declaration.split("/") for declaration in declarations if declaration[0] == "-"]
    is_flag = annotation is bool
    choices = choices_of(annotation) or words
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
    """Write the bash script: words after the verb, choices after a flag, files otherwise.

    Bash takes `--flag=value` and `key=value` apart at the sign.
    """
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
        '    if [[ "$word" == "=" ]]; then',
        '        word=""',
        '    elif [[ "$before" == "=" ]]; then',
        '        before="${COMP_WORDS[COMP_CWORD-2]}"',
        "    fi",
        '    case "${COMP_WORDS[1]} $before" in',
        *(f"        {line}" for verb in tree for line in bash_cases(verb)),
        "    esac",
        '    if [[ "$word" == -* ]]; then',
        '        case "${COMP_WORDS[1]}" in',
    ]
    for verb in tree:
        words = " ".join(name for flag in verb.flags for name in flag.names)
        lines.append(f"            {verb.name}) {bash_reply(words)} ;;")
    lines += [
        "        esac",
        "        return",
        "    fi",
        '    COMPREPLY=($(compgen -f -- "$word"))',
        '    case "${COMP_WORDS[1]}" in',
    ]
    for verb in tree:
        if verb.words:
            lines.append(f"        {verb.name}) {bash_reply(' '.join(verb.words), '+=')} ;;")
    lines += ["    esac", "}", "complete -o filenames -F _illada illada"]
    return "\n".join(lines) + "\n"


def bash_cases(verb: Verb) -> Iterator[str]:
    """Yield the branches for what follows each flag that takes a choice."""
    for flag in verb.flags:
        if flag.choices:
            yield from bash_branches(verb, flag)


def bash_branches(verb: Verb, flag: Flag) -> Iterator[str]:
    """Yield the branches for what follows a flag, and for what follows the keys it takes."""
    whole = [word for word in flag.choices if "=" not in word]
    patterns = "|".join(f'"{verb.name} {name}"' for name in flag.names)
    stay = "compopt -o nospace 2>/dev/null; " if flag.unfinished else ""
    yield f"{patterns}) {stay}{bash_reply(' '.join([*whole, *flag.unfinished]))}; return ;;"
    for key in flag.unfinished:
        values = [word.removeprefix(key) for word in flag.choices if word.startswith(key)]
        if any(values):
            words = " ".join(filter(None, values))
            yield f'"{verb.name} {key[:-1]}") {bash_reply(words)}; return ;;'


def bash_reply(words: str, sign: str = "=") -> str:
    """Return the command that offers those of some words which go on as what was typed."""
    return f'COMPREPLY{sign}($(compgen -W "{words}" -- "$word"))'


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
        lines.append(f"            {zsh_quote(zsh_arguments(verb))} ;;")
    lines += ["    esac", "}", '_illada "$@"']
    return "\n".join(lines) + "\n"


def zsh_option(flag: Flag, name: str) -> str:
    description = flag.help.replace("[", r"\[").replace("]", r"\]").replace(":", r"\:")
    spelling = ("*" if flag.repeatable else "") + name
    if not flag.takes_value:
        return f"{spelling}[{description}]"
    equals = "=" if name.startswith("--") else ""
    return f"{spelling}{equals}[{description}]:{name.lstrip('-')}:{zsh_action(flag)}"


def zsh_action(flag: Flag) -> str:
    """Return what zsh does to complete the value of a flag."""
    if flag.unfinished:
        return f"{{compadd -S '' -- {' '.join(flag.choices)}}}"
    return f"({' '.join(flag.choices)})" if flag.choices else "_files"


def zsh_arguments(verb: Verb) -> str:
    """Return what zsh does to complete the arguments of a verb."""
    words = f"compadd -- {' '.join(verb.words)}; " if verb.words else ""
    return f"*:file:{{{words}_files}}" if words else "*:file:_files"


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
        if verb.words:
            condition = f'-n "__fish_seen_subcommand_from {verb.name}"'
            lines.append(f"complete -c illada {condition} -a {fish_quote(' '.join(verb.words))}")
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
