"""The command line: what a user types, checked and handed to the module that does the work.

Nothing heavy is imported before a command runs, so that ``refgrad --help`` answers at once.
"""

from __future__ import annotations

import typer

__all__ = ["app"]

app = typer.Typer(
    name="refgrad",
    help="The reference for training with compressed activations: train with it, or judge an implementation by it.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
