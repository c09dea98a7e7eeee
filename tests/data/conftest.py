"""A small tokenizer of our own, trained once, alone and with a chat template."""

import random

import pytest

from illada_core.data.vocabulary import train_vocabulary, write_vocabulary

PHRASES = (
    "The quick brown fox jumps over the lazy dog. It's 1,024 tokens wide, isn't it?\n",
    "def noise(seed, row):\n    return words[seed] ^ row  # zwölf Boxkämpfer, 日本語, emoji 😀\n",
    "Alle Menschen sind frei und gleich an Würde und Rechten geboren.\n\n",
    "\tfor (int i = 0; i < 12345; i++) { total += weights[i] * 0.5; }\r\n",
)
TRAINING_TEXT = "".join(random.Random(0).choices(PHRASES, k=200))


@pytest.fixture(scope="session")
def tokenizer_file(tmp_path_factory):
    """The path of a tokenizer.json of 400 tokens, with its configuration beside it."""
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    write_vocabulary(train_vocabulary([TRAINING_TEXT], 400), path)
    return path


@pytest.fixture
def tokenizer_folder(tokenizer_file, tmp_path):
    """Return a function that makes a folder of the small tokenizer with a chat template."""

    def make(template):
        folder = tmp_path / "tokenizer"
        folder.mkdir()
        for file in tokenizer_file.parent.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        if template is not None:
            (folder / "chat_template.jinja").write_text(template)
        return folder

    return make


@pytest.fixture
def examples():
    """Conversations with text that looks like control tokens."""
    from tests.data.chat import random_messages  # which needs the phrases above

    generator = random.Random(0)
    return [random_messages(generator) for _ in range(60)]
