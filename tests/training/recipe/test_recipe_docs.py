"""docs/recipes.md tells every key; run this file as a module to print its tables."""

from dataclasses import MISSING, fields

from illada_core.training.recipe.files import as_toml
from illada_core.training.recipe.keys import Recipe
from tests.conftest import REPO


def key_lines():
    """Return the documentation's tables, one for each table of a recipe."""
    lines = []
    for table in fields(Recipe):
        about = table.type.__doc__.splitlines()[0]
        lines += [f"### [{table.name}]", "", about, ""]
        lines += ["| key | default | meaning | may change |", "| --- | --- | --- | --- |"]
        for item in fields(table.type):
            default = "required" if item.default is MISSING else f"`{as_toml(item.default)}`"
            changes = "yes" if item.metadata["may_change"] else ""
            lines.append(f"| `{item.name}` | {default} | {item.metadata['about']} | {changes} |")
        lines.append("")
    return lines


def test_the_documentation_tells_every_key():
    text = (REPO / "docs" / "recipes.md").read_text()
    assert "\n".join(key_lines()).strip() in text


if __name__ == "__main__":
    print("\n".join(key_lines()))
