"""Answers read out of texts, compared, and made into programs: tables of what people write."""

import pytest

from illada_core.benchmark.definition import load_benchmark
from illada_core.benchmark.equality import are_equal
from illada_core.benchmark.extraction import EXTRACTIONS
from illada_core.benchmark.programs import program_of
from illada_core.benchmark.records import read_record
from illada_core.errors import DataError, UsageError

READ = [
    ("hashes", "It is 5.\n#### -1,234.50", "-1,234.50"),
    ("hashes", "#### 3\n#### 4", "4"),
    ("hashes", "<think>#### 3</think> It is 4.", None),
    ("hashes", "<think>a</think>b</think>#### $7", "$7"),
    ("hashes", "#### −8", "-8"),
    ("hashes", "#### eight", None),
    ("answer-is", "The answer is 12. Q: The answer is 13.", "12"),
    ("answer-is", "So the answer is: $1,200.", "$1,200"),
    ("answer-is-words", "So the answer is (B).\nQ: The answer is (C).", "(B)"),
    ("answer-is-words", "The answer is: apple lamp. tree ", "apple lamp. tree"),
    ("answer-is-words", "The answer is\nTrue", None),
    ("last-number", "3 and 4.5, or 1,000.", "1,000"),
    ("last-number", "no number", None),
    ("final-answer", r"\boxed{1} then \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
    ("final-answer", r"open \boxed{1", None),
    ("final-answer", "The final answer is $x+1$. I hope it is right.", "x+1"),
    ("first-letter", "B. because", "B"),
    ("first-letter", "(C)", "C"),
    ("first-letter", "The B", None),
    ("first-letter", "A's", None),
    ("answer-letter", "A or B? The answer is (C). D", "C"),
    ("answer-letter", "answer: **B**", "B"),
    ("answer-letter", r"\boxed{\text{D}}", "D"),
    ("answer-letter", "I'd say B", "B"),
    ("answer-letter", "nothing", None),
    ("fence", "a\n```python\nx = 1\n```\nb\n```\ny = 2\n```", "y = 2"),
    ("fence", "```python\nx = 1", "x = 1"),
    ("fence", "Sure. Here:\ndef f():\n    pass", "def f():\n    pass"),
    ("fence", "no code", None),
    ("whole", " yes \n", "yes"),
    ("completion", "    return 1\n", "    return 1\n"),
    ("completion", "\n", None),
]


@pytest.mark.parametrize(("way", "text", "found"), READ)
def test_an_answer_is_read_where_a_text_says_it(way, text, found):
    assert EXTRACTIONS[way](text) == found


EQUAL = [
    ("number", "$1,234.50", "1234.5", True),
    ("number", "12.", "12", True),
    ("number", "12", "12.5", False),
    ("number", "NaN", "NaN", False),
    ("number", "", "0", False),
    ("text", " b", "B", True),
    ("mathematics", r"\dfrac12", r"\frac{1}{2}", True),
    ("mathematics", "0.5", r"\frac{1}{2}", True),
    ("mathematics", "1/2", r"\tfrac{1}{2}", True),
    ("mathematics", r"-\frac{3}{6}", "-0.5", True),
    ("mathematics", r"x = 5", "5", True),
    ("mathematics", r"\left( -3, 3 \right)", "(-3,3)", True),
    ("mathematics", r"90^\circ", "90", True),
    ("mathematics", r"12\text{ cm}", "12", True),
    ("mathematics", r"\text{even}", r"\text{odd}", False),
    ("mathematics", r"\text{even}", "even", True),
    ("mathematics", r"10,000", "10000", True),
    ("mathematics", r"\sqrt2", r"\sqrt{2}", True),
    ("mathematics", "(1,234)", "(1234)", True),
    ("mathematics", r"\frac{1}{0}", "0", False),
    ("mathematics", "", "", False),
    ("mathematics", "x+1", "x-1", False),
]


@pytest.mark.parametrize(("how", "found", "wanted", "equal"), EQUAL)
def test_answers_that_mean_the_same_are_equal(how, found, wanted, equal):
    assert are_equal(found, wanted, how) is equal
    assert are_equal(wanted, found, how) is equal


HUMAN = {
    "prompt": 'import math\n\ndef f(x):\n    """Floor."""\n',
    "entry_point": "f",
    "test": "def check(c):\n    assert c(1.5) == 1\n",
}


def test_a_program_has_what_stands_before_its_function():
    fields = {**HUMAN, "program_test": HUMAN["test"] + "\ncheck(f)"}
    whole = program_of("```python\ndef f(x):\n    return math.floor(x)\n```", "fence", fields)
    body = program_of("    return math.floor(x)\n", "completion", fields)
    for program in (whole, body):
        exec(compile(program, "program", "exec"), {})
    assert program_of("", "completion", fields) is None


def test_known_shapes_of_items_give_the_fields_of_templates():
    gsm8k = load_benchmark("gsm8k")
    hub = read_record(0, {"question": "Q", "answer": "a <<1+1=2>>\n#### 1,002"}, gsm8k)
    other = read_record(0, {"context": "Q", "chain_of_thought": "c", "answer": "1002"}, gsm8k)
    assert (hub.fields["chain"], hub.answer) == ("a <<1+1=2>>", "1,002")
    assert (other.fields["question"], other.answer) == ("Q", "1002")
    arc = load_benchmark("arc_easy")
    doc = {"query": "Question: Why?\n", "choices": ["x", "y"], "gold": 1}
    assert read_record(0, doc, arc).fields["question"] == "Why?"
    with pytest.raises(DataError, match="no answer"):
        read_record(0, {"query": "Why?", "choices": ["x", "y"]}, arc)
    with pytest.raises(DataError, match="no entry_point"):
        read_record(0, {"prompt": "p"}, load_benchmark("humaneval"))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('title = "x"', "one table"),
        ('[task]\ntitle = "x"\nkind = "choice"\nprompt = ""', "kind"),
        ('[task]\ntitle = "x"\nkind = "text"\nprompt = "{question}"', "filters"),
        ('[task]\ntitle = "x"\nkind = "choices"\nprompt = "{Question}"', "no field"),
        ('[task]\ntitle = "x"\nkind = "choices"\nprompt = ""\nshot = 1', "shot is unknown"),
        (
            '[task]\ntitle = "x"\nkind = "code"\nprompt = ""\nfilters = { a = "hashes" }',
            "filters of code",
        ),
    ],
)
def test_a_task_file_that_cannot_be_is_refused(lines, said, tmp_path):
    (tmp_path / "mine.toml").write_text(lines)
    with pytest.raises(UsageError, match=said):
        load_benchmark(str(tmp_path / "mine.toml"))
