"""illada as a model of lm-evaluation-harness (extra: eval): `lm_eval --model illada`.

The harness has the tasks, prompts, filters and metrics; questions are answered as those of our own
tasks are, through the same batches and the same kept answers. What a diffusion model cannot give is
refused in a sentence: which continuation is greedy, and the likelihood of a text.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model

from illada_core.benchmark.answering import Engine, answer
from illada_core.benchmark.answers import Answers, open_answers
from illada_core.benchmark.definition import Benchmark
from illada_core.benchmark.exam import Ask, Exam, choice_key, text_key
from illada_core.benchmark.examination import Cost
from illada_core.benchmark.records import Record
from illada_core.benchmark.shots import pool_of
from illada_core.errors import DataError, UsageError
from illada_core.evaluation.items import ScoringSettings, complete_scoring, prepare_item
from illada_core.evaluation.shapes import ChoiceRequest
from illada_core.files import json_line, make_folder
from illada_core.inference.checkpoint import choose_device, open_checkpoint
from illada_core.inference.presets import load_preset
from illada_core.inference.requests import Prompting, Request
from illada_core.inference.settings import Settings, described_settings
from illada_core.inference.tasks import prepare
from illada_core.inference.text_sampler import complete_settings, without_masks
from illada_core.model.families.family import Reading
from illada_core.text.conversations import template_source
from illada_core.text.messages import ASSISTANT, Dialogue, parse_dialogue

OPENING = ("dtype", "mask_id", "batch_tokens", "cache_tokens", "attention", "shift")
OTHERS = ("preset", "bos", "truncate", "answers")
SCORING = tuple(each.name for each in fields(ScoringSettings) if each.name != "delimiter")
BUDGETS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
USUAL_BUDGET = 256  # of the harness, where a task names none
ALONE_SENTENCE = (
    "{task} asks whether one continuation is greedy, or how likely it is: a masked-diffusion model "
    "has neither"
)


class ChatPrompt(str):
    """A conversation that passes the harness as text: the ids are made of its messages."""

    dialogue: Dialogue
    prefill: str

    def __new__(cls, dialogue: Dialogue, prefill: str) -> "ChatPrompt":
        text = super().__new__(cls, json_line(dialogue.fields["messages"]) + prefill)
        text.dialogue, text.prefill = dialogue, prefill
        return text

    def __getnewargs__(self) -> tuple[Dialogue, str]:  # type: ignore[override]
        return self.dialogue, self.prefill


@dataclass(frozen=True)
class How:
    """How questions are answered; `given` are the settings that outrank the task."""

    scoring: ScoringSettings = field(default_factory=ScoringSettings)
    given: Mapping[str, Any] = field(default_factory=dict)
    prompting: Prompting = field(default_factory=Prompting)


@register_model("illada")
class IlladaLM(LM):
    """A checkpoint as the harness sees a model.

    `pretrained` is what `--ckpt` means; further arguments are settings of scoring (`rule`) and of
    generation (`max_new_tokens`), `preset` a preset of generation, `answers` a folder that keeps
    them. `batch_size` is ignored: batches are filled by tokens. Raises UsageError for an argument
    that there is not.
    """

    def __init__(
        self,
        pretrained: str = "",
        device: str | None = None,
        batch_size: Any = None,
        max_batch_size: Any = None,
        **arguments: Any,
    ) -> None:
        super().__init__()
        check_arguments(arguments)
        opening = {name: arguments.get(name) for name in OPENING}
        reading = Reading(opening["attention"], opening["shift"])
        checkpoint = open_checkpoint(pretrained, opening["mask_id"], reading)
        wanted = "auto" if device is None or device.startswith("cuda") else device
        device = choose_device(wanted)
        model = checkpoint.load(device, opening["dtype"] or "auto")
        budgets = (opening["batch_tokens"], opening["cache_tokens"])
        how = how_of(arguments)
        folder = arguments.get("answers")
        self.answer_with(Engine(checkpoint, model, device, *budgets), how, folder)

    @classmethod
    def around(cls, engine: Engine, how: How, folder: str | Path) -> "IlladaLM":
        """Return a loaded checkpoint as a model, whose answers are kept in a folder."""
        model = cls.__new__(cls)
        LM.__init__(model)
        model.answer_with(engine, how, folder)
        return model

    def answer_with(self, engine: Engine, how: How, folder: str | Path | None) -> None:
        """Say what answers, how, and where answers are kept (None: nowhere)."""
        self.engine, self.folder = engine, folder
        self.how = replace(how, scoring=complete_scoring(how.scoring, engine.checkpoint))
        self.costs: dict[str, Cost] = {}
        self.has_chats = False

    @property
    def tokenizer_name(self) -> str:
        return self.engine.checkpoint.folder.name

    @property
    def max_length(self) -> int:
        return self.engine.checkpoint.config.max_length

    def chat_template(self, chat_template: bool | str = False) -> str:
        return template_source(self.engine.checkpoint.require_tokenizer())

    def apply_chat_template(
        self, chat_history: list[dict[str, Any]], add_generation_prompt: bool = True
    ) -> str:
        """Return a conversation; without `add_generation_prompt` its last message is begun only."""
        self.has_chats = True
        prefill = ""
        if not add_generation_prompt and chat_history[-1]["role"] == ASSISTANT:
            prefill, chat_history = chat_history[-1]["content"], chat_history[:-1]
        return ChatPrompt(parse_dialogue({}, list(chat_history)), prefill)

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Score continuations; those of one document and context are one item.

        The flag is always False: nothing here is greedy. Raises UsageError for a task that sends
        one continuation for each document, for it can only ask for that flag or a likelihood.
        """
        groups: dict[tuple[str, int, str], list[str]] = {}
        sent: dict[tuple[str, int], set[tuple[str, str]]] = {}
        for each in requests:
            context, continuation = each.args
            choices = groups.setdefault((each.task_name, each.doc_id, context), [])
            if continuation not in choices:
                choices.append(continuation)
            sent.setdefault((each.task_name, each.doc_id), set()).add(each.args)
        for task in {name for name, _ in sent}:
            if all(len(own) == 1 for (name, _), own in sent.items() if name == task):
                hint = "illada score --text bounds the perplexity of a text"
                raise UsageError(ALONE_SENTENCE.format(task=task), hint)
        asks = {
            group: self.choice_ask(*group, continuations) for group, continuations in groups.items()
        }
        sums = {
            (*group, continuation): total
            for group, found in self.answered(asks).items()
            for continuation, total in zip(groups[group], found["sums"], strict=True)
        }
        return [(sums[each.task_name, each.doc_id, *each.args], False) for each in requests]

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Raise UsageError: a bound must not stand where others have the likelihood itself."""
        raise UsageError(
            "a masked-diffusion model bounds the likelihood of a text and does not know it, so "
            "rolling tasks have no answer",
            "illada score --text bounds the perplexity of a text",
        )

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Write texts; repeats of a request draw random numbers of their own."""
        seen: dict[tuple[Any, ...], int] = {}
        names, asks = [], {}
        for each in requests:
            context, kwargs = each.args
            base = (each.task_name, each.doc_id, context, json_line(kwargs))
            sample = seen.get(base, 0) % (each.repeats or 1)  # beyond them: padding of ranks
            seen[base] = seen.get(base, 0) + 1
            names.append((*base, sample))
            asks[names[-1]] = self.text_ask(each, kwargs, sample)
        found = self.answered(asks)
        return [found[name]["text"] for name in names]

    def choice_ask(self, task: str, doc: int, context: str, continuations: Sequence[str]) -> Ask:
        """Return an item of the harness as an ask."""
        how, checkpoint = self.how, self.engine.checkpoint
        prompt: Any = context
        choices: list[Any] = list(continuations)
        if isinstance(context, ChatPrompt):
            prompt = context.dialogue
            if context.prefill:
                prompt = self.begun(context)
                choices = [*map(checkpoint.require_tokenizer().encode, continuations)]
        elif self.has_chats:
            raise lost_messages(task)
        item = prepare_item(ChoiceRequest(prompt, choices), checkpoint, how.scoring, how.prompting)
        key = choice_key(item, how.scoring, checkpoint, self.engine.weights)
        return Ask(exam_for(task, "choices", how), record_for(doc), key, item)

    def text_ask(self, request: Instance, kwargs: Mapping[str, Any], sample: int) -> Ask:
        """Return a request for a text as an ask."""
        context, task = request.args[0], request.task_name
        how, checkpoint = self.how, self.engine.checkpoint
        settings = settings_for(how, kwargs)
        if checkpoint.config.is_causal:  # presets are made for models that fill masks
            settings = without_masks(settings)
        settings, _ = complete_settings(settings, checkpoint)
        if isinstance(context, ChatPrompt):
            asked = (
                Request("prompt_ids", self.begun(context))
                if context.prefill
                else Request("messages", context.dialogue)
            )
        elif self.has_chats:
            raise lost_messages(task)
        else:
            asked = Request("prompt", context)
        made = prepare(asked, checkpoint, settings, how.prompting)
        key = text_key(made, sample, checkpoint, self.engine.weights)
        exam = exam_for(task, "text", how)
        return Ask(exam, record_for(request.doc_id), key, None, made, sample)

    def begun(self, context: ChatPrompt) -> list[int]:
        """Return the ids of a conversation whose answer is begun."""
        checkpoint = self.engine.checkpoint
        prefill = checkpoint.require_tokenizer().encode(context.prefill)
        return [*checkpoint.encode_chat(context.dialogue), *prefill]

    def answered(self, asks: Mapping[Any, Ask]) -> dict[Any, dict[str, Any]]:
        """Return the answers of asks by name, asking the model for those that are not kept."""
        if self.folder is None:
            with TemporaryDirectory() as folder, open_answers(Path(folder)) as answers:
                return self.answered_in(answers, asks)
        make_folder(Path(self.folder))
        with open_answers(Path(self.folder)) as answers:
            return self.answered_in(answers, asks)

    def answered_in(self, answers: Answers, asks: Mapping[Any, Ask]) -> dict[Any, dict[str, Any]]:
        """Ask what has no answer, one guidance after the other, and return all."""
        guidances = {ask.exam.scoring.cfg for ask in asks.values()}
        for guidance in sorted(guidances):
            own = [ask for ask in asks.values() if ask.exam.scoring.cfg == guidance]
            for _ in answer(own, self.engine, answers, lambda: False):
                pass
        found = {name: answers.find(ask.key) for name, ask in asks.items()}
        for name, ask in asks.items():
            self.costs.setdefault(ask.exam.name, Cost()).add(found[name])
        return found


def check_arguments(arguments: Iterable[str]) -> None:
    """Raise UsageError for a name that means nothing."""
    known = [*OPENING, *OTHERS, *SCORING, *described_settings()]
    for name in arguments:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known))}"
            raise UsageError(f"there is no argument {name}", hint)


def how_of(arguments: Mapping[str, Any]) -> How:
    """Return how questions are answered, from arguments by name. Raises UsageError."""
    preset = arguments.get("preset")
    given = load_preset(preset) if preset else {}
    given |= {name: value for name, value in arguments.items() if name in described_settings()}
    scoring = {name: value for name, value in arguments.items() if name in SCORING}
    prompting = Prompting(arguments.get("bos"), arguments.get("truncate"))
    return How(ScoringSettings(**scoring), given, prompting)


def settings_for(how: How, kwargs: Mapping[str, Any]) -> Settings:
    """Return the settings of a text: those that were given, else the task's."""
    until = kwargs.get("until") or []
    stops = [until] if isinstance(until, str) else list(until)
    budget = next((kwargs[name] for name in BUDGETS if kwargs.get(name)), USUAL_BUDGET)
    asked: dict[str, Any] = {"max_new_tokens": int(budget)}
    if kwargs.get("do_sample", True) and kwargs.get("temperature"):
        asked["temperature"] = float(kwargs["temperature"])
        asked["top_p"] = float(kwargs.get("top_p") or 1.0)
    settings = Settings(**{**asked, **how.given})
    return replace(settings, stop=tuple(dict.fromkeys((*settings.stop, *filter(None, stops)))))


def exam_for(task: str, kind: Any, how: How) -> Exam:
    """Return a task of the harness as far as an ask has to know it."""
    benchmark = Benchmark(title=task, kind=kind, prompt="", name=task)
    return Exam(benchmark=benchmark, records=(), pool=pool_of(()), scoring=how.scoring)


def record_for(doc: int) -> Record:
    """Return a document of the harness as far as an ask has to know it."""
    return Record(doc, {}, {}, "")


def lost_messages(task: str) -> DataError:
    """Say that a prompt came as text where a conversation was made."""
    return DataError(
        f"{task} changes its chat prompts after they were made, so that their messages are lost",
        "run it without --apply_chat_template",
    )


def run_command_line() -> None:
    """Run the harness' own command line, with illada among its models."""
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
