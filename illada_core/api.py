"""illada from Python: text in, text out, over the rooms of inference and evaluation.

`load` opens what `--ckpt` means and returns a `Model`. One prompt gives one result, a list of them
is computed together and gives a list. What is returned is what the verbs write as JSON.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, overload

import torch

from illada_core.errors import UsageError
from illada_core.evaluation.items import (
    ScoringSettings,
    prepare_item,
    rule_for,
)
from illada_core.evaluation.perplexity import WINDOW_SAMPLES, TextBound, cut_text
from illada_core.evaluation.questions import reader_for
from illada_core.evaluation.scoring import Item, Scores, score
from illada_core.evaluation.shapes import parse_map, read_choice_request
from illada_core.evaluation.verdicts import Verdict, judge
from illada_core.inference.checkpoint import Checkpoint, choose_device, open_checkpoint
from illada_core.inference.presets import load_preset
from illada_core.inference.requests import Prompting, Request, read_request
from illada_core.inference.settings import Settings, merge_settings
from illada_core.inference.tasks import TextTask, prepare
from illada_core.inference.text_sampler import (
    Generation,
    TextSampler,
    complete_settings,
    generate_all,
)
from illada_core.model.config import ModelConfig
from illada_core.model.families.family import Reading
from illada_core.model.quantized import Quantization
from illada_core.model.replay import replayed
from illada_core.model.transformer import Transformer
from illada_core.text.messages import Dialogue, Message, parse_dialogue
from illada_core.text.tokenizer import Tokenizer

Prompt = str | Mapping[str, Any]  # a text, or the fields of a line of JSON Lines


def load(
    ckpt: str | Path,
    device: str = "auto",
    dtype: str | torch.dtype = "auto",
    mask_id: int | None = None,
    batch_tokens: int | None = None,
    cache_tokens: int | None = None,
    attention: str | None = None,
    shift: bool | None = None,
    quantize: Quantization | None = None,
    graphs: bool = False,
    ahead: int | None = None,
) -> "Model":
    """Open a run folder, a model folder or a hub id, and load its weights.

    `auto` is a GPU if there is one, and bfloat16 there, else the dtype of the files; `quantize`
    keeps the layers' weights in 8 or 4 bits ("int8", "int4"; extra: quant). At most
    `batch_tokens` packed tokens go through the model at once, and keys and values are kept of at
    most `cache_tokens`. With `graphs` small passes of generation are replayed as CUDA graphs; up to
    `ahead` steps (on a GPU 4) are asked for before the first is read. Neither changes a text.
    `attention` (full or causal) and `shift` (a row of logits speaks of the next token) hold against
    what the files say. Raises CheckpointError for weights that are missing or damaged, UsageError
    for a device, dtype or mask id that cannot be. Warns of what the files of the tokenizer disagree
    on.
    """
    checkpoint = open_checkpoint(ckpt, mask_id, Reading(attention, shift))
    for notice in checkpoint.notices:
        warnings.warn(notice, stacklevel=2)
    device = choose_device(device)
    model = checkpoint.load(device, dtype, quantize)
    return Model(checkpoint, model, device, batch_tokens, cache_tokens, graphs, ahead)


class Model:
    """A loaded checkpoint: `model`, `tokenizer` and `config`, and what they can do with text.

    Keywords are the settings of a generation (`temperature=0.7, block_length=32`), with `preset`
    beneath them; for `score` those of `ScoringSettings`. `bos` and `truncate="left"` say how
    prompts become ids.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        model: Transformer,
        device: str = "cpu",
        batch_tokens: int | None = None,
        cache_tokens: int | None = None,
        graphs: bool = False,
        ahead: int | None = None,
    ) -> None:
        self.checkpoint, self.model, self.ahead = checkpoint, model, ahead
        self.writer = replayed(model, graphs)
        self.device, self.batch_tokens, self.cache_tokens = device, batch_tokens, cache_tokens

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer. Raises CheckpointError where the folder has none."""
        return self.checkpoint.require_tokenizer()

    @property
    def config(self) -> ModelConfig:
        """The shape of the model."""
        return self.checkpoint.config

    @overload
    def generate(self, prompts: Prompt, **options: Any) -> Generation: ...
    @overload
    def generate(self, prompts: list[Any], **options: Any) -> list[Generation]: ...
    def generate(
        self,
        prompts: Prompt | list[Any],
        *,
        preset: str | None = None,
        bos: bool | None = None,
        truncate: str | None = None,
        **settings: Any,
    ) -> Generation | list[Generation]:
        """Continue a prompt, or a list of them: texts, or what a line of JSON Lines may hold.

        Raises DataError for a prompt that does not fit the context.
        """
        asked = prompts if isinstance(prompts, list) else [prompts]
        requests = [request_of(each) for each in asked]
        found = self.run(requests, preset, Prompting(bos, left(truncate)), 1, settings)
        return found if isinstance(prompts, list) else found[0]

    def sample(
        self,
        prompt: Prompt,
        count: int,
        *,
        preset: str | None = None,
        bos: bool | None = None,
        truncate: str | None = None,
        **settings: Any,
    ) -> list[Generation]:
        """Continue one prompt `count` times, each with random numbers of its own."""
        prompting = Prompting(bos, left(truncate))
        return self.run([request_of(prompt)], preset, prompting, count, settings)

    def stream(
        self,
        prompt: Prompt,
        *,
        preset: str | None = None,
        bos: bool | None = None,
        truncate: str | None = None,
        **settings: Any,
    ) -> Iterator[str]:
        """Yield the text of a continuation piece by piece, as it settles; nothing is taken back.

        Joined, the pieces are the text that `generate` returns.
        """
        prompting = Prompting(bos, left(truncate))
        (task,) = self.tasks([request_of(prompt)], preset, prompting, settings)
        self.checkpoint.require_tokenizer()
        sampler = self.sampler()
        sampler.add(task)
        shown = ""
        while sampler.live:
            for index, event in sampler.step():
                text = event.text if isinstance(event, Generation) else sampler.settled(index)
                if text is not None and len(text) > len(shown):
                    yield text[len(shown) :]
                    shown = text

    @overload
    def chat(self, messages: list[Message], **options: Any) -> Generation: ...
    @overload
    def chat(self, messages: list[dict[str, str]], **options: Any) -> Generation: ...
    @overload
    def chat(self, messages: list[list[Any]], **options: Any) -> list[Generation]: ...
    def chat(
        self,
        messages: list[Any],
        *,
        preset: str | None = None,
        truncate: str | None = None,
        **settings: Any,
    ) -> Generation | list[Generation]:
        """Answer a conversation, a list of messages with `role` and `content`, or a list of such.

        Raises DataError for one that does not fit the context.
        """
        are_many = bool(messages) and isinstance(messages[0], list)
        asked = messages if are_many else [messages]
        requests = [Request("messages", dialogue_of(each)) for each in asked]
        found = self.run(requests, preset, Prompting(truncate=left(truncate)), 1, settings)
        return found if are_many else found[0]

    @overload
    def infill(self, texts: str, **options: Any) -> Generation: ...
    @overload
    def infill(self, texts: list[str], **options: Any) -> list[Generation]: ...
    def infill(
        self,
        texts: str | list[str],
        *,
        preset: str | None = None,
        bos: bool | None = None,
        **settings: Any,
    ) -> Generation | list[Generation]:
        """Fill the gaps of a text: `[MASK:12]` is twelve tokens, `[MASK]` as many as it takes.

        The `text` of what is returned is the whole.
        """
        asked = texts if isinstance(texts, list) else [texts]
        requests = [Request("infill", text) for text in asked]
        found = self.run(requests, preset, Prompting(bos), 1, settings)
        return found if isinstance(texts, list) else found[0]

    @overload
    def score(
        self, prompts: Prompt, choices: list[str] | None = None, **options: Any
    ) -> Verdict: ...
    @overload
    def score(
        self, prompts: list[Any], choices: list[list[str]] | None = None, **options: Any
    ) -> list[Verdict]: ...
    def score(
        self,
        prompts: Prompt | list[Any],
        choices: list[Any] | None = None,
        *,
        bos: bool | None = None,
        truncate: str | None = None,
        names: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> Verdict | list[Verdict]:
        """Score choices after a prompt, and pick the best.

        `score(prompt, [choice, …])`, or `score([prompt, …], [[choice, …], …])`; without `choices`
        items are what a line of JSON Lines holds, `{"query": …, "choices": …, "gold": 0}`, and
        `names={"gold": "correct"}` says where fields of ours stand. Raises DataError for an item
        that cannot be scored, or whose answer is not understood.
        """
        names = parse_map([f"{field}={name}" for field, name in (names or {}).items()])
        asked = prompts if isinstance(prompts, list) else [prompts]
        if choices is None:
            requests = [read_choice_request(None, fields_of(each), names) for each in asked]
        else:
            beside = choices if isinstance(prompts, list) else [choices]
            pairs = zip(asked, beside, strict=True)
            requests = [
                read_choice_request(None, {**fields_of(prompt), "choices": list(each)})
                for prompt, each in pairs
            ]
        scoring, prompting = scoring_settings(settings), Prompting(bos, left(truncate))
        items = [prepare_item(each, self.checkpoint, scoring, prompting) for each in requests]
        scores = self.scores([item.item for item in items], scoring)
        verdicts = [judge(item, found) for item, found in zip(items, scores, strict=True)]
        return verdicts if isinstance(prompts, list) else verdicts[0]

    def perplexity(
        self,
        text: str,
        *,
        window: int | None = None,
        stride: int | None = None,
        bos: bool | None = None,
        samples: int = WINDOW_SAMPLES,
        cfg: float = 0.0,
        seed: int = 0,
    ) -> TextBound:
        """Bound the perplexity of a text, which is cut in windows that fit the context.

        It is exact where the model writes from left to right.
        """
        cut = cut_text(text, self.checkpoint, window, stride, bos)
        scoring = ScoringSettings(rule="likelihood", samples=samples, cfg=cfg, seed=seed)
        return TextBound.of(self.scores(cut.items, scoring), sum(cut.sizes), cut.bytes)

    def run(
        self,
        requests: Sequence[Request],
        preset: str | None,
        prompting: Prompting,
        samples: int,
        changes: Mapping[str, Any],
    ) -> list[Generation]:
        """Write what is asked for, all of it together."""
        tasks = self.tasks(requests, preset, prompting, changes)
        return generate_all(self.sampler(), tasks, samples)

    def tasks(
        self,
        requests: Sequence[Request],
        preset: str | None,
        prompting: Prompting,
        changes: Mapping[str, Any],
    ) -> list[TextTask]:
        """Turn requests into tasks, by settings that are given by name."""
        settings = Settings(**merge_settings(load_preset(preset) if preset else {}, changes))
        settings, _ = complete_settings(settings, self.checkpoint)
        return [prepare(each, self.checkpoint, settings, prompting) for each in requests]

    def sampler(self) -> TextSampler:
        """Return a sampler around the model, for those who want to drive it step by step."""
        budgets = (self.batch_tokens, self.cache_tokens, self.ahead)
        return TextSampler(self.checkpoint, self.writer, self.device, *budgets)

    def scores(self, items: Sequence[Item], settings: ScoringSettings) -> list[Scores]:
        """Score items of ids, in order."""
        mask_id, cfg = self.checkpoint.mask_id, settings.cfg
        reader = reader_for(self.model, mask_id, cfg, self.device, self.batch_tokens)
        batches = score(items, rule_for(settings, self.checkpoint), reader)
        return [scores for batch in batches for scores in batch.scores]


def fields_of(prompt: Prompt) -> dict[str, Any]:
    """Return a prompt as the fields of a line."""
    return {"prompt": prompt} if isinstance(prompt, str) else dict(prompt)


def request_of(prompt: Prompt) -> Request:
    """Return a prompt as a request. Raises DataError."""
    return read_request(None, fields_of(prompt))


def dialogue_of(conversation: list[Any]) -> Dialogue:
    """Return a list of messages as a conversation. Raises DataError."""
    facts = [each.facts if isinstance(each, Message) else each for each in conversation]
    return parse_dialogue({}, facts)


def left(truncate: str | None) -> Any:
    """Return how prompts are cut. Raises UsageError for any other way than "left"."""
    if truncate not in (None, "left"):
        raise UsageError(f"truncate is 'left' or None, not {truncate!r}")
    return truncate


def scoring_settings(changes: Mapping[str, Any]) -> ScoringSettings:
    """Return scoring settings given by name. Raises UsageError for a name that there is not."""
    known = [field.name for field in fields(ScoringSettings)]
    for name in changes:
        if name not in known:
            raise UsageError(f"there is no setting {name}", f"known: {', '.join(known)}")
    return ScoringSettings(**changes)
