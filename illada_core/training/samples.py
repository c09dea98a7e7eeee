"""Answers to held-out prompts while a model learns: text to read beside the bound.

They are drawn as `generate` draws at temperature 0, and stand in samples.jsonl, each step once.
"""

from pathlib import Path

from illada_core.inference.canvas import continuation
from illada_core.inference.rules import ModelIds
from illada_core.inference.sampler import Sampler, generate
from illada_core.inference.settings import Settings
from illada_core.model.transformer import Transformer
from illada_core.text.tokenizer import Tokenizer, load_tokenizer
from illada_core.training import run_folder
from illada_core.training.metrics import StepLines
from illada_core.training.task import NOISE_SEED, Task


class Samples:
    """The open samples.jsonl of a run, and how it is filled."""

    def __init__(self, run: Path, last_step: int, task: Task) -> None:
        assert task.tokenizer_file is not None, "checked when the data was opened"
        self.task = task
        self.tokenizer: Tokenizer = load_tokenizer(task.tokenizer_file, "tokenizers")
        self.lines = StepLines(run / run_folder.SAMPLES, last_step)

    def answer(self, model: Transformer, mask_id: int, step: int) -> int:
        """Write an answer to each prompt; return how many of them ended before their budget."""
        task, keys = self.task, self.task.recipe.generation
        ids = ModelIds(mask_id, self.tokenizer.vocab_size, task.defaults.eos_ids)
        settings = Settings(block_length=keys.block_length, seed=NOISE_SEED)
        context = task.config.max_length
        sampler = Sampler(
            model.logits_at,
            ids,
            model.head_weight_VC.device,
            batch_tokens=task.recipe.batch.micro_rows * context,
        )
        tasks = [
            continuation(prompt, min(keys.max_new_tokens, context - len(prompt)))
            for prompt in task.prompts
        ]
        completions = generate(sampler, tasks, settings)
        for prompt, completion in zip(task.prompts, completions, strict=True):
            self.lines.write(
                step=step,
                prompt=self.tokenizer.decode(prompt, keep_special=True),
                text=self.tokenizer.decode(completion.output_ids),
                finish_reason=completion.finish_reason,
                new_tokens=len(completion.output_ids),
            )
        return sum(completion.finish_reason != "length" for completion in completions)

    def close(self) -> None:
        self.lines.close()
