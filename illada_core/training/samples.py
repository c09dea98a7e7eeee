"""Answers to held-out prompts while a model learns: text to read beside the bound.

On plain text the beginnings of held-out rows are continued and infilled instead. All are drawn as
`generate` draws at temperature 0, and stand in samples.jsonl, each step once. All ranks write the
same by the logits of rank 0, and so ask the model as often: a sharded model needs every rank in
every forward.
"""

from pathlib import Path

from illada_core.diffusion.denoiser import Denoiser
from illada_core.inference.canvas import Gap, Task, continuation
from illada_core.inference.rules import ModelIds
from illada_core.inference.sampler import Sampler, generate
from illada_core.inference.settings import Settings
from illada_core.text.tokenizer import Tokenizer, load_tokenizer
from illada_core.training import run_folder
from illada_core.training.held_out import Wanted
from illada_core.training.metrics import StepLines
from illada_core.training.parallel import Ranks, share_from_main
from illada_core.training.setup import NOISE_SEED, Setup
from illada_core.training.sharding import without_gradients


def task_for(wanted: Wanted, most: int, context: int) -> Task:
    """Return what is wanted as a task; where something stood, the gap is as long as that."""
    if wanted.after:
        return Task((wanted.before, wanted.after), (Gap(len(wanted.original)),))
    room = len(wanted.original) or context - len(wanted.before)
    return continuation(wanted.before, min(most, room))


class Samples:
    """How prompts are answered, and on rank 0 the open samples.jsonl of a run."""

    def __init__(self, run: Path, last_step: int, setup: Setup, ranks: Ranks) -> None:
        assert setup.tokenizer_file is not None, "checked when the data was opened"
        self.setup, self.ranks = setup, ranks
        self.tokenizer: Tokenizer = load_tokenizer(setup.tokenizer_file, "tokenizers")
        self.lines = StepLines(run / run_folder.SAMPLES, last_step) if ranks.is_main else None

    def answer(self, denoiser: Denoiser, mask_id: int, step: int) -> int:
        """Write an answer to each prompt; return how many of them ended before their budget."""
        setup, keys = self.setup, self.setup.recipe.generation
        ids = ModelIds(mask_id, self.tokenizer.vocab_size, setup.defaults.eos_ids)
        settings = Settings(block_length=keys.block_length, seed=NOISE_SEED)
        context = setup.config.max_length
        sampler = Sampler(
            lambda *asked: share_from_main(self.ranks, denoiser.logits_at(*asked)),
            ids,
            batch_tokens=setup.recipe.batch.micro_rows * context,
        )
        tasks = [task_for(each, keys.max_new_tokens, context) for each in setup.prompts]
        with without_gradients(denoiser):
            completions = generate(sampler, tasks, settings)
        if self.lines is not None:
            for wanted, completion in zip(setup.prompts, completions, strict=True):
                self.lines.write(
                    step=step,
                    prompt=self.tokenizer.decode(wanted.before, keep_special=True),
                    text=self.tokenizer.decode(completion.output_ids),
                    finish_reason=completion.finish_reason,
                    new_tokens=len(completion.output_ids),
                    **self.beside(wanted),
                )
        return sum(completion.finish_reason != "length" for completion in completions)

    def beside(self, wanted: Wanted) -> dict[str, str]:
        """Return the texts after a gap and the one that stood in it; of an answer there is none."""
        found = {"suffix": wanted.after, "original": wanted.original}
        return {
            name: self.tokenizer.decode(ids, keep_special=True)
            for name, ids in found.items()
            if ids
        }

    def sync(self) -> None:
        """Wait until the lines are on the disk."""
        if self.lines is not None:
            self.lines.sync()

    def close(self) -> None:
        if self.lines is not None:
            self.lines.close()
