"""The sampler and its laws on a toy model: open rows only, no company, no masks, exact ends."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from illada_core.errors import DataError
from illada_core.inference.canvas import Gap, Task, continuation
from illada_core.inference.rules import ModelIds, Rules
from illada_core.inference.sampler import Commit, Completion, Sampler, generate
from illada_core.inference.settings import Settings

MASK, EOS, VOCABULARY = 5, 2, 23
ENDING = ModelIds(MASK, eos_ids=(EOS,))
BLOCKS = Settings(block_length=8)
RULES = Rules(ids=ENDING, settings=BLOCKS)
ENDLESS = Rules(ids=ModelIds(MASK), settings=BLOCKS)
PROMPTS = [[7, 8, 9], [10, 11], [6, 7, 6, 12, 13, 14, 15, 9, 9], [4], [3, 3, 20, 21, 22]]


class Toy:
    """A model of one mixing layer in float64, which records what it was asked."""

    def __init__(self, seed=0, bias=None, sees_later=True):
        draws = torch.Generator().manual_seed(seed)
        self.embedding = torch.randn(VOCABULARY, 12, generator=draws, dtype=torch.float64)
        self.places = torch.randn(256, 12, generator=draws, dtype=torch.float64)
        self.head = torch.randn(12, VOCABULARY, generator=draws, dtype=torch.float64)
        self.bias = torch.zeros(VOCABULARY, dtype=torch.float64)
        for token, addition in (bias or {}).items():
            self.bias[token] = addition
        self.sees_later = sees_later
        self.calls = []

    def segment(self, ids):
        """Return logits for all positions of one segment."""
        x = self.embedding[ids] + self.places[: len(ids)]
        if self.sees_later:
            mixed = x.mean(0, keepdim=True)
        else:
            visible = torch.where((ids == MASK)[:, None], 0.0, x)
            mixed = visible.sum(0, keepdim=True)
        return torch.tanh(self.places[: len(ids)] + mixed) @ self.head + self.bias

    def __call__(self, ids_T, segment_ends, rows_M):
        starts = (0, *segment_ends[:-1])
        segments = [ids_T[a:b] for a, b in zip(starts, segment_ends, strict=True)]
        self.calls.append(([s.tolist() for s in segments], ids_T[rows_M].tolist()))
        return torch.cat([self.segment(ids) for ids in segments])[rows_M].float()


def having(rules, find_stop=None, end_thinking_ids=(), **settings):
    """Return rules with other settings."""
    return Rules(
        ids=rules.ids,
        settings=replace(rules.settings, **settings),
        find_stop=find_stop,
        end_thinking_ids=end_thinking_ids,
    )


def run(toy, rules, tasks, batch_tokens=10_000):
    return run_each(toy, [(task, rules) for task in tasks], batch_tokens)


def run_each(toy, tasks, batch_tokens=10_000):
    """Run tasks, each with rules of its own, and return their completions in order."""
    sampler = Sampler(toy, tasks[0][1].ids, batch_tokens=batch_tokens)
    waiting, done = list(tasks), []
    while waiting or sampler.live:
        while waiting and sampler.has_room:
            task, rules = waiting.pop(0)
            sampler.add(task, rules.settings, rules.find_stop, rules.end_thinking_ids)
        done += [event for event in sampler.step() if isinstance(event, Completion)]
    return sorted(done, key=lambda completion: completion.index)


def slow_variable(toy, prompt, budget, block_length, steps):
    """The reference, all blocks finished: one masked block at a time after all that stands."""
    canvas = list(prompt)
    while budget:
        size = min(block_length, budget)
        canvas += [MASK] * size
        budget -= size
        slow_block(toy, canvas, len(canvas) - size, size, steps)
        if EOS in canvas[len(canvas) - size :]:
            break
    return canvas[len(prompt) :]


def slow_block(toy, canvas, start, size, steps):
    steps = min(steps or size, size)
    for step in range(steps):
        logits = toy.segment(torch.tensor(canvas)).float()
        p = logits.softmax(-1)
        logits[:, MASK] = -torch.inf
        tokens = logits.argmax(-1)
        open_positions = [i for i in range(start, start + size) if canvas[i] == MASK]
        ranked = sorted(open_positions, key=lambda i: (-float(p[i, tokens[i]]), i))
        for position in ranked[: size // steps + (step < size % steps)]:
            canvas[position] = int(tokens[position])


def cut(ids):
    return ids[: ids.index(EOS)] if EOS in ids else ids


@pytest.mark.parametrize("budget", [1, 7, 8, 50])
@pytest.mark.parametrize("steps", [None, 1, 3, 100])
def test_variable_length_equals_the_slow_reference_at_odd_sizes(budget, steps):
    rules = having(RULES, block_length=7, steps_per_block=steps)
    for prompt in PROMPTS:
        done = run(Toy(bias={EOS: 1.0}), rules, [continuation(prompt, budget)])[0]
        expected = cut(slow_variable(Toy(bias={EOS: 1.0}), prompt, budget, 7, steps))
        assert list(done.output_ids) == expected
        assert done.finish_reason == ("eos" if len(expected) < budget else "length")


@pytest.mark.parametrize("size", [1, 8, 19])
def test_fixed_canvas_equals_the_slow_reference_at_odd_sizes(size):
    for prompt in PROMPTS:
        canvas = list(prompt) + [MASK] * size
        for start in range(0, size, 8):
            slow_block(Toy(), canvas, len(prompt) + start, min(8, size - start), 3)
        rules = having(ENDLESS, steps_per_block=3)
        done = run(Toy(), rules, [continuation(prompt, size, grows=False)])[0]
        assert list(done.output_ids) == canvas[len(prompt) :]


def test_canvases_agree_when_the_model_ignores_later_masks_and_only_then():
    def both(sees_later):
        return [
            run(Toy(sees_later=sees_later), ENDLESS, [continuation(prompt, 32, grows)])[0].fills
            for prompt in PROMPTS
            for grows in (True, False)
        ]

    blind, seeing = both(sees_later=False), both(sees_later=True)
    assert blind[::2] == blind[1::2]
    assert seeing[::2] != seeing[1::2]


def test_only_open_rows_are_asked_of_the_head():
    toy = Toy()
    run(toy, ENDLESS, [continuation(prompt, 20) for prompt in PROMPTS])
    assert all(token == MASK for _, asked in toy.calls for token in asked)
    per_prompt = sum(range(1, 9)) * 2 + sum(range(1, 5))
    assert sum(len(asked) for _, asked in toy.calls) == per_prompt * len(PROMPTS)


@pytest.mark.parametrize(
    "rules",
    [
        RULES,
        having(RULES, temperature=0.9, seed=3),
        having(RULES, temperature=0.9, top_p=0.8, remasking="random"),
        having(RULES, cfg=0.7, threshold=0.3),
        having(RULES, remasking="margin", steps_per_block=3),
    ],
)
@pytest.mark.parametrize("grows", [True, False])
def test_a_prompt_yields_the_same_tokens_alone_and_in_any_batch(rules, grows):
    toy = Toy(bias={EOS: 1.0})
    tasks = [continuation(prompt, 30, grows) for prompt in PROMPTS]
    alone = [run(toy, rules, [task])[0].fills for task in tasks]
    for batch_tokens in (1, 60, 10_000):
        together = run(toy, rules, tasks, batch_tokens)
        assert [done.fills for done in together] == alone
        assert [done.index for done in together] == list(range(len(tasks)))
    assert [done.fills for done in run(toy, rules, tasks[::-1])] == alone[::-1]


def test_samples_of_a_prompt_differ_repeats_of_it_do_not():
    rules = having(ENDLESS, temperature=1.0)
    task = continuation(PROMPTS[0], 16)
    first, again, second = run(Toy(), rules, [task, task, replace(task, sample=1)])
    assert first.fills == again.fills != second.fills
    other_seed = run(Toy(), having(rules, seed=1), [task])[0]
    assert other_seed.fills != first.fills


def test_calls_stay_within_the_budget_and_finished_prompts_make_room():
    toy = Toy(bias={EOS: 1.5})
    sampler = Sampler(toy, ENDING, batch_tokens=40)
    generate(sampler, [continuation(prompt, 24) for prompt in PROMPTS * 4], BLOCKS)
    sizes = [(sum(map(len, segments)), len(segments)) for segments, _ in toy.calls]
    assert all(total <= 40 or count == 1 for total, count in sizes)
    assert max(count for _, count in sizes) > 2
    assert sampler.forwards == len(toy.calls)


@pytest.mark.parametrize("temperature", [0.0, 2.0])
@pytest.mark.parametrize("remasking", ["low-confidence", "random", "margin", "entropy"])
def test_mask_token_is_never_emitted_and_never_left(temperature, remasking):
    rules = having(ENDLESS, temperature=temperature, remasking=remasking)
    toy = Toy(bias={MASK: 30.0})
    for done in run(toy, rules, [continuation(prompt, 21) for prompt in PROMPTS]):
        assert len(done.output_ids) == 21
        assert MASK not in done.output_ids


def test_the_last_block_ends_once_nothing_before_its_eos_is_open():
    shorter = 0
    for prompt in PROMPTS:
        toy = Toy(bias={EOS: 2.0})
        done = run(toy, RULES, [continuation(prompt, 40)])[0]
        full = slow_variable(Toy(bias={EOS: 2.0}), prompt, 40, 8, None)
        assert list(done.output_ids) == cut(full)
        assert done.forwards == len(toy.calls) <= len(full)
        shorter += done.forwards < len(full)
    assert shorter


def test_stop_ids_end_a_text_like_eos_and_say_so():
    free = run(Toy(), ENDLESS, [continuation(PROMPTS[0], 24)])[0].output_ids
    stop = free[10]
    rules = having(ENDLESS, stop_ids=(stop,))
    done = run(Toy(), rules, [continuation(PROMPTS[0], 24)])[0]
    assert done.output_ids == free[: free.index(stop)]
    assert done.finish_reason == "stop"


def test_stop_strings_are_found_across_blocks_at_the_end_of_a_block():
    free = run(Toy(), ENDLESS, [continuation(PROMPTS[0], 24)])[0].output_ids
    pair = list(free[7:9])

    def find_stop(ids):
        return next((i for i in range(len(ids)) if ids[i : i + 2] == pair), None)

    done = run(Toy(), having(ENDLESS, find_stop), [continuation(PROMPTS[0], 24)])[0]
    assert done.output_ids == free[: find_stop(list(free))]
    assert done.finish_reason == "stop"
    assert done.forwards == 16


def test_guidance_masks_what_stood_before_the_stage():
    toy = Toy()
    run(toy, having(ENDLESS, cfg=1.0), [continuation(PROMPTS[0], 16)])
    for segments, _ in toy.calls:
        conditional, unconditional = segments
        start = len(conditional) - 8
        assert unconditional == [MASK] * start + conditional[start:]
    toy = Toy()
    run(toy, having(ENDLESS, cfg=1.0), [continuation(PROMPTS[0], 16, grows=False)])
    assert all(b == [MASK] * 3 + a[3:] for (a, b), _ in toy.calls)


def test_thinking_boost_writes_the_end_of_thinking_in_order():
    rules = having(
        ENDLESS, end_thinking_ids=(17, 18), end_thinking_boost=500.0, end_thinking_power=0.0
    )
    output = run(Toy(), rules, [continuation(PROMPTS[0], 24)])[0].output_ids
    assert output[:2] == (17, 18)
    assert all(pair != (17, 18) for pair in itertools.pairwise(output[2:]))


def test_thinking_that_ended_behind_the_last_open_position_is_not_ended_again():
    def ends_last(ids_T, segment_ends, rows_M):
        logits_TV = torch.zeros(len(ids_T), VOCABULARY)
        logits_TV[:, 6] = 1.0
        logits_TV[4, 17] = 50.0
        return logits_TV[rows_M]

    for grows in (True, False):
        rules = having(
            ENDLESS,
            end_thinking_ids=(17,),
            block_length=4,
            end_thinking_boost=5.0,
            end_thinking_power=0.0,
        )
        completion = run(ends_last, rules, [continuation([7], 8, grows)])[0]
        assert completion.output_ids == (6, 6, 6, 17, 6, 6, 6, 6)


def test_equal_confidences_are_committed_from_left_to_right():
    def flat(ids_T, segment_ends, rows_M):
        return torch.zeros(len(rows_M), VOCABULARY)

    sampler = Sampler(flat, ENDLESS.ids)
    sampler.add(continuation([1], 4), BLOCKS)
    steps = [sampler.step()[0] for _ in range(4)]
    assert [int(step.position_B[0]) for step in steps] == [1, 2, 3, 4]


def test_steps_tell_every_commit_once():
    sampler = Sampler(Toy(), ENDLESS.ids)
    sampler.add(continuation(PROMPTS[1], 12), replace(BLOCKS, steps_per_block=3))
    written, blocks = {}, 0
    while sampler.live:
        for event in sampler.step():
            if isinstance(event, Commit):
                blocks += event.block_done
                for position, token in zip(event.position_B, event.token_B, strict=True):
                    assert int(position) not in written
                    written[int(position)] = int(token)
                    assert np.isfinite(event.confidence_B).all()
            else:
                assert [written[2 + i] for i in range(12)] == list(event.output_ids)
    assert blocks == 2


def test_infilling_changes_nothing_but_the_gaps():
    toy = Toy(bias={EOS: 3.0})
    task = Task(((7, 8), (9, 10), (11,)), (Gap(3), Gap(6)))
    done = run(toy, RULES, [task])[0]
    assert [len(fill) for fill in done.fills] == [3, 6]
    assert EOS not in done.output_ids
    for (segment,), _ in toy.calls:
        assert [segment[i] for i in (0, 1, 5, 6, 13)] == [7, 8, 9, 10, 11]
    assert len(toy.calls[0][1]) == 8


def test_growing_gaps_end_at_eos_or_at_their_budget_with_the_rest_in_place():
    for bias in (0.0, 2.0):
        toy = Toy(bias={EOS: bias})
        task = Task(((7, 8), (9, 10), (11,)), (Gap(20, grows=True, may_end=True), Gap(2)))
        done = run(toy, RULES, [task])[0]
        assert len(done.fills[0]) <= 20
        assert len(done.fills[1]) == 2
        (last_segment,), _ = toy.calls[-1]
        size = len(done.fills[0])
        assert last_segment[2 : 2 + size] == list(done.fills[0])
        assert last_segment[2 + size : 4 + size] == [9, 10]
        assert last_segment[-1] == 11
    assert size < 20


def test_empty_gaps_and_prompts_that_hold_masks():
    done = run(Toy(), RULES, [continuation(PROMPTS[0], 0), continuation(PROMPTS[1], 3)])
    assert [len(completion.output_ids) for completion in done] == [0, 3]
    assert done[0].forwards == 0
    with pytest.raises(DataError, match="mask id"):
        Sampler(Toy(), ENDING).add(continuation([7, MASK], 4))


def test_prompts_with_settings_of_their_own_share_calls_and_get_what_each_gets_alone():
    toy = Toy(bias={EOS: 1.0})
    kinds = [
        {},
        {"temperature": 0.9, "seed": 3},
        {"temperature": 0.9, "seed": 4, "max_new_tokens": 7},
        {"cfg": 0.7, "threshold": 0.3},
        {"cfg": 0.2, "temperature": 1.3, "top_p": 0.8, "remasking": "random"},
        {"remasking": "margin", "steps_per_block": 3, "stop_ids": (9,)},
        {"eos_guard": "logits", "block_length": 5},
    ]
    tasks = [
        (continuation(prompt, 30), having(RULES, **kind)) for kind in kinds for prompt in PROMPTS
    ]
    alone = [run_each(toy, [each])[0] for each in tasks]
    calls = len(toy.calls)
    together = run_each(toy, tasks)
    assert [done.fills for done in together] == [done.fills for done in alone]
    assert [done.finish_reason for done in together] == [done.finish_reason for done in alone]
    assert len(toy.calls) - calls == max(done.forwards for done in alone)
    for batch_tokens in (1, 90, 300):
        assert [done.fills for done in run_each(toy, tasks, batch_tokens)] == [
            done.fills for done in alone
        ]


def test_a_seed_draws_the_same_for_its_prompt_whatever_the_seeds_beside_it():
    def drawn(*seeds):
        task = continuation(PROMPTS[0], 16)
        tasks = [(task, having(ENDLESS, temperature=1.0, seed=seed)) for seed in seeds]
        return [done.fills for done in run_each(Toy(), tasks)]

    big = (7 << 32) + 1
    assert drawn(7, 8, big, 7) == [drawn(seed)[0] for seed in (7, 8, big, 7)]
    assert len({*drawn(7, 8, big, 1)}) == 4


def test_a_cancelled_prompt_is_gone_and_the_others_do_not_notice():
    expected = run(Toy(), ENDLESS, [continuation(PROMPTS[1], 12)])[0].fills
    toy = Toy()
    sampler = Sampler(toy, ENDLESS.ids)
    first = sampler.add(continuation(PROMPTS[0], 40), BLOCKS)
    second = sampler.add(continuation(PROMPTS[1], 12), BLOCKS)
    sampler.step()
    sampler.cancel(first)
    events = [event for _ in range(12) for event in sampler.step()]
    assert not sampler.live
    assert [event.fills for event in events if isinstance(event, Completion)] == [expected]
    assert {event.index for event in events} == {second}
    assert len(toy.calls) == 12
    with pytest.raises(KeyError):
        sampler.cancel(first)
