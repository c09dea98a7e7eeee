"""Items in the shapes people have them, and answers that are understood or refused."""

import pytest

from illada_core.errors import DataError, UsageError
from illada_core.evaluation.shapes import parse_map, read_choice_request

WORDS = ["iron", "glass", "wool", "salt"]
LABELLED = {"text": WORDS, "label": ["A", "B", "C", "D"]}
SHAPES = {
    "ours": {"prompt": "Which melts?", "choices": WORDS, "answer": 2},
    "harness": {"query": "Which melts?", "choices": WORDS, "gold": 2},
    "arc": {"id": "x", "question": "Which melts?", "choices": LABELLED, "answerKey": "C"},
    "arc, numbered": {
        "question": "Which melts?",
        "choices": {"text": WORDS, "label": ["1", "2", "3", "4"]},
        "answerKey": "3",
    },
    "arc, first files": {
        "question": {
            "stem": "Which melts?",
            "choices": [
                {"text": text, "label": label} for text, label in zip(WORDS, "ABCD", strict=True)
            ],
        },
        "answerKey": "C",
    },
    "openbook": {"question_stem": "Which melts?", "choices": LABELLED, "answerKey": "C"},
    "letters": {"question": "Which melts?", "options": WORDS, "answer": "C", "answer_index": 2},
    "named": {
        "question": "Which melts?",
        "options": dict(zip("ABCD", WORDS, strict=True)),
        "answer": "C",
    },
    "text": {"question": "Which melts?", "choices": WORDS, "answer": "wool"},
    "hellaswag": {"ctx": "Which melts?", "ctx_a": "Which", "endings": WORDS, "label": 2},
    "hellaswag, as text": {
        "ctx": "Which melts?",
        "endings": WORDS,
        "label": "2",
        "activity_label": "Melting",
    },
}


@pytest.mark.parametrize("fields", SHAPES.values(), ids=SHAPES)
def test_every_shape_is_the_same_item(fields):
    request = read_choice_request(3, fields)
    assert (request.prompt, list(request.choices)) == ("Which melts?", WORDS)
    assert (request.answer, request.line, request.id) == (2, 3, fields.get("id"))
    assert request.contexts == ()


def test_the_two_ways_of_piqa():
    fields = {"goal": "Open a jar.", "sol1": "Twist the lid.", "sol2": "Shout.", "label": 0}
    request = read_choice_request(1, fields)
    assert request.prompt == "Open a jar."
    assert (list(request.choices), request.answer) == (["Twist the lid.", "Shout."], 0)


def test_winogrande_asks_which_context_makes_its_continuation_likelier():
    options = ["The cup fell on the tile and the cup", "The cup fell on the tile and the tile"]
    fields = {"context_options": options, "continuation": "broke.", "gold": 0}
    request = read_choice_request(1, fields)
    assert request.contexts == tuple(options)
    assert (list(request.choices), request.answer) == (["broke."] * 2, 0)
    assert request == read_choice_request(
        1,
        {
            "sentence": "The cup fell on the tile and the _ broke.",
            "option1": "cup",
            "option2": "tile",
            "answer": "1",
        },
    )


def test_a_context_and_its_continuation_are_one_choice():
    request = read_choice_request(1, {"context": "The sky is", "continuation": " blue"})
    assert (request.prompt, list(request.choices)) == ("The sky is", [" blue"])
    assert request.answer is None


@pytest.mark.parametrize("name", ["answer", "gold", "answerKey", "label"])
@pytest.mark.parametrize("answer", [4, -1, 1.0, True, "", "E", "4", "Iron", [0], {"text": "iron"}])
def test_an_answer_that_is_not_understood_is_an_error_never_none(name, answer):
    for choices in (WORDS, LABELLED):
        with pytest.raises(DataError, match=r"the answer .* is none of the 4 choices"):
            read_choice_request(1, {"prompt": "p", "choices": choices, name: answer})


@pytest.mark.parametrize(
    ("name", "answer", "choices"),
    [
        ("label", "2", ["1", "2", "3"]),
        ("answer", "B", {"text": ["B", "A"], "label": ["A", "B"]}),
        ("answer", 2, {"text": ["x", "y", "z"], "label": ["1", "2", "3"]}),
    ],
)
def test_an_answer_that_may_mean_two_choices_is_an_error(name, answer, choices):
    fields = {"prompt": "p", "choices": choices}
    with pytest.raises(DataError, match="may mean choice"):
        read_choice_request(1, {**fields, name: answer})
    assert read_choice_request(1, {**fields, "gold": 1}).answer == 1


def test_a_text_is_meant_where_choices_without_labels_are_letters():
    fields = {"prompt": "p", "choices": ["B", "A"], "answer": "B"}
    assert read_choice_request(1, fields).answer == 0


@pytest.mark.parametrize("name", ["expected_index", "correct", "answer_idx", "target"])
def test_an_answer_where_nobody_looks_is_told_and_can_be_mapped(name):
    fields = {"prompt": "p", "choices": WORDS, name: 1}
    with pytest.raises(DataError, match=f"{name} seems to hold the answer") as caught:
        read_choice_request(1, fields)
    assert f"--map answer={name}" in caught.value.hint
    assert read_choice_request(1, fields, parse_map([f"answer={name}"])).answer == 1
    assert read_choice_request(1, fields, parse_map(["answer="])).answer is None
    assert read_choice_request(1, {**fields, "answer": None}).answer is None
    assert read_choice_request(1, {**fields, name: None}).answer is None


def test_fields_are_read_under_other_names_and_paths():
    fields = {
        "text": {"stem": "p"},
        "question": "another",
        "wrong.or.right": ["x", "y"],
        "meta": {"key": {"place": 1}},
        "label": "physics",
        "qid": 7,
    }
    names = ["prompt=text.stem", "choices=wrong.or.right", "gold=meta.key.place", "id=qid"]
    request = read_choice_request(1, fields, parse_map(names))
    assert (request.prompt, request.answer, request.id) == ("p", 1, 7)
    with pytest.raises(DataError, match=r"there is no field text\.body"):
        read_choice_request(1, fields, parse_map(["prompt=text.body"]))


@pytest.mark.parametrize("pair", ["prompt", "promt=x", "prompt=", "=x"])
def test_a_map_of_nothing_is_a_usage_error(pair):
    with pytest.raises(UsageError, match="--map"):
        parse_map([pair])


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, "a line must hold prompt"),
        ({"context": "c", "answer": "18", "chain_of_thought": "t"}, "choices .* must be a list"),
        ({"context": "c", "question": "q", "choices": WORDS}, "both question and context"),
        ({"prompt": "p", "choices": WORDS, "endings": WORDS}, "both choices and endings"),
        ({"prompt": "p", "choices": WORDS, "gold": 0, "label": 1}, "both gold and label"),
        ({"prompt": 3, "choices": WORDS}, "a line must hold prompt"),
        ({"goal": "p", "sol1": "x"}, "choices must be strings"),
        ({"prompt": "p", "choices": {"text": WORDS, "label": ["A"]}}, "4 choices and 1 labels"),
        ({"context_options": "one", "continuation": "c"}, "options must be a list of strings"),
        ({"context_options": ["a", "b"]}, "must hold continuation"),
        ({"sentence": "no gap", "option1": "a", "option2": "b"}, "has no gap"),
        ({"sentence": "a _ b", "option1": "a"}, "options must be a list of strings"),
    ],
)
def test_what_is_no_item_is_told(fields, told):
    with pytest.raises(DataError, match=told):
        read_choice_request(1, fields)
