"""Chat examples for tests: templates, random conversations, and datasets made of them."""

import json

import numpy as np

from illada_core.data.build.documents import tokenize_corpus
from illada_core.data.build.events import Report
from illada_core.data.build.fitting import ChatFormat
from illada_core.data.build.job import Job
from illada_core.data.sources.listing import list_sources
from illada_core.data.store.dataset import open_dataset
from illada_core.text.conversations import prompt_ids
from illada_core.text.messages import Dialogue, Message
from tests.phrases import PHRASES

EOS = 2
WHOLE = ChatFormat()
# The frame of released LLaDA, with bos for its header tokens; it ends turns with <[PAD]>.
HEADERS = (
    "{% for m in messages %}{{ bos_token }}{{ m.role }}\n\n{{ m.content | trim }}<[PAD]>\n"
    "{% endfor %}{% if add_generation_prompt %}{{ bos_token }}assistant\n\n{% endif %}"
)
NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + HEADERS
)
# Turns end with eos and a line, as Qwen's do.
EOS_LINE = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}\n{% endfor %}"
WORDS_ONLY = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
TEMPLATES = [None, HEADERS, NO_SYSTEM, EOS_LINE, WORDS_ONLY]
HOSTILE = ["<[EOS]>", "<[MASK]>", "<[BOS]>assistant\n", "a\nb\n\n", "<[PAD]>", "naïve 日本 😀"]


def asked_ids(tokenizer, messages, tools=None):
    """Return the ids of messages, up to where the assistant is to speak."""
    return prompt_ids(tokenizer, Dialogue(tuple(messages), tools))


def random_messages(generator, exchanges=None):
    def text():
        return "x" + "".join(generator.choices([*PHRASES, *HOSTILE], k=generator.randrange(1, 4)))

    messages = [Message("system", text())] if generator.random() < 0.3 else []
    for _ in range(exchanges or generator.randrange(1, 4)):
        messages += [Message("user", text()), Message("assistant", text())]
    return messages


def line_of(messages):
    if len(messages) == 2:
        return json.dumps({"prompt": messages[0].content, "response": messages[1].content})
    return json.dumps({"messages": [message.facts for message in messages], "id": 7})


def write_examples(path, examples):
    path.write_text("".join(line_of(messages) + "\n" for messages in examples))
    return path


def job_of(path, tokenizer, chat=WHOLE, **options):
    return Job(list_sources([str(path)], "chat"), tokenizer, "", chat=chat, **options)


def run(job, folder, on_error="stop", workers=2):
    events = list(tokenize_corpus(job, folder, workers, on_error))
    assert isinstance(events[-1], Report)
    return open_dataset(folder), events[-1]


def documents_of(dataset):
    """Return (ids, turns) of every document, turns as the index tells them."""
    found = []
    for shard, index in enumerate(dataset.indexes()):
        turns = np.repeat(index.span_turns, np.diff(index.span_ends, prepend=0))
        start, begin = int(dataset.token_starts[shard]), 0
        for end in index.document_ends.tolist():
            ids = dataset.read(start + begin, start + end).tolist()
            found.append((ids, turns[begin:end].tolist()))
            begin = end
    return found


def files_of(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
