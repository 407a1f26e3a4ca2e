"""A report as JUnit XML, which build servers read.

In: a `Report`. Out: one test suite an operation: a test for every row, and one that fails for every failure.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

from refgrad.oracle.protocol import LABELS
from refgrad.oracle.report import Failure, Report

__all__ = ["to_junit"]

NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_junit(report: Report) -> str:
    """Return the JUnit XML of a report.

    A row that failed in no case passes; one that nothing was provided for is skipped. Where nothing could be judged, or
    the run was interrupted, a test of its own fails and says so.

    Examples
    --------
    >>> from refgrad.oracle import check
    >>> from refgrad.oracle.own import target
    >>> text = to_junit(check(target, operations=["unfold"], cases=0))
    >>> 'name="unfold" tests="4" failures="0"' in text
    True
    """
    suites = ElementTree.Element("testsuites", name=_text(f"refgrad check {report.target}".strip()))
    for operation in dict.fromkeys(row.operation for row in report.rows):
        failures = [failure for failure in report.failures if failure.operation == operation]
        failed = {failure.row for failure in failures}
        rows = [row for row in report.rows if row.operation == operation and row.name not in failed]
        absent = [row for row in rows if not row.passed]
        suite = ElementTree.SubElement(
            suites,
            "testsuite",
            name=operation,
            tests=str(len(rows) + len(failures)),
            failures=str(len(failures)),
            errors="0",
            skipped=str(len(absent)),
        )
        properties = ElementTree.SubElement(suite, "properties")
        numbers = {"seed": report.seed, "named inputs": report.catalogue, "generated inputs": report.generated}
        for name, value in numbers.items():
            ElementTree.SubElement(properties, "property", name=name, value=str(value))
        for row in rows:
            test = ElementTree.SubElement(suite, "testcase", classname=f"refgrad.{operation}", name=LABELS[row.name])
            if row in absent:
                counts = (row.suspect, row.inconclusive, row.not_provided)
                reason = "suspect in {}, inconclusive in {}, not provided in {} inputs".format(*counts)
                ElementTree.SubElement(test, "skipped", message=reason)
        for failure in failures:
            _add_failure(suite, failure)
    for message in [*([report.error] if report.error else []), *(["interrupted"] if report.interrupted else [])]:
        suite = ElementTree.SubElement(
            suites, "testsuite", name="run", tests="1", failures="0", errors="1", skipped="0"
        )
        test = ElementTree.SubElement(suite, "testcase", classname="refgrad", name="the run")
        ElementTree.SubElement(test, "error", message=message)
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _add_failure(suite: ElementTree.Element, failure: Failure) -> None:
    name = f"{LABELS[failure.row]}: {failure.kind}"
    test = ElementTree.SubElement(suite, "testcase", classname=f"refgrad.{failure.operation}", name=_text(name))
    element = ElementTree.SubElement(test, "failure", message=_text(failure.verdict.message), type=_text(failure.kind))
    lines = [failure.verdict.message, f"smallest input: {failure.case.describe()}", f"found in: {failure.found}"]
    if failure.cause is not None:
        lines.insert(1, f"likely cause: {failure.cause.sentence}")
    lines += [part for part in (failure.warning, failure.traceback, failure.snippet) if part]
    element.text = _text("\n".join(lines))


def _text(text: str) -> str:
    """Replace what XML cannot hold, as a target's exception might: control characters and lone surrogates."""
    return NOT_IN_XML.sub("\N{REPLACEMENT CHARACTER}", text)
