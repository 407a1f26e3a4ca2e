"""Configuration of the documentation site."""

import shutil
from pathlib import Path

import refgrad

project = "refgrad"
author = "The refgrad developers"
copyright = "2026, the refgrad developers"
version = release = refgrad.__version__

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"refgrad {release}"

autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
# A link out of the proofs to a test or a module is right in the repository, and has no page here.
suppress_warnings = ["myst.xref_missing"]

# The proofs stand beside the code that cites them; the site shows them too.
HERE = Path(__file__).parent
shutil.copytree(
    HERE.parent / "proofs", HERE / "proofs", dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.py", "__pycache__")
)
