"""Check the proofs: that the map, the arguments, the code and the tests agree, and that Coq accepts what it is said to.

In: proofs/ and everything that proofs/map.toml names. Out: a table of what each theorem rests on, one line for each
thing that is wrong, and exit code 1 where there is any. Run as ``python -m proofs.check``, or ``make proofs``;
``--libraries`` has coqchk go through MathComp, Flocq and Coq's own library as well, which takes many minutes.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from proofs import machine
from proofs.agreement import ROOT, Map, disagreements, read_map
from proofs.machine import FOLDER, RefusedError, Statement

SOURCES = ROOT / "proofs/coq"


class Checked(NamedTuple):
    """What Coq said: what each statement rests on, what is wrong, and how long each part took, in seconds."""

    rests_on: Mapping[Statement, frozenset[str]]
    wrong: list[str]
    seconds: Mapping[str, float]


def uncollected(the_map: Map) -> list[str]:
    """List the tests of the map that pytest does not collect."""
    named = sorted({test for entry in the_map.entries for test in (*entry.tests, *entry.sharp)})
    files = sorted({test.partition("::")[0] for test in named})
    command = (sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *files)
    printed = machine.run(*command, folder=ROOT, what="collecting the tests")
    collected = {line.partition("[")[0].strip() for line in printed.splitlines()}
    return [f"pytest does not collect {test}, which proofs/map.toml names" for test in named if test not in collected]


def check_by_machine(the_map: Map, *, libraries: bool) -> Checked:
    """Build the proofs; then, side by side, let coqchk go through them, and ask Coq what they rest on."""
    seconds: dict[str, float] = {}

    def timed(what: str, function: Callable[..., Any], *arguments: object, **options: object) -> Any:
        started = time.monotonic()
        result = function(*arguments, **options)
        seconds[what] = time.monotonic() - started
        return result

    machine.install()
    with ThreadPoolExecutor(max_workers=2) as pool:
        tests = pool.submit(timed, "collecting the tests", uncollected, the_map)
        files = timed("building", machine.build, SOURCES, FOLDER)
        mapped = [Statement(*pair) for entry in the_map.entries for pair in entry.coq]
        statements = machine.main_statements(files, mapped)
        rests_on = pool.submit(timed, "what they rest on", machine.rests_on, statements, the_map.axioms, FOLDER)
        checker = pool.submit(timed, "coqchk", machine.coqchk, files, FOLDER, libraries=libraries)
        control = pool.submit(timed, "the control", machine.control_passes, SOURCES, FOLDER / "control")
    wrong = [*tests.result(), *machine.complaints(files, rests_on.result(), the_map.axioms)]
    if checker.exception():
        wrong.append(str(checker.exception()))
    wrong += [f"THE CHECK IS BROKEN: {part} accepts proofs/coq/control/admitted.v" for part in control.result()]
    return Checked(rests_on.result(), wrong, seconds)


def table(the_map: Map, rests_on: Mapping[Statement, frozenset[str]]) -> Table:
    """Lay out what each theorem of the map rests on."""
    shown = Table(title="What the theorems rest on")
    for column in ("theorem", "in Coq", "file", "rests on"):
        shown.add_column(column, no_wrap=column != "rests on")
    for entry in the_map.entries:
        for file, name in entry.coq:
            axioms = rests_on[Statement(file, name)]
            shown.add_row(entry.theorem, name, file, ", ".join(sorted(axioms)) or "nothing")
    return shown


def main() -> int:
    """Check everything; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m proofs.check", description="Check the proofs.")
    parser.add_argument("--libraries", action="store_true", help="let coqchk go through what the proofs require, too")
    options = parser.parse_args()
    started = time.monotonic()
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    wrong = disagreements()
    if not wrong:
        the_map = read_map()
        try:
            checked = check_by_machine(the_map, libraries=options.libraries)
        except RefusedError as error:
            wrong.append(str(error))
        else:
            wrong += checked.wrong
            console.print(table(the_map, checked.rests_on))
            console.print(", ".join(f"{what} {taken:.0f} s" for what, taken in checked.seconds.items()))
    for line in wrong:
        console.print(line, markup=False, soft_wrap=True)
    if not wrong:
        console.print(
            "Map, arguments, code and tests agree; Coq and coqchk accept every proof; the control is refused."
        )
    console.print(f"{time.monotonic() - started:.0f} s in all")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
