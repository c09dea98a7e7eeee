"""The jinja2 environment that released chat templates are written for: what transformers gives.

Templates are foreign code: they run in a sandbox that cannot change what it is given.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from jinja2 import Template, nodes, pass_context
from jinja2 import TemplateError as TemplateError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from illada_core.text.template_plain import (
    EFFORT,
    TooMuch,
    count_operator,
    count_replace,
    counted,
    is_plain,
    joined,
)

COUNTED = "counted"  # the filter that every loop gets; is_plain knows the node that it makes


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


class CountingEnvironment(ImmutableSandboxedEnvironment):
    """A sandbox that counts what may grow: joined and replaced texts, loops, what is printed."""

    intercepted_binops = frozenset(["+", "%"])
    concat = staticmethod(joined)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for loop in tree.find_all(nodes.For):
            loop.iter = nodes.Filter(loop.iter, COUNTED, [], [], None, None, lineno=loop.lineno)
        return tree

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Count what an operator does before it does it."""
        count_operator(operator, left, right)
        return self.binop_table[operator](left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """Count what a method makes that can make more than there was."""
        if len(args) >= 2 and getattr(__obj, "__name__", "") == "replace":
            count_replace(__obj, *args)
        return super().call(__context, __obj, *args, **kwargs)


@lru_cache(maxsize=1)
def environment() -> CountingEnvironment:
    """Return the environment; it holds nothing of any template."""
    sandbox = CountingEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    sandbox.filters["tojson"] = to_json
    sandbox.filters[COUNTED] = pass_context(lambda _, items: counted(items))
    sandbox.globals["raise_exception"] = refuse
    return sandbox


def render_plain(source: str, names: Mapping[str, Any]) -> str | None:
    """Return the text of a plain template; None where that is for the child to do.

    Raises what the template raises.
    """
    if not renders_here(source):
        return None
    EFFORT.begin()
    try:
        return compile_template(source).render(names)
    except (TooMuch, MemoryError):
        return None
    finally:
        EFFORT.end()


@lru_cache(maxsize=16)
def renders_here(source: str) -> bool:
    """Tell whether a template is plain."""
    try:
        return is_plain(environment().parse(source))
    except RecursionError:
        return False


def to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Write JSON as templates expect it: not escaped for HTML."""
    text = json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )
    EFFORT.spend(len(text))
    return text


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
