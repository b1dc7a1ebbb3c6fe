"""Sphinx configuration; tables come from the sources at build time (extensions/pliant_tables)."""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "pliant"
author = "the pliant authors"
copyright = author
version = release = installed_version("pliant")

extensions = ["myst_parser", "pliant_tables"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "extensions"]
nitpicky = True

html_theme = "alabaster"
html_theme_options = {
    "description": "A parameterised accelerator for quantized networks, bit-exact at every level",
    "page_width": "72em",
    "sidebar_width": "16em",
    "fixed_sidebar": True,
}
html_show_copyright = False
