"""The small corpus that `illada tokenize` is tested on (see conftest.py)."""

TOKENIZE = ("tokenize", "corpus", "--tokenizer", "tokenizer.json")
TEXT = "The quick brown fox <[MASK]> jumps.\nIt's  1,024 zwölf\t日本語 😀\n"
