"""Configuration of the documentation site."""

import re
import shutil
import sys
from pathlib import Path

import refgrad

sys.path.insert(0, str(Path(__file__).parents[1]))
from proofs.agreement import read_map, table

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
    HERE.parent / "proofs",
    HERE / "proofs",
    dirs_exist_ok=True,
    ignore=shutil.ignore_patterns("*.py", "*.toml", "coq", "__pycache__"),
)
(HERE / "theorems.md").write_text(table(read_map()))


def escape_norms(app, what, name, obj, options, lines):
    """Keep |A|, a norm, from being read as the name of a substitution; examples and literals stay as they are."""
    example = False
    for number, line in enumerate(lines):
        example = bool(line.strip()) and (example or line.lstrip().startswith(">>>"))
        if not example:
            parts = re.split("(`[^`]+`)", line)
            lines[number] = "".join(part if part.startswith("`") else part.replace("|", r"\|") for part in parts)


def setup(app):
    """Escape before numpydoc, which listens with the default priority, takes the sections apart."""
    app.connect("autodoc-process-docstring", escape_norms, priority=400)
