"""Write the page of the examples: each program of `examples/` with its first sentence and its source.

Sphinx calls `write` during the build, so the page always lists all examples.
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "examples.md"

HEAD = """# Examples

Short programs, one for each feature. Each runs as `python examples/NAME.py` on one machine, and needs no other process.
`--help` lists its options. With `--nodes` most of them use nodes that already run.

"""


def programs(root: Path) -> dict[str, str]:
    """Return the files of the examples, each with its first sentence.

    Raises:
        ValueError: An example does not begin with a sentence.
    """
    found = {}
    for path in sorted((root / "examples").rglob("*.py")):
        if path.name.startswith("_"):
            continue
        documentation = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        if not documentation:
            message = f"{path.name} does not say in its first line what it does"
            raise ValueError(message)
        found[path.relative_to(root / "examples").as_posix()] = " ".join(documentation.split("\n\n")[0].split())
    return found


def render(sentences: dict[str, str]) -> str:
    """Return the text of the page."""
    table = "".join(f"| [{name}](#{_anchor(name)}) | {sentence} |\n" for name, sentence in sentences.items())
    texts = "".join(
        f"\n({_anchor(name)})=\n\n## {name}\n\n```{{literalinclude}} ../examples/{name}\n:language: python\n```\n"
        for name in sentences
    )
    return f"{HEAD}| program | what it does |\n| --- | --- |\n{table}{texts}"


def _anchor(name: str) -> str:
    return "example-" + name.removesuffix(".py").replace("_", "-").replace("/", "-")


def write() -> None:
    """Write the page to the folder that Sphinx reads."""
    PAGE.write_text(render(programs(ROOT)), encoding="utf-8")
