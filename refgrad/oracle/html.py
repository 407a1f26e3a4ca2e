"""A report as one HTML page, which opens offline and in which pictures show where in an array the error sits.

In: a `Report`. Out: a page without scripts, that needs no other file; whatever comes from the target is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import refgrad
from refgrad.oracle.heat_map import SHADES, escaped, picture
from refgrad.oracle.protocol import LABELS, Declaration
from refgrad.oracle.report import Failure, Report, Row, digits_text, ratio_text

__all__ = ["to_html"]

STYLE: Final = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1f24; --faint: #59636e; --line: #d1d9e0; --box: #f5f7f9;
  --bad: #b42318; --good: #1a7f37; --doubt: #8a5a00; --within: #dfe3e8; --inf: #3b5bdb;
  --over-1: #fdd49e; --over-2: #fdbb84; --over-3: #fc8d59; --over-4: #e34a33; --over-5: #b30000; --over-6: #700000; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171b; --ink: #e8ebee; --faint: #9aa4af; --line: #3a424b; --box: #1d2228;
    --bad: #ff8a80; --good: #56d364; --doubt: #e3b341; --within: #323a43; --inf: #748ffc;
    --over-1: #5c1a0b; --over-2: #8c2d0f; --over-3: #c24a14; --over-4: #f0752b; --over-5: #fdae61; --over-6: #fee8a8; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 60rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.15rem; } h1, h2 { line-height: 1.25; }
.verdict { padding: .6rem .8rem; border-left: .4rem solid; background: var(--box); font-weight: 600; }
.passed { color: var(--good); } .failed { color: var(--bad); } .interrupted, .inconclusive { color: var(--doubt); }
.absent, dt, figcaption, footer { color: var(--faint); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap; }
th, td { padding: .15rem .6rem; text-align: right; } th:first-child { text-align: left; font-weight: 400; }
thead th { border-bottom: 1px solid var(--line); vertical-align: bottom; color: var(--faint); font-weight: 400; }
tbody th[colspan] { padding-top: .6rem; font-weight: 600; }
section.failure { margin-top: 2rem; border-top: 2px solid var(--bad); }
dl { display: grid; grid-template-columns: minmax(6rem, max-content) 1fr; gap: .25rem 1rem; }
dd { margin: 0; white-space: pre-wrap; }
@media (max-width: 35rem) { dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; } }
pre { margin: 0; padding: .6rem .8rem; overflow-x: auto; background: var(--box); border: 1px solid var(--line);
  font: .85rem/1.45 ui-monospace, monospace; overflow-wrap: normal; }
figure { margin: 1rem 0; } figcaption { margin-bottom: .5rem; }
svg { display: block; print-color-adjust: exact; } svg text { fill: var(--faint); font: 11px system-ui, sans-serif; }
rect.worst, rect.halo { fill: none; stroke: var(--ink); stroke-width: 2; }
rect.halo { stroke: var(--paper); stroke-width: 6; }
ul.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin: .5rem 0; padding: 0; list-style: none; }
ul.legend span { display: inline-block; width: 1em; height: 1em; margin-right: .4em; vertical-align: -.1em;
  print-color-adjust: exact; }
span.worst { border: 2.5px solid; }
.within { fill: var(--within); background: var(--within); }
.over-inf { fill: var(--inf); background: var(--inf); }
""" + "\n".join(
    f".over-{shade} {{ fill: var(--over-{shade}); background: var(--over-{shade}); }}" for shade in range(1, SHADES + 1)
)

PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def to_html(report: Report) -> str:
    """Return the page that shows a report.

    It says what `Report.print` says. Of an array that was judged entry by entry, or by its norm, a picture shows how
    many times over what is allowed each entry is, on the input in which it was found.

    Examples
    --------
    >>> from refgrad.oracle import check
    >>> from refgrad.oracle.own import target
    >>> page = to_html(check(target, operations=["unfold"], cases=0))
    >>> page.startswith("<!doctype html>"), "PASSED: everything that it returned is right" in page
    (True, True)
    """
    name = f"refgrad check {report.target}".strip()
    parts = [
        f"<h1>{escaped(name)}</h1>",
        f'<p class="verdict {report.status}">{escaped(report.summary())}</p>',
        _table(report.rows),
        *(_failure(failure, number) for number, failure in enumerate(report.failures, 1)),
        _unclaimed(report.unclaimed),
        _declaration(report.declaration),
        f"<footer><p>refgrad {escaped(refgrad.__version__)}, seed {report.seed}</p></footer>",
    ]
    body = "\n".join(part for part in parts if part)
    return PAGE.format(title=escaped(f"{name}: {report.status}"), style=STYLE, body=body)


def _table(rows: Sequence[Row]) -> str:
    headings = (
        "passed",
        "failed",
        "suspect",
        "inconclusive",
        "not provided",
        "measured / allowed",
        "digits f64",
        "digits f32",
    )
    head = "".join(f'<th scope="col">{heading}</th>' for heading in headings)
    several = len({row.operation for row in rows}) > 1
    lines = []
    for row in rows:
        if row.name == "call" and several:
            lines.append(f'<tr><th scope="rowgroup" colspan="{len(headings) + 1}">{escaped(row.operation)}</th></tr>')
        counts = (row.passed, row.failed, row.suspect, row.inconclusive, row.not_provided)
        cells = [str(count) if count else "-" for count in counts]
        cells += [ratio_text(row.worst), digits_text(row.digits["float64"]), digits_text(row.digits["float32"])]
        style = (
            "failed"
            if row.failed
            else "inconclusive"
            if row.inconclusive + row.suspect
            else ""
            if row.passed
            else "absent"
        )
        name = f'<th scope="row">{escaped(LABELS[row.name])}</th>'
        lines.append(f'<tr class="{style}">{name}{"".join(f"<td>{escaped(cell)}</td>" for cell in cells)}</tr>')
    body = "\n".join(lines)
    return (
        f'<div class="wide"><table>\n<thead><tr><th></th>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'
    )


def _failure(failure: Failure, number: int) -> str:
    title = f"Failure {number}: {failure.operation}, {LABELS[failure.row]}, {failure.kind}"
    parts = [f"<h2>{escaped(title)}</h2>", _list(failure.facts()), picture(failure)]
    if failure.traceback:
        parts.append(f"<p>Traceback:</p>\n<pre>{escaped(failure.traceback)}</pre>")
    parts.append(f"<p>To reproduce:</p>\n<pre>{escaped(failure.snippet)}</pre>")
    body = "\n".join(part for part in parts if part)
    return f'<section class="failure" id="failure-{number}">\n{body}\n</section>'


def _list(facts: Iterable[tuple[str, str]]) -> str:
    lines = "\n".join(f"<dt>{escaped(label)}</dt><dd>{escaped(text)}</dd>" for label, text in facts)
    return f"<dl>\n{lines}\n</dl>"


def _unclaimed(unclaimed: Sequence[tuple[str, int]]) -> str:
    if not unclaimed:
        return ""
    lines = "\n".join(f"<li>in {count} cases: {escaped(reason)}</li>" for reason, count in unclaimed)
    return f"<section>\n<h2>Not claimed</h2>\n<ul>\n{lines}\n</ul>\n</section>"


def _declaration(declaration: Declaration) -> str:
    facts = [
        ("dtypes", ", ".join(declaration.dtypes)),
        ("accumulator", declaration.accumulator or "the input's dtype"),
        ("decomposition", declaration.decomposition),
        ("repeatable", "yes" if declaration.repeatable else "no"),
        ("flushes subnormals", "yes" if declaration.flushes_subnormals else "no"),
        ("refuses invalid input", "yes" if declaration.refuses_invalid else "no"),
    ]
    if declaration.limits:
        facts.append(("limits", declaration.limits))
    return f"<section>\n<h2>What the target says of itself</h2>\n{_list(facts)}\n</section>"
