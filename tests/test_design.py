"""The plan of the house names every room and every file that there is."""

import re

import pytest

from tests.conftest import REPO

PLAN = (REPO / "docs" / "design.md").read_text()
CAPTIONS = PLAN.split("## Every file")[1].split("## Where do I change")[0]
VERBS = (
    "chat",
    "convert",
    "eval",
    "generate",
    "help",
    "pack",
    "runs",
    "score",
    "serve",
    "tokenize",
    "train",
)
EVERYWHERE = {"verb", "options", "run"}
FILES = sorted(
    path.relative_to(REPO)
    for package in ("illada_core", "illada_cli")
    for path in (REPO / package).rglob("*.py")
    if not path.name.startswith("__")
)


def captions_of(room):
    """Return the captions of a room: from its name in bold, or in a list of verbs, to the next."""
    name = room.removeprefix("illada_core/")
    verb = name.removeprefix("illada_cli/")
    if verb in VERBS:
        return CAPTIONS.split(f"`{verb}/`:")[1].split("/`:")[0]
    return CAPTIONS.split(f"**`{name}/`**:")[1].split("**`")[0]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_every_file_has_a_caption_in_the_plan(path):
    room, name = str(path.parent), path.stem
    if room == "illada_core/model/kernels":
        room, name = "illada_core/model", f"kernels/{name}"
    if room.startswith("illada_cli/") and name in EVERYWHERE:
        return
    assert f"`{name}`" in captions_of(room), f"docs/design.md has no caption for {path}"


def test_no_caption_is_left_of_a_file_that_is_gone():
    kernels = {f"kernels/{path.stem}" for path in FILES if path.parent.name == "kernels"}
    stems = {path.stem for path in FILES} | kernels
    named = set(re.findall(r"`([a-z_/]+)`", CAPTIONS))
    rooms = {each for each in named if each.endswith("/")}
    assert named - rooms - stems <= {"load"}
