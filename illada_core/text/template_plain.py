"""Which templates may be rendered in this process: those that only walk through what they get.

Most released ones do. A plain template has a known effort: it loops over what there is, compares,
and joins texts, and all that can grow is counted. One that does more, or more than usual, goes to
the child, whose answer is the same (`template_child`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from math import inf
from typing import Any

from jinja2 import nodes

MOST_CHARACTERS = 8 << 20  # that may be made on the way, and printed
MOST_SECONDS = 1.0
FILTERS = {
    *("trim", "length", "count", "tojson", "string", "upper", "lower", "capitalize", "title"),
    *("first", "last", "list", "default", "d", "safe", "int", "float", "items"),
    *("selectattr", "rejectattr", "select", "reject", "counted"),
}
METHODS = {
    *("strip", "lstrip", "rstrip", "split", "rsplit", "startswith", "endswith", "upper", "lower"),
    *("title", "capitalize", "get", "items", "keys", "values", "replace", "find", "rfind"),
}
FUNCTIONS = {"raise_exception", "namespace", "strftime_now", "range"}
NODES = (
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.Scope, nodes.If, nodes.For),
    *(nodes.Assign, nodes.NSRef, nodes.Name, nodes.Const, nodes.Getattr, nodes.Getitem),
    *(nodes.Slice, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.CondExpr),
    *(nodes.Test, nodes.Keyword, nodes.Add, nodes.Sub, nodes.Mod, nodes.Neg),
    *(nodes.Break, nodes.Continue),
)


class TooMuch(Exception):
    """A plain template that does more than most: it belongs into the child."""


class Effort(threading.local):
    """What the rendering in this thread may still do; in the child other limits hold."""

    characters = inf
    until_s = inf

    def begin(self) -> None:
        """Count from here on."""
        self.characters, self.until_s = MOST_CHARACTERS, time.monotonic() + MOST_SECONDS

    def end(self) -> None:
        """Count no longer."""
        self.characters = self.until_s = inf

    def spend(self, characters: int) -> None:
        """Count characters that are made. Raises TooMuch."""
        self.characters -= characters
        if self.characters < 0:
            raise TooMuch


EFFORT = Effort()


def is_plain(tree: nodes.Template) -> bool:
    """Tell whether a template is of the kind whose effort is known."""
    waiting: list[nodes.Node] = [tree]
    while waiting:
        node = waiting.pop()
        if not is_plain_node(node):
            return False
        waiting += node.iter_child_nodes()
    return True


def is_plain_node(node: nodes.Node) -> bool:
    """Tell whether one node of a template is plain, apart from those in it."""
    match node:
        case nodes.For():
            return not node.recursive
        case nodes.Filter():
            return node.name in FILTERS and (node.name != "tojson" or not node.args + node.kwargs)
        case nodes.Call(node=nodes.Getattr(attr=method)):
            return method in METHODS
        case nodes.Call(node=nodes.Name(name="strftime_now"), args=[nodes.Const(value=str(form))]):
            return len(form) < 100 and not any(letter.isdigit() for letter in form)
        case nodes.Call(node=nodes.Name(name=function)):
            return function in FUNCTIONS and function != "strftime_now"
        case nodes.List() | nodes.Tuple() if isinstance(node, nodes.List) or node.ctx == "load":
            return all(isinstance(item, nodes.Const) for item in node.items)
        case nodes.Tuple():
            return True
    return isinstance(node, NODES)


def counted(items: Iterable[Any]) -> Iterator[Any]:
    """Pass items on to a loop. Raises TooMuch when the time is over."""
    until_s = EFFORT.until_s
    for item in items:
        if time.monotonic() > until_s:
            raise TooMuch
        yield item


def joined(parts: Iterable[str]) -> str:
    """Join what a template prints."""
    kept, left = [], EFFORT.characters
    for part in parts:
        left -= len(part)
        if left < 0:
            raise TooMuch
        kept.append(part)
    return "".join(kept)


def count_operator(operator: str, left: Any, right: Any) -> None:
    """Count what an operator makes of texts. Raises TooMuch for one that formats."""
    if isinstance(left, str | list | tuple):
        EFFORT.spend(len(left) + len(right) if operator == "+" else MOST_CHARACTERS + 1)


def count_replace(method: Any, old: Any, new: Any, *_: Any) -> None:
    """Count what `text.replace(old, new)` makes."""
    text = getattr(method, "__self__", None)
    if isinstance(text, str) and isinstance(old, str) and isinstance(new, str):
        EFFORT.spend(len(text) + text.count(old) * len(new))
