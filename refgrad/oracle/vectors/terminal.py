"""The commands for golden vectors, at a terminal: build, verify, export, and judge a board's log.

In: what was typed. Out: an exit code; files; what people read on the console.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from refgrad.oracle.operations import OPERATIONS
from refgrad.oracle.protocol import Declaration
from refgrad.oracle.vectors.build import build
from refgrad.oracle.vectors.export import to_c_header, to_npz, to_pytest, to_safetensors
from refgrad.oracle.vectors.log import judge_log
from refgrad.oracle.vectors.manifest import CORPUS, VectorsError, read_corpus, write_corpus
from refgrad.oracle.vectors.verify import verify

__all__ = ["build_vectors", "bytes_of", "export_vectors", "judge_vectors", "verify_vectors"]

WRONG_USAGE = 2
INTERRUPTED = 130


def build_vectors(folder: Path, operations: Sequence[str]) -> int:
    """Choose vectors and write them into a new folder."""
    with _reported() as (console, code):
        for operation in operations:
            if operation not in OPERATIONS:
                raise VectorsError(f"there is no operation {operation!r}; known are {', '.join(OPERATIONS)}")
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise VectorsError(f"{folder} is not empty; name a folder that is, or that is not there yet")
        with _bar() as progress:
            corpus = build(operations, progress=progress)
        write_corpus(corpus, folder)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        console.print(f"{len(corpus.vectors)} vectors, corpus {corpus.version}, {size:,} bytes in {folder}")
    return code[0]


def verify_vectors(folder: Path | None) -> int:
    """Read a corpus, and hold it against refgrad's own results."""
    with _reported() as (console, code):
        corpus = read_corpus(folder or CORPUS)
        with _bar() as progress:
            faults = verify(corpus, progress=progress)
        for fault in faults:
            _say(console, fault)
        judged = sum(len(vector.expected) for vector in corpus.vectors)
        console.print(f"{len(corpus.vectors)} vectors, {judged} results, {len(faults)} faults")
        code[0] = int(bool(faults))
    return code[0]


def export_vectors(
    folder: Path | None,
    *,
    npz: Path | None,
    safetensors: Path | None,
    c_header: Path | None,
    pytest: Path | None,
    target: str,
    flash: str | None,
    operations: Sequence[str],
) -> int:
    """Write a corpus in other formats."""
    with _reported() as (console, code):
        if not (npz or safetensors or c_header or pytest):
            raise VectorsError("say what to write: --npz, --safetensors, --c-header or --pytest, each with a file")
        if flash is not None and c_header is None:
            raise VectorsError("--flash is for --c-header")
        corpus = read_corpus(folder or CORPUS)
        written: dict[Path, bytes] = {}
        if npz:
            written[npz] = to_npz(corpus)
        if safetensors:
            written[safetensors] = to_safetensors(corpus)
        if c_header:
            room = None if flash is None else bytes_of(flash)
            written[c_header] = to_c_header(corpus, flash=room, operations=operations).encode("ascii")
        if pytest:
            archive = pytest.with_suffix(".npz")
            written[pytest] = to_pytest(corpus, archive=archive.name, target=target).encode()
            written[archive] = to_npz(corpus)
        for path, content in written.items():
            path.write_bytes(content)
            console.print(f"{path}: {len(content):,} bytes", highlight=False)
    return code[0]


def judge_vectors(
    log: Path,
    folder: Path | None,
    *,
    accumulator: str | None,
    decomposition: str,
    json_file: Path | None,
    html_file: Path | None,
) -> int:
    """Judge what a board printed."""
    with _reported() as (console, code):
        declaration = Declaration(dtypes=("float32",), accumulator=accumulator, decomposition=decomposition)
        corpus = read_corpus(folder or CORPUS)
        with log.open(encoding="utf-8", errors="replace") as lines:
            run, absent = judge_log(lines, corpus, name=str(log), declaration=declaration)
        with _bar() as progress:
            for step in run:
                progress(step.doing, step.done, step.total)
        report = run.report()
        report.print(console)
        if absent:
            console.print(f"Not in the log: {len(absent)} more float32 vectors of its operations", highlight=False)
        if json_file:
            json_file.write_text(report.to_json(), encoding="utf-8")
        if html_file:
            from refgrad.oracle.html import to_html

            html_file.write_text(to_html(report), encoding="utf-8")
        code[0] = report.exit_code
    return code[0]


def bytes_of(text: str) -> int:
    """Return how many bytes are meant: a number, with K or M for 1024 or 1024 * 1024 of them.

    Examples
    --------
    >>> bytes_of("64K"), bytes_of("512")
    (65536, 512)
    """
    found = re.fullmatch(r"([0-9]{1,9})([KM]?)B?", text.strip(), flags=re.IGNORECASE)
    if found is None:
        raise VectorsError(f"a size is written 512, 64K or 2M, got {text!r}")
    return int(found[1]) * {"": 1, "K": 2**10, "M": 2**20}[found[2].upper()]


@contextlib.contextmanager
def _reported() -> Iterator[tuple[Console, list[int]]]:
    """Turn what can go wrong into a sentence and an exit code."""
    errors, code = Console(stderr=True), [0]
    try:
        yield Console(soft_wrap=True), code
    except OSError as error:
        _say(errors, f"{error.filename}: {error.strerror}" if error.filename else str(error))
        code[0] = WRONG_USAGE
    except ValueError as error:
        _say(errors, str(error))
        code[0] = WRONG_USAGE
    except KeyboardInterrupt:
        _say(errors, "interrupted; nothing was written")
        code[0] = INTERRUPTED


@contextlib.contextmanager
def _bar() -> Iterator[Callable[[str, int, int], None]]:
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)

        def follow(doing: str, done: int, total: int) -> None:
            progress.update(task, description=doing, completed=done, total=total)

        yield follow


def _say(console: Console, text: str) -> None:
    console.print(text, style="bold red", markup=False, highlight=False, soft_wrap=True)
