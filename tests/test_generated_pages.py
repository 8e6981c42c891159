"""The pages that are made from the source have all of it: reference, examples, drawing of the layers."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

import discoro_trio
from discoro_trio import launch, testing
from docs._scripts import architecture_drawing, examples_page
from tests._project import structure

ROOT = Path(__file__).parents[1]
SVG = "{http://www.w3.org/2000/svg}"


def documented() -> list[str]:
    """Give the names of the reference, each with its module."""
    module, found = "", []
    for line in (ROOT / "docs" / "reference.md").read_text(encoding="utf-8").splitlines():
        if match := re.match(r"\.\. currentmodule:: (\S+)", line):
            module = match[1]
        elif match := re.match(r"\.\. auto(?:class|function|exception|data):: ([\w.]+)", line):
            found.append(match[1] if "." in match[1] else f"{module}.{match[1]}")
    return found


def test_the_reference_has_every_public_name_once() -> None:
    counts = Counter(documented())
    public = [f"{module.__name__}.{name}" for module in (discoro_trio, launch, testing) for name in module.__all__]
    assert [name for name in public if counts[name] != 1] == []


def test_the_page_of_the_examples_has_every_program_with_its_sentence_and_its_text() -> None:
    page = examples_page.render(examples_page.programs(ROOT))
    shown = [path for path in (ROOT / "examples").rglob("*.py") if path.name != "_command_line.py"]
    assert len(shown) >= 28
    for path in shown:
        name = path.relative_to(ROOT / "examples").as_posix()
        assert f"\n## {name}\n\n```{{literalinclude}} ../examples/{name}\n" in page
        assert re.search(rf"\| \[{re.escape(name)}\]\(#[\w-]+\) \| [A-Z].*\. \|", page)


def test_an_example_that_does_not_say_what_it_does_is_refused(tmp_path: Path) -> None:
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "silent.py").write_text("print(1)\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"silent\.py does not say"):
        examples_page.programs(tmp_path)


def test_the_drawing_has_a_box_for_each_layer_and_a_disc_for_each_import_that_there_is() -> None:
    imports, lines = architecture_drawing.read()
    drawing = ET.fromstring(architecture_drawing.draw(imports, lines))  # noqa: S314 - our own text
    texts = Counter(text.text for text in drawing.iter(f"{SVG}text"))
    assert all(texts[layer] == 2 for layer in structure.LAYERS)
    counts = [count for of_layer in imports.values() for count in of_layer.values()]
    assert Counter(str(count) for count in counts) <= texts
    discs = [circle for circle in drawing.iter(f"{SVG}circle") if circle.get("r") != "3"]
    assert len(discs) == len(counts)
