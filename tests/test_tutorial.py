"""Every command line of docs/tutorial.md does what is printed; names, sizes and lengths change."""

import pytest

from illada_core.model.configfile import read_config
from tests.causal_model import write_causal_model
from tests.printed import (
    BRIEF,
    SHORT,
    SHORT_SFT,
    fill,
    output_of,
    printed_lines,
    run,
    served,
)

PAGE = "docs/tutorial.md"
# What is printed, and the small thing that runs in its place; each must be there.
SMALL = {
    "--sequence-length 128": "--sequence-length 128 --holdout 0.3",
    "-o runs/first --set run.total_tokens=3e6": f"-o runs/first {SHORT}",
    "--set run.total_tokens=6e6": "--set run.total_tokens=4096",
    "-o runs/second": f"-o runs/second {SHORT}",
    "-o runs/adapted": f"-o runs/adapted {SHORT} --set run.epochs=0 --set data.path=donor-packed",
    "-o runs/chat": f"-o runs/chat {SHORT_SFT}",
    "illada eval": "illada eval --limit 4",
    "--data arc.jsonl": "--data items/arc_challenge.jsonl",
    "illada serve --ckpt runs/chat": served("runs/chat"),
}


def write_llama(folder):
    """Write a causal model whose tokenizer has no mask."""
    write_causal_model(folder)
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace("<[MASK]>", "<extra>"))


@pytest.fixture(scope="module")
def done(tmp_path_factory, byte_model):
    """Run every line; return the folder, and what each printed to stdout under its own words."""
    folder = tmp_path_factory.mktemp("tutorial")
    fill(folder, byte_model)
    write_llama(folder / "my-llama")
    return folder, run(folder, printed_lines(PAGE), SMALL)


def test_what_is_made_small_is_printed_in_the_tutorial():
    text = "\n".join(printed_lines(PAGE))
    assert [name for name in (*SMALL, *BRIEF) if name not in text] == []


def test_the_tutorial_leads_to_four_models(done):
    folder, _ = done
    for name in ("first", "second", "adapted", "chat"):
        assert (folder / "runs" / name / "model" / "model.safetensors").exists(), name
    read = [read_config(folder / name) for name in ("donor", "runs/adapted/model")]
    assert [config.attention for config in read] == ["causal", "full"]


def test_the_tutorial_shows_what_it_says(done):
    folder, outputs = done
    assert "perplexity" in output_of(outputs, "--text README.md")
    assert output_of(outputs, "--infill").startswith("def area(r):\n")
    assert output_of(outputs, "printf").endswith("\n")  # an answer, whatever so small a model says
    assert (folder / "both.png").stat().st_size > 1000
    assert "arc_challenge" in output_of(outputs, "illada eval")
