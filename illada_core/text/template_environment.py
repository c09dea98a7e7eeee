"""The jinja2 environment that released chat templates are written for: what transformers gives.

Templates are foreign code: they run in a sandbox that cannot change what it is given.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from jinja2 import Template, nodes
from jinja2 import TemplateError as TemplateError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment


class Generation(Extension):
    """`{% generation %}` marks what the assistant says; what stands in it is printed as it is."""

    tags = {"generation"}  # noqa: RUF012 - the name and the type that jinja2 looks for

    def parse(self, parser: Parser) -> nodes.Node:
        """Take the tags away and leave what stands between them, in a scope of its own."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


@lru_cache(maxsize=16)
def compile_template(source: str) -> Template:
    """Compile a template: a dataset renders one for each of its examples."""
    return environment().from_string(source)


@lru_cache(maxsize=1)
def environment() -> ImmutableSandboxedEnvironment:
    """Return the environment; it holds nothing of any template."""
    sandbox = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    sandbox.filters["tojson"] = to_json
    sandbox.globals["raise_exception"] = refuse
    return sandbox


def to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Write JSON as templates expect it: not escaped for HTML."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def refuse(reason: str) -> None:
    """Fail as a template asks for."""
    raise TemplateError(reason)


@lru_cache(maxsize=16)
def literals_of(source: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the strings of a template: those of its expressions, and the text it prints as it is.

    None where the template cannot be parsed.
    """
    tree = environment().parse(source)
    constants = frozenset(
        found.value for found in tree.find_all(nodes.Const) if isinstance(found.value, str)
    )
    return constants, frozenset(found.data for found in tree.find_all(nodes.TemplateData))
