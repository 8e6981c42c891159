"""How Sphinx builds the documentation; what is made from the source is made on the way."""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from docs._scripts import architecture_drawing, examples_page
from tests._project import conformance

conformance.write_table()
architecture_drawing.write()
examples_page.write()

project = "discoro_trio"
author = "The discoro_trio authors"
project_copyright = "2026, The discoro_trio authors"
release = version = version_of("discoro_trio")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "_scripts"]
nitpicky = True
# What stands in single quotes in docstrings is code; names of this project are linked where a type is meant.
default_role = "code"
# What others document, and names of types that only stand in signatures.
nitpick_ignore_regex = [
    (
        "py:.*",
        r"(.*\.)?(AbstractAsyncContextManager|BrokenExecutor|Future|MemoryReceiveChannel|Path|PathLike|ReceiveChannel|T|WouldBlock)",
    ),
    (
        "py:class",
        r"(.*\.)?(BackgroundOptions|ClusterLoad|DetailsAre|Endpoint|EndpointKeywords|HasTables|K|MapIterator|MapResults)",
    ),
    ("py:class", r"(.*\.)?(P|Ports|ProcessStacks|R|R_co|Recent|Registration|Shared|StatusSubscription|Strategy)"),
    ("py:class", r"(.*\.)?(Subscription|T_co|Wanted|WantedOf)"),
]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"discoro_trio {release}"
html_static_path = ["_static"]
html_css_files = ["side_by_side.css"]
