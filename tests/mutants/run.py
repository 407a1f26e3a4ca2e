"""Plant each mutant of mutants.toml in a copy of refgrad and see the tests fail; a survivor is a missing test.

``make mutants`` runs them all; ``python tests/mutants/run.py NAME ...`` only those, and ``--check`` none: it only sees
whether their texts are still there. For each mutant the tests that it
names run first, and the whole suite where they pass. Exits 1 if a mutant
survives, or if its text is not found just once.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("refgrad", "tests", "examples", "proofs", "docs", "benchmarks", "Makefile", "pyproject.toml")
COPIED += ("README.md", "CHANGELOG.md", "constraints.txt", "constraints-lowest.txt")
ABORTED = {-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS}
SINGLE_THREADED = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Mutant:
    """One mistake: in `file`, the text `old`, found just once, becomes `new`."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def load() -> list[Mutant]:
    """Read the list, and refuse a mutant whose text does not stand just once in its file, or whose name is taken."""
    rows = tomllib.loads((ROOT / "tests/mutants/mutants.toml").read_text())["mutant"]
    mutants = [Mutant(**{**row, "tests": tuple(row["tests"])}) for row in rows]
    for mutant in mutants:
        found = (ROOT / mutant.file).read_text().count(mutant.old)
        if found != 1:
            raise SystemExit(f"{mutant.name}: its text stands {found} times in {mutant.file}, not once")
    if len({mutant.name for mutant in mutants}) != len(mutants):
        raise SystemExit("two mutants share a name")
    return mutants


def failing_test(folder: Path, *tests: str) -> str | None:
    """Run the tests in `folder`, all where none is named; return the first that fails, or None where all pass."""
    environment = {**os.environ, **SINGLE_THREADED, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", *tests]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if run.returncode == 0:
        return None
    if run.returncode in ABORTED:  # a kernel that reads or writes out of bounds takes the interpreter with it
        return f"the interpreter aborted ({signal.Signals(-run.returncode).name}) in {' '.join(tests)}"
    if run.returncode not in (1, 2):  # 1: a test failed; 2: a test module could not even be imported
        raise RuntimeError(f"pytest exited {run.returncode}:\n{run.stdout[-2000:]}{run.stderr[-2000:]}")
    lines = [line for line in run.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return lines[0].split(" - ")[0] if lines else "(no test named)"


def copy_to(folder: Path) -> None:
    """Copy what the tests need, with the compiled kernels: they stay valid, for their sources keep their times."""
    for part in COPIED:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("*.pyc"))
        else:
            shutil.copy(source, folder / part)


def judge(mutant: Mutant) -> tuple[Mutant, str | None]:
    """Plant one mutant in a fresh copy; return it with the test that killed it, or None.

    The whole suite is run where the mutant's own tests pass. It passes on a copy without a mutant, see `main`.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_to(folder)
        target = folder / mutant.file
        target.write_text(target.read_text().replace(mutant.old, mutant.new))
        return mutant, failing_test(folder, *mutant.tests) or failing_test(folder)


def main(names: list[str]) -> int:
    """Judge the named mutants, or all; return the exit code."""
    mutants = load()
    if names == ["--check"]:
        print(f"{len(mutants)} mutants, each of whose texts stands just once")
        return 0
    unknown = set(names) - {mutant.name for mutant in mutants}
    if unknown:
        raise SystemExit(f"no such mutant: {', '.join(sorted(unknown))}")
    chosen = [mutant for mutant in mutants if not names or mutant.name in names]
    console, survivors = Console(), []
    console.print(
        "First the whole suite on a copy without a mutant: if it fails there, no verdict would mean anything."
    )
    with tempfile.TemporaryDirectory() as name:
        copy_to(Path(name))
        failure = failing_test(Path(name), "-n", "auto")
    if failure is not None:
        raise SystemExit(f"the suite fails without any mutant: {failure}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress, ThreadPoolExecutor(os.cpu_count()) as pool:
        task = progress.add_task("mutants", total=len(chosen))
        for future in as_completed([pool.submit(judge, mutant) for mutant in chosen]):
            mutant, killer = future.result()
            if killer is None:
                survivors.append(mutant.name)
            verdict = f"[green]killed[/] by {escape(killer)}" if killer else "[bold red]SURVIVED"
            console.print(f"{mutant.name}: {verdict}", soft_wrap=True)
            progress.advance(task)
    console.print(f"{len(chosen) - len(survivors)} of {len(chosen)} mutants killed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
