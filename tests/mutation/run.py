"""Mutate refgrad with cosmic-ray and see the tests fail: in a sample of every change that it knows how to make.

``make mutation`` runs it; ``--sample N`` says how many mutations of each package, ``--package`` which packages. The
mutations are drawn from a seed. Each is made in a copy of the tree, one copy for every core; what has been run is kept
in build/mutation until a source or a test changes, so that a run that was interrupted goes on where it was.

Exits 1 where 5 % or more of a package's mutations survive without a reason in packages.toml.
"""

import ast
import hashlib
import os
import random
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

import typer
from cosmic_ray.commands import init
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import TestOutcome, WorkItem, WorkResult
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.mutants.run import ROOT, SINGLE_THREADED, copy_to

HERE = Path(__file__).parent
LARGEST_SHARE = 0.05
CONFIGURATION = """
[cosmic-ray]
module-path = []
timeout = {timeout}
excluded-modules = []
test-command = "{command}"

[cosmic-ray.distributor]
name = "local"
"""


@dataclass(frozen=True)
class Package:
    """What is mutated, and what has to notice."""

    name: str
    paths: tuple[str, ...]
    tests: tuple[str, ...]
    timeout: int

    @property
    def configuration(self) -> str:
        """What cosmic-ray is told."""
        command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", *self.tests]
        return CONFIGURATION.format(timeout=self.timeout, command=" ".join(command))

    @property
    def modules(self) -> list[Path]:
        """The files that are mutated, from the root."""
        named = [ROOT / path for path in self.paths]
        found = {file for path in named for file in (path.rglob("*.py") if path.is_dir() else [path])}
        return sorted(file.relative_to(ROOT) for file in found)


@dataclass(frozen=True)
class Survivor:
    """A mutation that no test notices, and why none has to."""

    file: str
    old: str
    new: str
    reason: str


@dataclass(frozen=True)
class Outcome:
    """What became of one mutation."""

    file: str
    line: int
    old: str
    new: str
    killed: bool


def read() -> tuple[list[Package], list[Survivor]]:
    """Read packages.toml, and refuse a reason whose line no longer stands in its file."""
    content = tomllib.loads((HERE / "packages.toml").read_text())
    packages = [
        Package(row["name"], tuple(row["paths"]), tuple(row["tests"]), row["timeout"]) for row in content["package"]
    ]
    survivors = [Survivor(**row) for row in content.get("survivor", [])]
    for survivor in survivors:
        lines = [line.strip() for line in (ROOT / survivor.file).read_text().splitlines()]
        if survivor.old not in lines:
            raise SystemExit(f"packages.toml explains a line that is not in {survivor.file}: {survivor.old}")
    return packages, survivors


def mutations_of(package: Package, folder: Path) -> list[WorkItem]:
    """List the changes that cosmic-ray knows to make in a package, but for those that no program could notice."""
    with use_db(str(folder / "all.sqlite")) as database:
        init(package.modules, database, {})
        items = [item for item in database.work_items if not _is_never_run(item)]
    return sorted(items, key=lambda item: (str(item.mutations[0].module_path), _place(item)))


def _place(item: WorkItem) -> tuple[object, ...]:
    mutation = item.mutations[0]
    return (*mutation.start_pos, mutation.operator_name, mutation.occurrence)


def _is_never_run(item: WorkItem) -> bool:
    mutation = item.mutations[0]
    return any(start <= mutation.start_pos < end for start, end in _annotations(ROOT / mutation.module_path))


@cache
def _annotations(file: Path) -> tuple[tuple[tuple[int, int], tuple[int, int]], ...]:
    """Return where annotations begin and end: they are never evaluated, `from __future__ import annotations` says."""
    return tuple(
        ((node.lineno, node.col_offset), (node.end_lineno or node.lineno, node.end_col_offset or node.col_offset))
        for node in _each_annotation(ast.parse(file.read_text()))
    )


def _each_annotation(tree: ast.AST) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        for field in ("annotation", "returns"):
            annotation = getattr(node, field, None)
            if isinstance(annotation, ast.expr):
                yield annotation


def state() -> str:
    """Return what tells this state of the sources and the tests from another."""
    content = hashlib.sha256()
    for file in sorted([*(ROOT / "refgrad").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]):
        content.update(str(file.relative_to(ROOT)).encode() + file.read_bytes())
    return content.hexdigest()[:16]


def run(packages: list[Package], sample: int, seed: int, workers: int, console: Console) -> dict[str, list[Outcome]]:
    """Run a sample of the mutations of each package; return what became of them, those of earlier runs included."""
    kept = ROOT / "build/mutation" / f"{state()}-{seed}-{sample}"
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with ExitStack() as stack:
        trees = [Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(workers)]
        for tree in trees:
            copy_to(tree)
        progress = stack.enter_context(Progress(*columns, console=console))
        for package in packages:
            folder = kept / package.name
            sessions = _sessions(package, folder, sample, seed, workers)
            (folder / "configuration.toml").write_text(package.configuration)
            task = progress.add_task(package.name, total=sum(_counts(session)[0] for session in sessions))
            _exec(folder, trees, sessions, lambda done, task=task: progress.update(task, completed=done))
    return {package.name: _outcomes(kept / package.name) for package in packages}


def _sessions(package: Package, folder: Path, sample: int, seed: int, workers: int) -> list[Path]:
    """Return one cosmic-ray session for every worker, drawn anew where there is none."""
    if not folder.is_dir():
        folder.mkdir(parents=True)
        items = mutations_of(package, folder)
        drawn = random.Random(seed).sample(items, min(sample, len(items)))
        for worker in range(workers):
            with use_db(str(folder / f"worker{worker}.sqlite")) as database:
                database.add_work_items(drawn[worker::workers])
    return sorted(folder.glob("worker*.sqlite"))


def _exec(folder: Path, trees: list[Path], sessions: list[Path], report: Callable[[int], None]) -> None:
    """Let cosmic-ray make the mutations, in every tree its own, and look now and then how far it is."""
    environment = {**os.environ, **SINGLE_THREADED, "PYTHONDONTWRITEBYTECODE": "1"}
    running = []
    try:
        for tree, session in zip(trees, sessions, strict=False):
            command = [sys.executable, "-m", "cosmic_ray.cli", "exec", str(folder / "configuration.toml"), str(session)]
            environment["PYTHONPATH"] = str(tree)
            running.append(subprocess.Popen(command, cwd=tree, env=dict(environment)))
        while any(process.poll() is None for process in running):
            time.sleep(1)
            report(sum(_counts(session)[1] for session in sessions))
    finally:
        for process in running:
            process.terminate()
            process.wait()
    if any(process.returncode for process in running):
        raise SystemExit("cosmic-ray failed; what it printed stands above")


def _counts(session: Path) -> tuple[int, int]:
    with use_db(str(session), WorkDB.Mode.open) as database:
        return database.num_work_items, database.num_results


def _outcomes(folder: Path) -> list[Outcome]:
    found = []
    for session in sorted(folder.glob("worker*.sqlite")):
        with use_db(str(session), WorkDB.Mode.open) as database:
            found += [_outcome(item, result) for item, result in database.completed_work_items]
    return sorted(found, key=lambda outcome: (outcome.file, outcome.line, outcome.new))


def _outcome(item: WorkItem, result: WorkResult) -> Outcome:
    mutation = item.mutations[0]
    changed = [line for line in (result.diff or "").splitlines() if not line.startswith(("---", "+++"))]
    changed = [line for line in changed if line[1:].strip()]  # that the end of a file lost a line break is no change
    old = " / ".join(line[1:].strip() for line in changed if line.startswith("-"))
    new = " / ".join(line[1:].strip() for line in changed if line.startswith("+"))
    killed = result.test_outcome is not TestOutcome.SURVIVED
    return Outcome(str(mutation.module_path), mutation.start_pos[0], old, new, killed)


def check_unmutated(packages: list[Package], console: Console) -> None:
    """Stop where the tests of a package fail without any mutation."""
    console.print("First the tests of each package without a mutation: if they fail there, no verdict means anything.")
    with tempfile.TemporaryDirectory() as name:
        tree = Path(name)
        copy_to(tree)
        for package in packages:
            (tree / "configuration.toml").write_text(package.configuration)
            command = [sys.executable, "-m", "cosmic_ray.cli", "baseline", "configuration.toml"]
            environment = {**os.environ, **SINGLE_THREADED, "PYTHONPATH": str(tree)}
            done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{package.name}: its tests fail without a mutation\n{done.stdout}{done.stderr}")


def main(
    sample: Annotated[int, typer.Option(min=1, help="How many mutations of each package.")] = 60,
    seed: Annotated[int, typer.Option(min=0, help="What they are drawn from.")] = 0,
    package: Annotated[list[str] | None, typer.Option(help="Which package; all where absent. Repeatable.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="How many at a time.")] = os.cpu_count() or 1,
) -> None:
    """Mutate refgrad and see its tests fail."""
    packages, survivors = read()
    unknown = set(package or ()) - {each.name for each in packages}
    if unknown:
        raise typer.BadParameter(f"no such package: {', '.join(sorted(unknown))}")
    chosen = [each for each in packages if not package or each.name in package]
    os.chdir(ROOT)
    console = Console()
    check_unmutated(chosen, console)
    explained = {(each.file, each.old, each.new): each.reason for each in survivors}
    table = Table("package", "mutations", "killed", "explained", "unexplained", "share")
    enough = True
    for name, outcomes in run(chosen, sample, seed, jobs, console).items():
        alive = [outcome for outcome in outcomes if not outcome.killed]
        unexplained = [each for each in alive if (each.file, each.old, each.new) not in explained]
        for each in unexplained:
            console.print(f"SURVIVED {each.file}:{each.line}", style="bold red", highlight=False)
            console.print(f"  - {each.old}\n  + {each.new}", markup=False, highlight=False, soft_wrap=True)
        share = len(unexplained) / len(outcomes)
        enough &= share < LARGEST_SHARE
        counts = (len(outcomes), len(outcomes) - len(alive), len(alive) - len(unexplained), len(unexplained))
        table.add_row(name, *map(str, counts), f"{share:.1%}")
    console.print(table)
    raise typer.Exit(0 if enough else 1)


if __name__ == "__main__":
    typer.run(main)
