"""Lines of JSON in all their shapes as the same conversation."""

import json

import pytest

from illada_core.data.build.shapes import SHAPES, Unusable, read_dialogue
from illada_core.text.messages import Message

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello!"},
]
SAME = [
    {"messages": TALK},
    {"conversations": TALK},
    {"system": "Be brief.", "prompt": "Hi", "response": "Hello!"},
    {"system": "Be brief.", "prompt": "Hi", "completion": "Hello!"},
    {"prompt": TALK[:2], "completion": TALK[2:]},
    {
        "conversations": [
            {"from": "system", "value": "Be brief."},
            {"from": "human", "value": "Hi"},
            {"from": "gpt", "value": "Hello!"},
        ]
    },
    {
        "system": "Be brief.",
        "conversations": [{"from": "user", "value": "Hi"}, {"from": "model", "value": "Hello!"}],
    },
    {"system": "Be brief.", "instruction": "Hi", "output": "Hello!"},
    {"system": "Be brief.", "instruction": "Hi", "input": "", "output": "Hello!", "text": "?"},
    {"messages": TALK, "prompt": "x", "response": None, "id": 7},
]


@pytest.mark.parametrize("fields", SAME)
def test_every_shape_is_the_same_conversation(fields):
    dialogue = read_dialogue(json.dumps(fields))
    assert dialogue.messages == tuple(Message(**message) for message in TALK)
    assert dialogue.tools is None


def test_an_input_follows_its_instruction_and_a_history_comes_before_it():
    fields = {
        "instruction": "Add.",
        "input": "2 2",
        "output": "4",
        "history": [["Hi", "Hello!"]],
    }
    said = [(m.role, m.content) for m in read_dialogue(json.dumps(fields)).messages]
    assert said == [
        ("user", "Hi"),
        ("assistant", "Hello!"),
        ("user", "Add.\n2 2"),
        ("assistant", "4"),
    ]


def test_tools_and_calls_of_them_come_through():
    call = {"name": "add", "arguments": {"a": 1}}
    fields = {
        "conversations": [
            {"from": "human", "value": "add"},
            {"from": "function_call", "value": json.dumps(call)},
            {"from": "observation", "value": "4"},
            {"from": "gpt", "value": "It is 4."},
        ],
        "tools": json.dumps([{"name": "add"}]),
        "chat_template_kwargs": {"enable_thinking": False},
    }
    dialogue = read_dialogue(json.dumps(fields))
    assert [m.role for m in dialogue.messages] == ["user", "assistant", "tool", "assistant"]
    assert dialogue.messages[1].facts["tool_calls"] == [{"type": "function", "function": call}]
    assert dialogue.tools == [{"name": "add"}]
    assert dialogue.variables == {"enable_thinking": False}


WRONG = {
    '{"text": "a"}': SHAPES,
    '{"chosen": [], "rejected": []}': SHAPES,
    '{"instruction": "a"}': SHAPES,
    '{"conversations": "a"}': "a list of objects",
    '{"conversations": [{"from": "alien", "value": "a"}]}': "from 'alien'",
    '{"conversations": [{"from": "function_call", "value": "{"}]}': "no JSON",
    '{"conversations": [{"from": "gpt", "value": 5}]}': "no text",
    '{"instruction": 5, "output": "a"}': "must be strings",
    '{"instruction": "a", "output": "a", "history": [1]}': "list of pairs",
    '{"prompt": "a", "response": "b", "images": ["x.png"]}': "holds images",
    '{"prompt": "a", "response": "b", "tools": {}}': "tools must be",
    '{"prompt": "a", "response": "b", "chat_template_kwargs": 1}': "not an object",
    '{"messages": {"role": "user"}}': "a list of at least one",
}


@pytest.mark.parametrize("line", WRONG)
def test_what_is_no_example_is_told_in_a_sentence(line):
    with pytest.raises(Unusable, match="no example") as caught:
        read_dialogue(line)
    assert WRONG[line] in caught.value.detail


@pytest.mark.parametrize("roles", ["uua", "sa", "a", "aua", "uasua", "duta", "uaua"])
def test_roles_may_come_in_any_order_as_long_as_the_assistant_ends(roles):
    names = {"u": "user", "a": "assistant", "s": "system", "t": "tool", "d": "developer"}
    messages = [{"role": names[letter], "content": "x"} for letter in roles]
    assert len(read_dialogue(json.dumps({"messages": messages})).messages) == len(roles)
