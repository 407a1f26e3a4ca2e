"""JUnit XML: what a build server would read."""

from types import SimpleNamespace
from xml.etree import ElementTree

from refgrad.oracle import Check, check
from refgrad.oracle.junit import to_junit
from refgrad.oracle.own import target as own


def read(report):
    return ElementTree.fromstring(to_junit(report))


def test_every_row_is_a_test_and_a_failure_tells_all():
    def rank(singular_values, *, explained_variance):
        return {"rank": own.rank(singular_values, explained_variance=explained_variance)["rank"] + 1}

    suites = read(check(SimpleNamespace(rank=rank, unfold=own.unfold), cases=0, name="<my> target"))
    assert suites.attrib["name"] == "refgrad check <my> target"
    wrong, right = suites
    assert (wrong.attrib["name"], wrong.attrib["failures"], wrong.attrib["tests"]) == ("rank", "1", "3")
    assert (right.attrib["name"], right.attrib["failures"], right.attrib["tests"]) == ("unfold", "0", "3")
    (failure,) = wrong.iter("failure")
    assert "every mode keeps one column too many" in failure.text
    assert "smallest input:" in failure.text
    assert {p.attrib["name"] for p in wrong.iter("property")} == {"seed", "named inputs", "generated inputs"}


def test_what_xml_cannot_hold_is_replaced():
    def rank(singular_values, *, explained_variance):
        raise RuntimeError("a bell \x07, a zero \x00 and half a pair \ud800")

    (suite,) = read(check(SimpleNamespace(rank=rank), cases=0))
    (failure,) = suite.iter("failure")
    assert "a bell \N{REPLACEMENT CHARACTER}, a zero" in failure.attrib["message"]


def test_what_was_not_provided_is_skipped_and_nothing_at_all_is_an_error():
    suites = read(check(SimpleNamespace(svd=lambda *_, **__: {}), cases=0))
    assert [test.attrib["name"] for test in suites.iter("testcase")] == [
        "the call itself",
        "ranks",
        "factors and core",
        "the run",
    ]
    assert len(list(suites.iter("skipped"))) == 2
    (error,) = suites.iter("error")
    assert "returned nothing that could be judged" in error.attrib["message"]


def test_an_interrupted_run_says_so():
    run = Check(own, operations=["unfold"], cases=0)
    next(iter(run))
    assert "interrupted" in [error.attrib["message"] for error in read(run.report()).iter("error")]
