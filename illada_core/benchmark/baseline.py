"""The same items asked of a model that lm-evaluation-harness runs, such as transformers' (`hf`).

Prompts, grades and files are those of our exams; only who answers differs. So the two can be
compared item by item, and an autoregressive model of a family that we compute checks us.
"""

import time
from collections.abc import Sequence
from typing import Any

import lm_eval.models  # noqa: F401  which registers them: not by itself once there is another
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import get_model

from illada_core.benchmark.answers import Answers
from illada_core.benchmark.exam import Exam
from illada_core.benchmark.examination import Keys, told
from illada_core.errors import DataError, UsageError
from illada_core.evaluation.shapes import ChoiceRequest
from illada_core.files import key_of
from illada_core.text.messages import Dialogue

AT_ONCE = 256  # items that are asked together: what a kill costs at most


def open_baseline(named: str, device: str) -> LM:
    """Return the model that KIND:WHERE names. Raises UsageError or DataError."""
    kind, colon, where = named.partition(":")
    if not colon or not where:
        raise UsageError(f"--baseline is KIND:MODEL, such as hf:DIR, not {named}")
    try:
        made = get_model(kind)
    except (KeyError, ValueError):
        raise UsageError(f"lm-evaluation-harness has no model {kind}", "hf:DIR is usual") from None
    try:
        model: LM = made(pretrained=where, device=device)
    except (OSError, ValueError, ImportError) as error:
        raise DataError(f"{named} cannot be loaded ({str(error).splitlines()[0]})") from None
    return model


def ask_baseline(exams: Sequence[Exam], named: str, model: LM, answers: Answers) -> Keys:
    """Ask a model what exams ask, as far as it has no answer yet; return the keys of all."""
    keys: Keys = {}
    for exam in exams:
        keys[exam.name] = [[exam_key(exam, at, named)] for at in range(len(exam.records))]
        open_places = [at for at, (key,) in enumerate(keys[exam.name]) if key not in answers]
        for start in range(0, len(open_places), AT_ONCE):
            places = open_places[start : start + AT_ONCE]
            began = time.perf_counter()
            found = ask(exam, places, model)
            seconds = round((time.perf_counter() - began) / len(places), 4)
            for place, fields in zip(places, found, strict=True):
                facts = {"task": exam.name, "doc": place, **fields, "cut": 0, "seconds": seconds}
                answers.write(keys[exam.name][place][0], facts)
    return keys


def exam_key(exam: Exam, place: int, named: str) -> str:
    """Name what an item asks of a baseline."""
    _, arguments = told(exam, exam.records[place])
    return key_of([named, arguments, exam.benchmark.chat])


def ask(exam: Exam, places: Sequence[int], model: LM) -> list[dict[str, Any]]:
    """Return the answers to some items as they are kept."""
    asked = [told(exam, exam.records[place])[1] for place in places]
    prompts = [first_prompt(exam, place, model) for place in places]
    if not exam.is_scored:
        requests = [
            Instance("generate_until", {}, (prompt or parts[0][0], parts[0][1]), 0)
            for prompt, parts in zip(prompts, asked, strict=True)
        ]
        texts = model.generate_until(requests)
        return [text_fields(text, model) for text in texts]
    flat = [
        Instance("loglikelihood", {}, (prompt or context, continuation), at)
        for prompt, parts in zip(prompts, asked, strict=True)
        for at, (context, continuation) in enumerate(parts)
    ]
    totals = iter(model.loglikelihood(flat))
    return [
        {
            "sums": [float(next(totals)[0]) for _ in parts],
            "tokens": [1] * len(parts),
            "forwards": len(parts),
        }
        for parts in asked
    ]


def first_prompt(exam: Exam, place: int, model: LM) -> str | None:
    """Return a conversation in the template of the baseline, None where the prompt is plain."""
    request = exam.request(exam.records[place])
    prompt = request.prompt if isinstance(request, ChoiceRequest) else request.value
    if not isinstance(prompt, Dialogue):
        return None
    return str(model.apply_chat_template(prompt.fields["messages"]))


def text_fields(text: str, model: LM) -> dict[str, Any]:
    """Return a text as it is kept; what ended it is not told."""
    tokens = len(model.tok_encode(text)) if hasattr(model, "tok_encode") else 0
    counts = {"new_tokens": tokens, "forwards": tokens}
    return {"sample": 0, "text": text, "finish_reason": "unknown", **counts}
