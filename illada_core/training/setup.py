"""A recipe meets its data: what it left open is filled in, and what does not fit is refused.

No torch: `--dry-run` and every usage error are answered without it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from illada_core.data.batches import row_at
from illada_core.data.mixture import Entry, Slots, parse_mixture, share_out
from illada_core.data.store.dataset import TokenDataset, open_packed
from illada_core.errors import DataError, UsageError
from illada_core.inference.defaults import GenerationDefaults, generation_defaults
from illada_core.model.config import ModelConfig
from illada_core.model.configfile import read_config
from illada_core.model.families.family import Reading
from illada_core.model.finding import find_model
from illada_core.places import path_of
from illada_core.text.tokenizer import Tokenizer, load_tokenizer
from illada_core.text.tokenizer_files import TOKENIZER_FILE, read_tokenizer_files
from illada_core.training.held_out import Wanted, held_out_prompts, held_out_texts
from illada_core.training.recipe.keys import ModelKeys, Recipe
from illada_core.training.recipe.schedule import Schedule, plan_schedule
from illada_core.training.remarks import few_held_out, few_rows, room_remarks

VOCABULARY_MULTIPLE = 128
SIZES = ("layers", "width", "heads", "kv_heads", "ffn_size", "max_length")
ASSUMED_VOCABULARY, ASSUMED_TOKENS = 32_768, 10**9
SAMPLED_TOKENS = 2**22
NOISE_SEED = 0  # of validation; not the run's, so that two seeds of one recipe compare


@dataclass(frozen=True)
class Setup:
    """All that a run is, before any weight exists; `prompts` are held out, to be answered
    or written anew.

    `train` is the dataset, or the first of the `sources` of a mixture, which `slots` share out.
    """

    recipe: Recipe
    config: ModelConfig
    schedule: Schedule
    train: TokenDataset
    sources: tuple[TokenDataset, ...]
    slots: Slots | None
    holdout: TokenDataset | None
    tokenizer_file: Path | None
    holdout_bytes_per_token: float | None
    defaults: GenerationDefaults
    prompts: tuple[Wanted, ...]
    remarks: tuple[str, ...]

    @property
    def row_tokens(self) -> float:
        """How many tokens a row has, in the mean over the places of a run."""
        shares = [count for _, count in self.slots] if self.slots else [1]
        lengths = [source.tokens / source.rows for source in self.sources]
        return float(np.average(lengths, weights=shares))


def prepare(recipe: Recipe) -> Setup:
    """Open the data of a recipe and check that all fits. Raises DataError and UsageError."""
    entries = parse_mixture(recipe.data.mixture)
    paths = [entry.path for entry in entries] or [recipe.data.path]
    if not paths[0]:
        raise UsageError("no data to train on", "give a packed dataset: --data DIR")
    check_packages(recipe)
    if recipe.lora.rank:
        check_base_is_given(recipe)
    opened = [open_packed(path_of(path)) for path in paths]
    sources = tuple(train for train, _ in opened)
    remarks = [*room_remarks(sources), *few_rows(sources, recipe.batch.rows)]
    train, holdout = opened[0]
    if recipe.data.holdout:
        holdout = open_packed(path_of(recipe.data.holdout))[0]
    for source in sources:
        check_datasets(source, holdout)
        check_turns(recipe, source)
    config = config_of(recipe.model, train)
    for dataset in (*sources, holdout):
        if dataset is not None:
            check_same_tokenizer(dataset, train)
            check_row_lengths(dataset, config.max_length, is_fresh=not recipe.model.ckpt)
    tokenizer_file = find_tokenizer(recipe, path_of(paths[0]), train)
    tokenizer, held_out_bytes = None, None
    if tokenizer_file is not None:
        tokenizer = load_tokenizer(tokenizer_file, "tokenizers")
    else:
        remarks.append(
            f"{train.folder} has no tokenizer.json: the exported model will lack it, bits per byte "
            "are not measured, and no prompt is answered"
        )
    if holdout is None:
        remarks.append(f"{train.folder} has no validation part: nothing is validated")
    else:
        remarks += few_held_out(holdout, recipe.validation)
    if holdout is not None and tokenizer is not None:
        rows = recipe.validation.rows or holdout.rows
        held_out_bytes = bytes_per_token(holdout, rows, tokenizer)
    prompts: tuple[Wanted, ...] = ()
    if recipe.validation.sample_every and holdout is not None and tokenizer is not None:
        prompts = wanted_of(recipe, holdout, config.max_length - 1)
        found = len(prompts) if holdout.has_turns else len(prompts) // 2
        if found < recipe.validation.samples:
            kind = "prompts to answer" if holdout.has_turns else "rows to continue"
            remarks.append(
                f"{holdout.folder} has too few {kind}: {found}, and validation.samples asks for "
                f"{recipe.validation.samples}"
            )
    return Setup(
        recipe=replace(recipe, model=keys_of(config, recipe.model)),
        config=config,
        schedule=plan_schedule(
            recipe.schedule,
            recipe.optimizer.peak_lr,
            total_tokens(recipe, pass_tokens(entries, sources)),
        ),
        train=train,
        sources=sources,
        slots=share_out(entries, sources) if entries else None,
        holdout=holdout,
        tokenizer_file=tokenizer_file,
        holdout_bytes_per_token=held_out_bytes,
        defaults=generation_defaults(
            train.manifest.tokenizer.special, tokenizer, recipe.generation.block_length
        ),
        prompts=prompts,
        remarks=tuple(remarks),
    )


def wanted_of(recipe: Recipe, holdout: TokenDataset, longest: int) -> tuple[Wanted, ...]:
    """Return what is to be written of a held-out part: answers, or its rows anew."""
    count = recipe.validation.samples
    if holdout.has_turns:
        return tuple(Wanted(ids) for ids in held_out_prompts(holdout, count, longest))
    return held_out_texts(holdout, count, recipe.generation.max_new_tokens)


def outline(recipe: Recipe) -> tuple[ModelConfig, int, str]:
    """Return shape and length of a run whose data is not there yet, and what had to be assumed."""
    if recipe.lora.rank:
        check_base_is_given(recipe)
    keys, assumed = recipe.model, []
    if keys.ckpt:
        config = read_base(keys, find_model(keys.ckpt))
    else:
        if not keys.vocab_size:
            assumed.append(f"a vocabulary of {ASSUMED_VOCABULARY:_}")
        config = fresh_config(keys, keys.vocab_size or ASSUMED_VOCABULARY)
    if recipe.run.epochs:
        assumed.append(f"{ASSUMED_TOKENS:_} tokens in an epoch")
    total = total_tokens(recipe, ASSUMED_TOKENS)
    plan_schedule(recipe.schedule, recipe.optimizer.peak_lr, total)
    return config, total, " and ".join(assumed)


def config_of(keys: ModelKeys, train: TokenDataset) -> ModelConfig:
    """Return the shape of the model, its vocabulary and special ids fitted to the dataset.

    Raises UsageError where the recipe, the model to start from and the dataset disagree.
    """
    if keys.ckpt:
        folder = find_model(keys.ckpt)
        config = read_base(keys, folder)
        check_tokenizer(folder, train)
        given = vars(keys).items() - vars(ModelKeys()).items() - {("ckpt", keys.ckpt)}
        for name, value in sorted(given - vars(keys_of(config, keys)).items()):
            raise UsageError(
                f"recipe: model.{name} is {value}, but {keys.ckpt} has {vars(config)[name]}",
                "leave the sizes out of the recipe, or start from fresh weights",
            )
    else:
        size = -(-train.vocab_size // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE
        config = fresh_config(keys, keys.vocab_size or size)
    if config.vocab_size < train.vocab_size:
        raise UsageError(
            f"the model has {config.vocab_size} ids, but the tokenizer of {train.folder} has "
            f"{train.vocab_size}",
            None if keys.ckpt else "set model.vocab_size = 0 to take it from the dataset",
        )
    special = asdict(train.manifest.tokenizer.special)
    for name, number in special.items():
        known = vars(config)[f"{name}_id"]
        if known not in (None, number):
            raise UsageError(
                f"the {name} id of {keys.ckpt} is {known}, that of the tokenizer of "
                f"{train.folder} is {number}",
                "pack the data with the tokenizer.json of the model",
            )
    return replace(config, **{f"{name}_id": number for name, number in special.items()})


def read_base(keys: ModelKeys, folder: Path) -> ModelConfig:
    """Return the shape of the model to start from, as it is to be trained: with full attention.

    Raises UsageError for one that writes from left to right, unless it is to be adapted.
    """
    if keys.adapt:
        return read_config(folder, Reading("full", keys.shift))
    config = read_config(folder)
    if config.is_causal:
        raise UsageError(
            f"{keys.ckpt} writes from left to right, and this training hides tokens",
            "start from it by the recipe adapt, or --set model.adapt=true",
        )
    return config


def check_tokenizer(folder: Path, train: TokenDataset) -> None:
    """Raise UsageError if the model to start from comes with another tokenizer than the data."""
    file = folder / TOKENIZER_FILE
    if file.is_file() and read_tokenizer_files(file).sha256 != train.manifest.tokenizer.sha256:
        raise UsageError(
            f"{folder} and {train.folder} have different tokenizers",
            f"make the data with {file}",
        )


def fresh_config(keys: ModelKeys, vocab_size: int) -> ModelConfig:
    """Return the shape that a recipe's sizes describe, without special ids.

    Raises UsageError where a size is missing.
    """
    if missing := [f"model.{name}" for name in SIZES if not vars(keys)[name]]:
        raise UsageError(
            f"recipe: missing {', '.join(missing)}, or model.ckpt",
            "a recipe without sizes fine-tunes a base: illada sft RECIPE --ckpt BASE",
        )
    return ModelConfig(
        vocab_size=vocab_size,
        width=keys.width,
        layers=keys.layers,
        heads=keys.heads,
        kv_heads=keys.kv_heads,
        head_size=keys.head_size or keys.width // keys.heads,
        ffn_size=keys.ffn_size,
        max_length=keys.max_length,
        rope_theta=keys.rope_theta,
        norm_eps=keys.norm_eps,
        tied=keys.tied,
        initializer_range=keys.initializer_range or None,
    )


def keys_of(config: ModelConfig, keys: ModelKeys) -> ModelKeys:
    """Return the recipe's table of a model, nothing left open."""
    known = {name: value for name, value in vars(config).items() if name in vars(keys)}
    return replace(keys, **known | {"initializer_range": config.initializer_range or 0.0})


def total_tokens(recipe: Recipe, dataset_tokens: int) -> int:
    """Return the length of the run in tokens."""
    return recipe.run.total_tokens or max(1, round(recipe.run.epochs * dataset_tokens))


def check_datasets(train: TokenDataset, holdout: TokenDataset | None) -> None:
    """Raise DataError unless both datasets hold rows of one tokenizer that has a mask token."""
    if train.rows == 0:
        raise DataError(f"{train.folder} has no rows to train on")
    if train.manifest.tokenizer.special.mask is None:
        raise DataError(
            f"the tokenizer of {train.folder} has no mask token",
            "a masked-diffusion model hides tokens behind one: add <[MASK]> and tokenize again; a "
            "released model gets one by illada convert MODEL -o NEW --add-mask",
        )
    if holdout is None:
        return
    if holdout.manifest.kind != "rows" or holdout.rows == 0:
        raise DataError(f"{holdout.folder} has no rows to validate on")


def check_same_tokenizer(dataset: TokenDataset, train: TokenDataset) -> None:
    """Raise DataError unless two datasets were made with one tokenizer."""
    if dataset.manifest.tokenizer.sha256 != train.manifest.tokenizer.sha256:
        raise DataError(
            f"{dataset.folder} was made with another tokenizer than {train.folder}",
            "pack both with the same tokenizer.json",
        )


def pass_tokens(entries: Sequence[Entry], sources: Sequence[TokenDataset]) -> int:
    """Return the tokens of one pass: each source once, or as many epochs as a mixture says."""
    passes = [entry.amount if entry.is_epochs else 1 for entry in entries] or [1]
    return round(sum(n * source.tokens for n, source in zip(passes, sources, strict=True)))


def check_packages(recipe: Recipe) -> None:
    """Raise UsageError if a key asks for a package that is not installed."""
    for asked, name, extra, package, without in (
        (recipe.log.tensorboard, "log.tensorboard", "tensorboard", "tensorboard", "false"),
        (recipe.log.tracker == "wandb", "log.tracker", "wandb", "wandb", "none"),
        (recipe.log.tracker == "trackio", "log.tracker", "trackio", "trackio", "none"),
        (recipe.lora.rank, "lora.rank", "lora", "peft", "0"),
        (recipe.run.float8, "run.float8", "float8", "torchao", "false"),
    ):
        if asked and find_spec(package) is None:
            raise UsageError(
                f"recipe: {name} needs the package {package}",
                f"pip install 'illada[{extra}]', or --set {name}={without}",
            )


def check_base_is_given(recipe: Recipe) -> None:
    if not recipe.model.ckpt:
        raise UsageError("recipe: lora.rank needs a base to adapt", "give one: --ckpt BASE")


def check_turns(recipe: Recipe, train: TokenDataset) -> None:
    """Raise UsageError if the mask needs to know whose turn a token is, and the data do not say."""
    if recipe.objective.mask != "all" and not train.has_turns:
        raise UsageError(
            f'recipe: objective.mask = "{recipe.objective.mask}" needs conversations, but '
            f"{train.folder} holds plain text",
            "pack prompts and responses: illada pack --chat",
        )


def check_row_lengths(dataset: TokenDataset, max_length: int, is_fresh: bool) -> None:
    """Raise UsageError if a row is longer than the model's context.

    Where the manifest promises that none is, it is believed: each index is held to that promise
    when it is read.
    """
    promised = dataset.manifest.settings.get("sequence_length")
    if isinstance(promised, int) and promised <= max_length:
        return
    first = 0
    for index in dataset.indexes():
        lengths = np.diff(index.row_ends, prepend=0)
        too_long = np.flatnonzero(lengths > max_length)
        if len(too_long):
            raise UsageError(
                f"row {first + too_long[0]} of {dataset.folder} has {lengths[too_long[0]]} tokens, "
                f"but the model's context (model.max_length) is {max_length}",
                f"pack with --sequence-length {max_length}"
                + (", or raise model.max_length" if is_fresh else ""),
            )
        first += len(lengths)


def find_tokenizer(recipe: Recipe, packed: Path, train: TokenDataset) -> Path | None:
    """Return the tokenizer.json that made a dataset: in its folder, or in that of the base."""
    folders = [packed, train.folder]
    if recipe.model.ckpt:
        folders.append(find_model(recipe.model.ckpt))
    for path in (folder / TOKENIZER_FILE for folder in folders):
        if path.is_file() and read_tokenizer_files(path).sha256 == train.manifest.tokenizer.sha256:
            return path
    return None


def bytes_per_token(holdout: TokenDataset, rows: int, tokenizer: Tokenizer) -> float | None:
    """Return the mean length of a token's text in the rows that validation reads, in UTF-8 bytes.

    Where turns are known, only the responses count, as they do in the bound. Control tokens have no
    text. At most SAMPLED_TOKENS are decoded.
    """
    tokens = text_bytes = 0
    for place in range(rows):
        row = holdout.row(row_at(place, holdout.rows, NOISE_SEED)[1])
        ids = row.ids if row.turns is None else row.ids[row.turns > 0]
        tokens += len(ids)
        text_bytes += len(tokenizer.decode(ids.tolist()).encode())
        if tokens >= SAMPLED_TOKENS:
            break
    return text_bytes / tokens if text_bytes else None
