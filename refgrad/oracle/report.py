"""What a run found, for people and for programs: a table and the failures in a terminal, the same as JSON.

In: verdicts, gathered by `run`. Out: a `Report`: `print` to a rich console, `to_json`, an exit code.

The JSON document, schema "refgrad-check/3", is one object. Numbers that JSON cannot hold are the strings "inf" and
"nan".

- ``schema``, ``refgrad``: the schema's name and refgrad's version.
- ``target``, ``seed``: what was judged, and what the generated cases follow from.
- ``status``: "passed", "failed", "interrupted", or "not run" where the target could not be loaded (``error`` says why;
  then there are no more keys than these).
- ``cases``: {"catalogue", "generated", "asked_for"}: how many were judged, and how many were asked for.
- ``declaration``: what the target says of itself: {"dtypes", "accumulator", "decomposition", "repeatable",
  "flushes_subnormals", "refuses_invalid", "limits"}.
- ``rows``: a list of {"operation", "row", "passed", "failed", "suspect", "inconclusive", "not_provided",
  "worst_measured_over_allowed", "digits": {"float64", "float32"}}; digits are null, or {"fewest", "median"}: how many
  decimals a PASS guarantees.
- ``failures``: a list of {"operation", "row", "kind", "message", "failed", "judged", "cases", "found_in", "shrunk",
  "input", "index", "value", "expected", "error", "allowed", "measured_over_allowed", "roundoff", "cause",
  "traceback", "warning", "snippet"}. ``input`` is {"description", "arrays" (name -> shape, or shapes), "dtype",
  "attributes", "layout", "explained_variance", "flags"}; ``cause`` is null or {"name", "sentence",
  "explained", "looked_at", "contradicted", "passing"}. ``roundoff`` is null or the one that the error looks like.
- ``not_claimed``: a list of {"reason", "cases"}: what the target refused with NotImplementedError.
- ``error``: null, or why the target could not be run or judged.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final

import refgrad
from refgrad.oracle.cases import AnyCase
from refgrad.oracle.diagnosis import Cause
from refgrad.oracle.flags import flags_of
from refgrad.oracle.protocol import KEYS, LABELS, Declaration
from refgrad.oracle.snippet import snippet
from refgrad.oracle.verdicts import Verdict
from refgrad.rounding import unit_roundoff

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["SCHEMA", "Failure", "Report", "Row", "digits_text", "not_run_json", "ratio_text"]

SCHEMA: Final = "refgrad-check/3"

NOTHING = "the target returned nothing that could be judged right: no row but the call itself has passed or failed"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table.

    Attributes
    ----------
    operation : str
        Of which operation.
    name : str
        One of `refgrad.oracle.protocol.LABELS`.
    passed, failed, suspect, inconclusive, not_provided : int
        In how many cases; they add up to the number of cases judged, or called again for this row.
    worst : float, optional
        The largest measured over allowed; None where nothing was measured.
    digits : mapping
        dtype -> the fewest and the median of the decimal digits that a PASS guaranteed; None where that has no meaning.
    """

    operation: str
    name: str
    passed: int
    failed: int
    suspect: int
    inconclusive: int
    not_provided: int
    worst: float | None
    digits: Mapping[str, tuple[float, float] | None]


@dataclass(frozen=True, eq=False)
class Failure:
    """All failures of one kind in one row of an operation, shown on the smallest input found.

    Attributes
    ----------
    operation : str
        Of which operation.
    row, kind : str
        Where, and in what way.
    verdict, at_first : Verdict
        On the smallest input, and on the one in which it was found.
    failed, judged : int
        In how many cases, of how many.
    names : tuple of str
        The first of them.
    case : Case or LadderCase
        The smallest input.
    found : str
        The name of the case that it was shrunk from.
    shrunk : bool
        Whether anything smaller was found.
    traceback, warning : str
        The target's, on that input.
    cause : Cause, optional
        The mistake that gives the target's values.
    target : str, optional
        What the snippet loads; None where that is not known.
    """

    operation: str
    row: str
    kind: str
    verdict: Verdict
    at_first: Verdict
    failed: int
    judged: int
    names: tuple[str, ...]
    case: AnyCase
    found: str
    shrunk: bool
    traceback: str
    warning: str
    cause: Cause | None
    target: str | None

    def facts(self) -> list[tuple[str, str]]:
        """Return what is said of it to people, each with its label."""
        verdict = self.verdict
        facts = [("what", verdict.message)]
        if self.cause is not None:
            facts.append(("likely cause", self.cause.sentence))
        elif verdict.value is not None and self.kind != "statistical" and self.row in KEYS.values():
            facts.append(("likely cause", "no mistake in the library gives these values"))
        if verdict.error is not None and verdict.allowed is not None:
            times = f"{verdict.ratio:.3g} times what is allowed" if verdict.allowed else "nothing is allowed"
            facts.append(("measured", f"error {verdict.error:.3e}, allowed {verdict.allowed:.3e}: {times}"))
        if verdict.roundoff is not None and self.cause is None:
            facts.append(("roundoff", _roundoff_text(verdict.roundoff, str(self.case.dtype))))
        facts.append(("smallest input", self.case.describe()))
        facts.append(("its flags", ", ".join(flags_of(self.case))))
        facts.append(("found in", self.found + (f" ({self.case.effect})" if self.case.effect else "")))
        rest = self.failed - len(self.names)
        more = f" and {rest} more" if rest > 0 else ""
        facts.append(("fails in", f"{self.failed} of {self.judged} cases: {'; '.join(self.names)}{more}"))
        if self.warning:
            facts.append(("it warned", self.warning))
        return facts

    @cached_property
    def snippet(self) -> str:
        """Python source that reproduces the failure."""
        return snippet(self.case, self.row, self.target, written_out=self.shrunk)

    def to_dict(self) -> dict[str, object]:
        """Return what the JSON says of it."""
        case, verdict = self.case, self.verdict
        shapes = {
            name: [list(each.shape) for each in part] if isinstance(part, tuple) else list(part.shape)
            for name, part in case.parts.items()
        }
        cause = self.cause and {
            "name": self.cause.mistake.name,
            "sentence": self.cause.mistake.sentence,
            "explained": self.cause.explained,
            "looked_at": self.cause.looked_at,
            "contradicted": self.cause.contradicted,
            "passing": self.cause.passing,
        }
        return {
            "operation": self.operation,
            "row": self.row,
            "kind": self.kind,
            "message": verdict.message,
            "failed": self.failed,
            "judged": self.judged,
            "cases": list(self.names),
            "found_in": self.found,
            "shrunk": self.shrunk,
            "input": {
                "description": case.describe(),
                "arrays": shapes,
                "dtype": str(case.dtype),
                "attributes": dict(case.attributes),
                "layout": case.layout,
                "explained_variance": str(case.explained_variance),
                "flags": list(flags_of(case)),
            },
            "index": None if verdict.index is None else list(verdict.index),
            "value": _number(verdict.value),
            "expected": _number(verdict.expected),
            "error": _number(verdict.error),
            "allowed": _number(verdict.allowed),
            "measured_over_allowed": _number(verdict.ratio),
            "roundoff": _number(verdict.roundoff),
            "cause": cause,
            "traceback": self.traceback,
            "warning": self.warning,
            "snippet": self.snippet,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """What a run found.

    Attributes
    ----------
    target : str
        What was judged.
    seed : int
        What the generated cases follow from.
    catalogue, generated, asked_for : int
        How many named and generated cases were judged, and how many of both were asked for.
    rows : tuple of Row
        The table.
    failures : tuple of Failure
        One for each row and kind.
    unclaimed : tuple of (str, int)
        What the target refused with NotImplementedError, and in how many cases.
    interrupted : bool
        Whether the run was stopped before its end.
    declaration : Declaration
        What the target said of itself.
    """

    target: str
    seed: int
    catalogue: int
    generated: int
    asked_for: int
    rows: tuple[Row, ...]
    failures: tuple[Failure, ...]
    unclaimed: tuple[tuple[str, int], ...]
    interrupted: bool
    declaration: Declaration = field(default_factory=Declaration)

    @property
    def error(self) -> str | None:
        """Why nothing was judged, or None: a target that returns nothing has not passed."""
        judged = any(row.passed or row.failed for row in self.rows if row.name in KEYS.values())
        return None if judged or self.failures else NOTHING

    @property
    def exit_code(self) -> int:
        """0 where everything that was judged is right, 1 where something is not, or nothing could be judged."""
        return 1 if self.failures or self.error else 0

    @property
    def status(self) -> str:
        """Passed, failed, or interrupted."""
        if self.interrupted:
            return "interrupted"
        return "failed" if self.exit_code else "passed"

    def to_json(self) -> str:
        """Return the JSON document described in this module's docstring."""
        return _dump(
            {
                **_head(self.target, self.seed, self.status),
                "cases": {"catalogue": self.catalogue, "generated": self.generated, "asked_for": self.asked_for},
                "declaration": asdict(self.declaration),
                "rows": [
                    {
                        "operation": row.operation,
                        "row": row.name,
                        "passed": row.passed,
                        "failed": row.failed,
                        "suspect": row.suspect,
                        "inconclusive": row.inconclusive,
                        "not_provided": row.not_provided,
                        "worst_measured_over_allowed": _number(row.worst),
                        "digits": {
                            dtype: digits and {"fewest": _number(digits[0]), "median": _number(digits[1])}
                            for dtype, digits in row.digits.items()
                        },
                    }
                    for row in self.rows
                ],
                "failures": [failure.to_dict() for failure in self.failures],
                "not_claimed": [{"reason": reason, "cases": count} for reason, count in self.unclaimed],
                "error": self.error,
            }
        )

    def print(self, console: Console) -> None:
        """Print the table, the failures and the verdict.

        Parameters
        ----------
        console : rich.console.Console
            Where to.
        """
        console.print(self._table())
        for number, failure in enumerate(self.failures, 1):
            _print_failure(console, failure, number)
        for reason, count in self.unclaimed:
            console.print(f"Not claimed in {count} cases: {reason}", markup=False, highlight=False)
        console.print()
        console.print(self.summary(), style=self._style(), markup=False, highlight=False, soft_wrap=True)

    def _style(self) -> str:
        return "bold yellow" if self.interrupted else "bold red" if self.exit_code else "bold green"

    def summary(self) -> str:
        """Return the verdict on the whole in one line."""
        judged = self.catalogue + self.generated
        what = f"{judged} inputs ({self.catalogue} named, {self.generated} generated from seed {self.seed})"
        if self.interrupted:
            wrong = f"; {len(self.failures)} failures so far" if self.failures else "; nothing failed so far"
            return f"INTERRUPTED after {judged} of {self.asked_for} inputs{wrong}"
        if self.failures:
            one = len({row.operation for row in self.rows}) == 1
            where = [each.row if one else f"{each.operation} {each.row}" for each in self.failures]
            rows = ", ".join(dict.fromkeys(where))
            return f"FAILED: {rows}; on {what}"
        if self.error:
            return f"FAILED: {self.error}"
        suspect = sum(row.suspect for row in self.rows)
        if suspect:
            what += f"; suspect: {suspect}, farther off than rounding mostly is, though not on redrawn inputs"
        doubtful = sum(row.inconclusive for row in self.rows)
        if doubtful:
            what += f"; inconclusive: {doubtful}, where right answers differ too much (core and factors would help)"
        return f"PASSED: everything that it returned is right, on {what}"

    def _table(self) -> Table:
        from rich import box
        from rich.table import Table

        table = Table(
            title=self.target or None, box=box.SIMPLE_HEAD, padding=0, title_justify="left", title_style="bold"
        )
        table.add_column("", no_wrap=True)
        headings = (
            "passed",
            "failed",
            "sus-\npect",
            "incon-\nclusive",
            "not\nprovided",
            "measured\n/allowed",
            "digits\nf64",
            "digits\nf32",
        )
        for heading in headings:
            table.add_column(heading, justify="right", no_wrap=True)
        operations = dict.fromkeys(row.operation for row in self.rows)
        for row in self.rows:
            if row.name == "call" and len(operations) > 1:
                table.add_row(row.operation, style="bold")
            counts = (row.passed, row.failed, row.suspect, row.inconclusive, row.not_provided)
            cells = [str(count) if count else "-" for count in counts]
            cells += [ratio_text(row.worst), digits_text(row.digits["float64"]), digits_text(row.digits["float32"])]
            style = (
                "red" if row.failed else "yellow" if row.inconclusive + row.suspect else "dim" if not row.passed else ""
            )
            table.add_row(LABELS[row.name], *cells, style=style)
        return table


def not_run_json(target: str, seed: int, error: str) -> str:
    """Return the JSON document for a target that could not be run."""
    return _dump({**_head(target, seed, "not run"), "error": error})


def _head(target: str, seed: int, status: str) -> dict[str, object]:
    return {"schema": SCHEMA, "refgrad": refgrad.__version__, "target": target, "seed": seed, "status": status}


def _dump(document: dict[str, object]) -> str:
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def _number(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)


def _roundoff_text(roundoff: float, dtype: str) -> str:
    """Say of which format's size an error is, as far as it is one of rounding."""
    if not 0.0 < roundoff < 1.0:
        return "larger than that of any format"
    formats = {each: unit_roundoff(each) for each in ("float64", "float32", "float16", "bfloat16")}
    name = min(formats, key=lambda each: abs(math.log(formats[each] / roundoff)))
    return f"as if it computed in {dtype} with a roundoff of {roundoff:.1e}; that of {name} is {formats[name]:.1e}"


def digits_text(digits: tuple[float, float] | None) -> str:
    """Return the fewest and the median of guaranteed digits, rounded down."""
    if digits is None:
        return "-"
    fewest, median = ("all" if math.isinf(number) else str(math.floor(number)) for number in digits)
    return fewest if fewest == median else f"{fewest}-{median}"


def ratio_text(ratio: float | None) -> str:
    """Return measured over allowed in two digits."""
    return "-" if ratio is None else f"{ratio:.2g}"


def _print_failure(console: Console, failure: Failure, number: int) -> None:
    from rich.rule import Rule

    console.print()
    console.print(
        Rule(f"failure {number}: {failure.operation}, {LABELS[failure.row]}, {failure.kind}", align="left", style="red")
    )

    def say(label: str, text: str) -> None:
        from rich.text import Text

        style = {"what": "bold", "likely cause": "bold red"}.get(label, "")
        console.print(Text.assemble((f"{label:<16}", "dim"), (text, style)), soft_wrap=True)

    for label, text in failure.facts():
        say(label, text)
    if failure.traceback:
        say("traceback", "\n" + failure.traceback)
    say("to reproduce", "\n" + failure.snippet)
