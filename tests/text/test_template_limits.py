"""Templates come from strangers: whatever they ask for ends with a sentence, and soon."""

import resource
from datetime import datetime

import pytest

from illada_core.errors import DataError
from illada_core.text import template_child, template_plain
from illada_core.text.template_child import DateAsked, TemplateChild, render
from illada_core.text.template_environment import renders_here

MESSAGES = [{"role": "user", "content": "Qqq 1"}, {"role": "assistant", "content": "Aaa"}]
DOUBLED = "{% set ns = namespace(x='ab') %}" + "{% set ns.x = ns.x + ns.x %}" * 40 + "{{ ns.x }}"
MEMORY = {
    "product": "{{ 'a' * 3000000000 }}",
    "list": "{{ ([0] * 1000000000) | length }}",
    "power": "{{ 10 ** (10 ** 9) }}",
    "doubled": DOUBLED,
    "joined": DOUBLED.replace("ns.x + ns.x", "ns.x ~ ns.x"),
    "printed": "{% set x %}ab{% endset %}"
    + "{% set x %}{{ x }}{{ x }}{% endset %}" * 40
    + "{{ x }}",
    "macros": "{% macro a0() %}abc{% endmacro %}"
    + "".join(
        f"{{% macro a{n}() %}}{{{{ a{n - 1}() }}}}{{{{ a{n - 1}() }}}}{{% endmacro %}}"
        for n in range(1, 20)
    )
    + "{% for i in range(3000) %}{{ a19() }}{% endfor %}",
    "center": "{{ 'a' | center(3000000000) }}",
    "ljust": "{{ 'a'.ljust(3000000000) }}",
    "format": "{{ '%3000000000d' | format(1) }}",
    "percent": "{{ messages[0].content[:0] + '%3000000000d' % 1 }}",
    "braces": "{{ '{:3000000000}'.format(1) }}",
    "replaced": "{% set ns = namespace(x='a' + messages[0].content) %}"
    + "{% set ns.x = ns.x.replace('Q', 'QQQQQQQQ') %}" * 14
    + "{{ ns.x }}",
    "indented": "{{ messages | tojson(indent=1000000000) }}",
    "depth": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
}
HARMLESS = (
    "{% macro a(x) %}{{ x }}{% endmacro %}{% for m in messages %}{{ a(m.content) }}{% endfor %}"
)
HARMLESS = (
    "{% macro a(x) %}{{ x }}{% endmacro %}{% for m in messages %}{{ a(m.content) }}{% endfor %}"
)
TIME = {
    "loops": "{% for i in range(99999) %}" * 2 + "{{ i }}" + "{% endfor %}" * 2,
    "recursion": "{% for i in [1, 2] recursive %}{{ loop([1, 2]) if loop.depth < 90 }}{% endfor %}",
}


@pytest.fixture(scope="module")
def child():
    """A child that gives templates a second."""
    child = TemplateChild(seconds=1)
    yield child
    child.stop()


@pytest.fixture
def quick(child, monkeypatch):
    """The child that all of this module use."""
    monkeypatch.setattr(template_child, "CHILD", child)
    monkeypatch.setattr(template_plain, "MOST_SECONDS", 0.2)
    return child


@pytest.mark.parametrize("name", [*MEMORY, *TIME])
def test_a_template_that_asks_for_everything_ends_with_a_sentence(name, quick):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    source = {**MEMORY, **TIME}[name]
    with pytest.raises(DataError, match="the chat template fails: ") as caught:
        render(source, {"messages": MESSAGES}, datetime(2026, 1, 31))
    assert "\n" not in caught.value.sentence
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10
    assert not renders_here(HARMLESS)
    assert render(HARMLESS, {"messages": MESSAGES}, None) == "Qqq 1Aaa"  # the child goes on


def test_a_template_that_took_the_child_with_it_is_not_tried_again(quick):
    for _ in range(2):
        with pytest.raises(DataError, match="more than 1 s"):
            render(f"{TIME['recursion']}!", {"messages": MESSAGES}, None)
        assert quick.process is None


SAME = (
    "{% for m in messages %}{{ m.role.upper() + ': ' + m.content | trim }}{{ loop.last }}"
    "{{ loop.length }}{{ loop.index0 % 2 }}{% endfor %}{{ tools is none }}{{ messages | tojson }}"
    "{{ strftime_now('%d %B %Y') }}{{ missing }}"
    "{% if tools %}{{ raise_exception('no') }}{% endif %}"
)


def test_here_and_in_the_child_a_template_gives_the_same(quick):
    names = {"messages": MESSAGES, "tools": None}
    now = datetime(2026, 1, 31)
    assert renders_here(SAME)
    text = render(SAME, names, now)
    assert SAME not in quick.known
    assert quick.render(SAME, names, now) == text
    assert "USER: Qqq 1False20" in text
    assert "31 January 2026" in text
    for rendering in (render, quick.render):
        with pytest.raises(DateAsked):
            rendering(SAME, names, None)
        with pytest.raises(DataError, match="the chat template fails: no"):
            rendering(SAME, {**names, "tools": [1]}, now)
        with pytest.raises(DataError, match="the chat template fails: "):
            rendering("{% if %}", names, now)


def test_what_is_interrupted_does_not_answer_the_next(quick, monkeypatch):
    assert quick.render("{{ 1 * 2 }}", {}, None) == "2"

    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(quick.process.stdin, "flush", interrupt, raising=False)
    with pytest.raises(KeyboardInterrupt):
        quick.render("{{ 2 * 2 }}", {}, None)
    assert quick.render("{{ 3 * 2 }}", {}, None) == "6"
