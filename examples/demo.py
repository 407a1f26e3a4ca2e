"""The two main jobs in two minutes: train on compressed activations, and judge a right and a wrong implementation.

Run with ``make demo``. Each step prints the command that it runs, so that it can be typed again. Exits 0 only if the
verdicts are the ones that they should be.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.markup import escape

IMPLEMENTATIONS = Path("examples/implementations")
STORES = ("--store", "exact", "--store", "svd", "--store", "hosvd")
console = Console()


def step(title: str, explanation: str, arguments: list[str], extra: tuple[str, ...] = ()) -> int:
    """Announce and run one refgrad command; return its exit code. `extra` arguments are not shown."""
    console.print()
    console.rule(f"[bold]{escape(title)}")
    console.print(explanation)
    console.print(f"[bold green]$ refgrad {escape(' '.join(arguments))}\n", soft_wrap=True)
    return subprocess.run([sys.executable, "-m", "refgrad", *arguments, *extra], check=False).returncode


def check(name: str, title: str, explanation: str) -> tuple[int, set[str]]:
    """Judge one example; return the exit code and the causes that the report names."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        code = step(title, explanation, ["check", str(IMPLEMENTATIONS / name)], ("--json", str(report)))
        if not report.exists():
            return code, set()
        failures = json.loads(report.read_text())["failures"]
    return code, {failure["cause"]["name"] for failure in failures if failure["cause"]}


def main() -> int:
    """Run the demonstration; return the exit code."""
    began = time.perf_counter()
    surprises = []

    code = step(
        "1. Train a small CNN on handwritten digits",
        "The forward pass is exact every time; what differs is how each layer keeps its input until the backward pass.",
        ["train", *STORES, "--explained-variance", "0.9", "--out", "runs/demo"],
    )
    if code != 0:
        surprises.append(f"training exited {code}, expected 0")

    code, _ = check(
        "correct_numpy.py",
        "2. Judge an implementation that is right",
        "Somebody wrote the HOSVD convolution layer in plain NumPy. Is it right?",
    )
    if code != 0:
        surprises.append(f"the right implementation was judged {code}, expected 0")

    code, causes = check(
        "wrong_padding_axes.py",
        "3. Judge an implementation that is subtly wrong",
        "The same layer, but it pads the width by the height's padding. Most tests never pad the two differently.",
    )
    if code != 1:
        surprises.append(f"the wrong implementation was judged {code}, expected 1")
    elif not causes or not all(cause.endswith("padding of the height for the width") for cause in causes):
        surprises.append(f"the wrong implementation's mistake was named {sorted(causes)}, not the padding")

    console.print()
    console.rule()
    for surprise in surprises:
        console.print(f"[bold red]Not as expected:[/] {escape(surprise)}")
    if not surprises:
        console.print(
            f"Done in {time.perf_counter() - began:.0f} s, and every verdict was the expected one. "
            "The picture is runs/demo/accuracy_against_memory.png."
        )
    return len(surprises)


if __name__ == "__main__":
    sys.exit(main())
