"""Text of many kinds, and enough of it to train a small tokenizer on."""

import random

PHRASES = (
    "The quick brown fox jumps over the lazy dog. It's 1,024 tokens wide, isn't it?\n",
    "def noise(seed, row):\n    return words[seed] ^ row  # zwölf Boxkämpfer, 日本語, emoji 😀\n",
    "Alle Menschen sind frei und gleich an Würde und Rechten geboren.\n\n",
    "\tfor (int i = 0; i < 12345; i++) { total += weights[i] * 0.5; }\r\n",
)
TRAINING_TEXT = "".join(random.Random(0).choices(PHRASES, k=200))
