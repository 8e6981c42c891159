"""How Sphinx builds the documentation; the table of conformance is made on the way."""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests._project import conformance

conformance.write_table()

project = "discoro_trio"
author = "The discoro_trio authors"
project_copyright = "2026, The discoro_trio authors"
release = version = version_of("discoro_trio")

extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
nitpicky = True

html_theme = "furo"
html_title = f"discoro_trio {release}"
