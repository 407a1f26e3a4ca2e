"""``python -m refgrad`` is ``refgrad``."""

from refgrad.cli import app

if __name__ == "__main__":
    app(prog_name="refgrad")
