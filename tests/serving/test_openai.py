"""The client of the openai package against a server, and the same asked of the command line."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

openai = pytest.importorskip("openai")

SHORT = {"block_length": 8, "max_new_tokens": 24}  # as the server is started
MESSAGES = [{"role": "user", "content": "Why is the sky blue?"}]
WARM = {"temperature": 1.0, "seed": 7}


def joined(stream):
    """Return the texts of a stream by index, and why each ended."""
    texts, reasons = {}, {}
    for chunk in stream:
        for choice in chunk.choices:
            piece = choice.delta.content if hasattr(choice, "delta") else choice.text
            texts[choice.index] = texts.get(choice.index, "") + (piece or "")
            if choice.finish_reason:
                assert choice.index not in reasons
                reasons[choice.index] = choice.finish_reason
    return texts, reasons


def test_the_example_of_the_openai_package_works(server):
    client = server.client()
    (model,) = client.models.list().data
    assert client.models.retrieve(model.id).id == model.id
    done = client.chat.completions.create(model=model.id, messages=MESSAGES)
    assert done.object == "chat.completion"
    assert done.choices[0].message.role == "assistant"
    assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens
    assert done.usage.illada["forwards"] > 0


def test_a_seed_gives_what_it_gives_by_every_way_of_asking(server, model):
    prompts = [{"prompt": "Once upon"}, {"messages": MESSAGES}]
    found = [each for prompt in prompts for each in model.sample(prompt, 3, **SHORT, **WARM)]
    client = server.client()
    done = client.completions.create(model="any", prompt="Once upon", n=3, **WARM)
    assert [choice.text for choice in done.choices] == [each.text for each in found[:3]]
    assert done.usage.completion_tokens == sum(each.new_tokens for each in found[:3])
    assert done.usage.illada["forwards"] == sum(each.forwards for each in found[:3])
    answers = client.chat.completions.create(model="any", messages=MESSAGES, n=3, **WARM).choices
    assert [each.message.content for each in answers] == [each.text for each in found[3:]]
    ours = {"eos": "stop", "length": "length"}
    assert [each.finish_reason for each in answers] == [
        ours[each.finish_reason] for each in found[3:]
    ]


def test_many_unlike_each_other_get_what_each_gets_alone(server, model):
    settings = [
        {"temperature": number % 3 / 2, "seed": number, "block_length": (4, 8, 12)[number % 3]}
        for number in range(18)
    ]
    prompts = [f"The number {number} is" for number in range(18)]
    client = server.client()
    before = server.metric("model_calls_total"), server.metric("forwards_total")

    def ask(number):
        own = dict(settings[number])
        extra = {"block_length": own.pop("block_length")}
        done = client.completions.create(
            model="any", prompt=prompts[number], max_tokens=20, extra_body=extra, **own
        )
        return done.choices[0].text

    with ThreadPoolExecutor(18) as pool:
        texts = list(pool.map(ask, range(18)))
    calls = server.metric("model_calls_total") - before[0]
    assert calls < (server.metric("forwards_total") - before[1]) / 2
    for prompt, own, text in zip(prompts, settings, texts, strict=True):
        assert model.generate(prompt, max_new_tokens=20, **own).text == text


def test_fifty_alike_equal_the_lines_of_generate_byte_for_byte(server, illada, byte_model):
    prompts = [f"{number} and {number}" for number in range(50)]
    client = server.client()

    def ask(prompt):
        done = client.completions.create(model="any", prompt=prompt, max_tokens=16, **WARM)
        return done.choices[0].text

    with ThreadPoolExecutor(50) as pool:
        texts = list(pool.map(ask, prompts))
    lines = "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts)
    settings = ("--temperature", 1, "--seed", 7, "--max-new-tokens", 16, "--block-length", 8)
    asked = ("--ckpt", byte_model, "--jsonl", "-", "--json", *settings)
    alone = illada("generate", *asked, stdin=lines).stdout.splitlines()
    for text, line in zip(texts, alone, strict=True):
        assert text.encode() == json.loads(line)["text"].encode()


@pytest.mark.parametrize("stop", [None, "a", ["\ufffd\ufffd", "e"], ["never to be seen"]])
def test_a_stream_is_the_text_in_pieces(server, stop):
    client = server.client()
    asked = {"model": "any", "stop": stop, "n": 3, "max_tokens": 24, **WARM}
    whole = client.chat.completions.create(messages=MESSAGES, **asked)
    options = {"include_usage": True}
    stream = list(
        client.chat.completions.create(
            messages=MESSAGES, stream=True, stream_options=options, **asked
        )
    )
    texts, reasons = joined(stream)
    assert [texts[index] for index in range(3)] == [each.message.content for each in whole.choices]
    assert [reasons[index] for index in range(3)] == [each.finish_reason for each in whole.choices]
    assert stream[-1].usage == whole.usage
    assert len({chunk.id for chunk in stream}) == 1
    plain = client.completions.create(model="any", prompt="Once", n=2, **WARM)
    pieces = client.completions.create(model="any", prompt="Once", n=2, stream=True, **WARM)
    assert joined(pieces)[0] == {each.index: each.text for each in plain.choices}


def test_a_text_ends_before_a_stop_string_wherever_blocks_end(server):
    client = server.client()
    asked = {"model": "any", "prompt": "Once", "temperature": 1.0, "max_tokens": 40}
    for seed in range(30):
        whole = client.completions.create(seed=seed, **asked).choices[0].text
        place = whole.find(whole[12:15])
        if len(whole) > 20 and place > 8 and "\ufffd" not in whole[12:15]:
            break
    else:
        raise AssertionError("no seed gives a text for this test")
    cut = client.completions.create(seed=seed, stop=whole[12:15], **asked).choices[0]
    assert (cut.text, cut.finish_reason) == (whole[:place], "stop")


def test_a_suffix_is_what_the_text_leads_to(server):
    client = server.client()
    asked = {"model": "any", "prompt": "def f(x):\n", "max_tokens": 12, **WARM}
    between = client.completions.create(suffix="    return y", **asked).choices[0].text
    body = {"text": "def f(x):\n[MASK]    return y", "max_new_tokens": 12, **WARM}
    (filled,) = server.ask("/v1/infill", body)[1]["choices"]
    assert filled["text"] == f"def f(x):\n{between}    return y"
    assert between != client.completions.create(**asked).choices[0].text
    pieces = client.completions.create(suffix="    return y", stream=True, **asked)
    assert joined(pieces)[0] == {0: between}


def test_prompts_may_be_many_and_ids(server):
    client = server.client()
    tokens = server.ask("/tokenize", {"content": "Once"})[1]["tokens"]
    one = client.completions.create(model="any", prompt="Once", **WARM).choices[0].text
    for prompt in (tokens, [tokens], ["Once"]):
        assert client.completions.create(model="any", prompt=prompt, **WARM).choices[0].text == one
    two = client.completions.create(model="any", prompt=["Once", "Twice"], n=2, **WARM)
    assert [each.index for each in two.choices] == [0, 1, 2, 3]
    assert two.choices[0].text == one
    assert two.usage.prompt_tokens == 9
    assert server.ask("/detokenize", {"tokens": tokens})[1]["content"] == "Once"


def test_control_strings_in_a_message_are_text(server):
    spelled = [{"role": "user", "content": "<[MASK]><|eot_id|><[EOS]>"}]
    done = server.client().chat.completions.create(model="any", messages=spelled)
    assert done.usage.prompt_tokens > len("<[MASK]><|eot_id|><[EOS]>")


def test_a_developer_is_a_system(server):
    client = server.client()
    texts = set()
    for role in ("developer", "system"):
        turns = [{"role": role, "content": "Be brief."}, *MESSAGES]
        done = client.chat.completions.create(model="any", messages=turns, **WARM)
        texts.add((done.choices[0].message.content, done.usage.prompt_tokens))
    assert len(texts) == 1


def test_settings_lie_flat_in_a_body(server, model):
    extra = {"threshold": 0.3, "block_length": 5, "steps_per_block": 2, "remasking": "margin"}
    done = server.client().completions.create(model="any", prompt="Once", extra_body=extra, **WARM)
    found = model.generate("Once", **{**SHORT, **WARM, **extra})
    assert done.choices[0].text == found.text
    assert done.usage.illada["forwards"] == found.forwards


def test_scores_are_those_of_every_way_of_asking(server, model):
    item = {"prompt": "The sky is", "choices": [" blue", " green"], "answer": 1}
    status, found = server.ask("/v1/score", {**item, "rule": "likelihood", "samples": 32})
    assert status == 200
    told = model.score(item, rule="likelihood", samples=32).fields()
    assert {name: found[name] for name in told} == told


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"logprobs": True}, "logprobs"),
        ({"logit_bias": {"5": 3}}, "logit_bias"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"n": 9}, "n must be 1 to 8"),
        ({"temperature": -1}, "temperature must be at least 0"),
        ({"temperature": True}, "temperature is a number"),
        ({"extra_body": {"block_lenght": 8}}, "block_length"),
        ({"extra_body": {"preset": "/etc/passwd"}}, "there is no preset"),
        ({"max_tokens": 3, "max_completion_tokens": 4}, "differ"),
        ({"extra_body": {"threshold": 0.5, "factor": 1}}, "commit rules"),
        ({"stop": ["a"] * 17}, "at most 16"),
        ({"extra_body": {"steps": 8}}, "steps_per_block"),
    ],
)
def test_what_cannot_be_honoured_is_refused(server, extra, words):
    with pytest.raises(openai.BadRequestError) as raised:
        server.client().chat.completions.create(model="any", messages=MESSAGES, **extra)
    assert words in raised.value.message
    assert raised.value.body["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{"role": "user"}],
        [{"role": "wizard", "content": "a"}],
        [{"role": "tool", "content": "a", "tool_call_id": "b"}],
        [*MESSAGES, {"role": "assistant", "content": "It"}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a"}}]}],
        [{"role": "user", "content": "a"}] * 1001,
        [{"role": "user", "content": "a" * 600}],
    ],
    ids=["none", "no text", "no role", "tool", "prefill", "image", "too many", "too long"],
)
def test_messages_that_cannot_be_answered_are_refused(server, messages):
    with pytest.raises(openai.BadRequestError):
        server.client().chat.completions.create(model="any", messages=messages)


def test_parts_of_text_are_a_text(server):
    parts = [{"type": "text", "text": "Why is "}, {"type": "text", "text": "the sky blue?"}]
    client = server.client()
    texts = {
        client.chat.completions.create(
            model="any", messages=[{"role": "user", "content": content}], **WARM
        )
        .choices[0]
        .message.content
        for content in (parts, MESSAGES[0]["content"])
    }
    assert len(texts) == 1


def test_neutral_values_are_no_wish(server):
    server.client().chat.completions.create(
        model="any",
        messages=MESSAGES,
        frequency_penalty=0,
        presence_penalty=0.0,
        logit_bias={},
        logprobs=False,
        response_format={"type": "text"},
        tool_choice="none",
        user="somebody",
        stream=False,
    )
