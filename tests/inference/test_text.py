"""Stop strings are found across tokens, and a stream never shows what may be taken back."""

import itertools

from illada_core.inference.text import first_stop, settled_ids, stop_finder, stop_overlap


class Letters:
    """A tokenizer whose ids are indices into a list of texts."""

    texts = ("a", "b", "\n", ".\n\n", "Q:", "<eos>")

    def decode(self, ids, keep_special=False):
        return "".join(self.texts[i] for i in ids if keep_special or i != 5)


def test_stop_strings_are_found_across_tokens_and_cut_before_the_first_they_touch():
    stops = ["\n\nQ:", "<eos>"]
    find_stop = stop_finder(Letters(), stops)
    assert stop_finder(Letters(), []) is None
    for ids in itertools.product(range(6), repeat=4):
        text = Letters().decode(ids, keep_special=True)
        place = first_stop(text, stops)
        kept = find_stop(list(ids))
        assert (kept is None) == (place is None)
        if kept is not None:
            assert len(Letters().decode(ids[:kept], keep_special=True)) <= place
            assert len(Letters().decode(ids[: kept + 1], keep_special=True)) > place


def test_a_stream_holds_back_what_may_become_a_stop_string():
    stops = ["\n\nQ:", "END"]
    for text, held in (("a", 0), ("a\n", 1), ("a\n\n", 2), ("a\n\nQ", 3), ("aEN", 2), ("\nE", 1)):
        assert stop_overlap(text, stops) == held


def test_only_what_stands_before_the_first_mask_has_settled():
    assert settled_ids([7, 8, 5, 9], 5) == [7, 8]
    assert settled_ids([7, 8], 5) == [7, 8]
    assert settled_ids([], 5) == []
