"""The checks of the proofs and of what a run measured fail where they should: each mistake is made, and has to be told.

No Coq is needed here; `make proofs` runs what does need it, with a control of its own.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from proofs import check, machine
from proofs.agreement import Entry, Map, disagreements, read_map, statements, table, without_comments
from proofs.machine import RefusedError, Statement, absent, complaints, forbidden, install, parsed
from tests import mapped, measured

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def root(tmp_path):
    """A tree that can be changed: proofs and tests copied, the code as it is."""
    sources = shutil.ignore_patterns("__pycache__", "*.vo*", "*.glob", ".*", "mutants", "mutation", "*.c", "*.bin")
    for folder in ("proofs", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=sources)
    (tmp_path / "refgrad").symlink_to(ROOT / "refgrad")
    return tmp_path


def replace(file, old, new):
    """Change a file in one place; the change must take."""
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


# The map


def test_the_tree_as_it_is_agrees(root):
    assert disagreements(root) == []


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"T3_upper"', '"T3_uper"', "decomposition.v states no theorem, lemma or corollary T3_uper"),
        ('"T3_upper"', '"T3_lower"', "decomposition.v proves T3_upper, which proofs/map.toml does not name"),
        ('[T3.coq]\n"decomposition.v"', '[T3.coq]\n"decompositions.v"', "there is no file proofs/coq/decompositions.v"),
        ("#t4-quasi-optimality", "#t4-quasi-optimal", "decompositions.md for T4 has the anchor 't4-quasi-optimal'"),
        ("#t4-quasi-optimality", "#t7-the-truncated-svd", "decompositions.md for T4 has the anchor"),
        ("gradients.md#t10", "gradient.md#t10", "there is no file proofs/gradient.md"),
        ('"refgrad.hosvd"', '"refgrad.hovsd"', "refgrad.hovsd cannot be imported"),
        ('"refgrad.rounding.gamma"', '"refgrid.rounding.gamma"', "refgrid.rounding.gamma cannot be imported"),
        ("rows.decomposition.ranks", "rows.decomposition.rank", "rows.decomposition.rank cannot be imported"),
        (
            "::test_T11_the_linear_bound",
            "::test_T11_the_linear_bounds",
            "there is no test tests/properties/test_proofs",
        ),
        ("::test_T11_the_linear_bound", "::test_T12_the_convolution_bound", "does not carry T11 in its name"),
        ("test_proofs.py::test_T11", "test_prooofs.py::test_T11", "there is no test tests/properties/test_prooofs.py"),
        ("\ncode =", "\ncodes =", "must have the keys"),
        ('code = ["refgrad.hosvd"]', 'code = "refgrad.hosvd"', "must be a list of strings, got 'refgrad.hosvd'"),
        ('code = ["refgrad.hosvd"]', "code = []", "code is empty"),
        ('"smoothness.v" = [ #', '"smooth.v" = [ #', "allows axioms for smooth.v, which proofs/coq does not have"),
    ],
)
def test_a_map_that_is_wrong_is_told(root, old, new, told):
    replace(root / "proofs/map.toml", old, new)
    assert any(told in line for line in disagreements(root)), disagreements(root)


def test_a_sharp_theorem_needs_a_test_that_attains_it(root):
    file = root / "proofs/map.toml"
    file.write_text(re.sub(r"(?s)(\[T3\].*?\nsharp = )\[.*?\]", r"\1[]", file.read_text(), count=1))
    told = "proofs/map.toml, T3: proofs/README.md says that it is sharp, and sharp names no test that attains it"
    assert told in disagreements(root)


def test_a_theorem_that_is_missing_is_told(root):
    file = root / "proofs/map.toml"
    file.write_text(re.sub(r"(?s)\n\[T7\].*?(?=\n\[T8\])", "", file.read_text()))
    assert any("the entries must be T1 to T21 in their order, got" in line for line in disagreements(root))


def test_a_map_that_is_no_toml_is_told(root):
    replace(root / "proofs/map.toml", "[T5]", "[T5")
    (told,) = disagreements(root)
    assert told.startswith("proofs/map.toml cannot be read")


@pytest.mark.parametrize("mark", ["@pytest.mark.skip", "@pytest.mark.skipif(True, reason='')", "@pytest.mark.xfail"])
def test_a_mapped_test_that_is_marked_not_to_run_is_told(root, mark):
    name = "test_T12_sharp_on_a_picture_of_one_pixel"
    replace(root / "tests/properties/test_proofs.py", f"def {name}(", f"{mark}\ndef {name}(")
    assert any(f"{name} is marked" in line for line in disagreements(root))


def test_a_theorem_that_is_proved_and_not_mapped_is_told(root):
    (root / "proofs/coq/new.v").write_text("(* Theorem T2_no : False. *)\nTheorem T2_new : True.\nLemma T2_aid : True.")
    assert disagreements(root) == ["proofs/coq/new.v proves T2_new, which proofs/map.toml does not name"]


def test_an_id_that_refgrad_cites_has_to_be_listed_argued_and_tested(root):
    (root / "refgrad").unlink()
    (root / "refgrad").mkdir()
    (root / "refgrad/new.py").write_text('"""Uses T99."""')
    assert disagreements(root) == [
        "refgrad/new.py cites T99, which proofs/README.md does not list",
        "refgrad/new.py cites T99, which no heading in proofs/ argues",
        "refgrad/new.py cites T99, which no test names",
    ]


def test_the_table_names_all_that_the_map_does():
    the_map = read_map()
    page = table(the_map)
    for entry in the_map.entries:
        for name in (entry.title, *(name for _, name in entry.coq), *entry.code, *(axiom for axiom in the_map.axioms)):
            assert name.replace("|", r"\|") in page
    rows = [line for line in page.splitlines() if line.startswith("| T")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {7, 4}


def test_a_test_that_pytest_does_not_collect_is_told():
    name = "tests/test_proofs_check.py::test_a_test_that_pytest_does_not_collect_is_told"
    entry = Entry("T1", "", "", (), (), (name, name + "_or_is_it"), (), ())
    assert check.uncollected(Map((entry,), {})) == [
        f"pytest does not collect {name}_or_is_it, which proofs/map.toml names"
    ]


# What Coq's files say, and what Coq says of them


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("Lemma a : 0 = 1.\nProof.\nAdmitted.", ["line 3: Admitted"]),
        ("Proof. admit. Qed.", ["line 1: admit"]),
        ("Proof. give_up. Qed.", ["line 1: give_up"]),
        ("Axiom a : False.\nAxioms b c : False.", ["line 1: Axiom", "line 2: Axioms"]),
        ("Local Parameter a : False. Conjecture b : False.", ["line 1: Conjecture", "line 1: Parameter"]),
        ("#[bypass_check(guard)]\nFixpoint f (n : nat) : False := f n.", ["line 1: bypass_check"]),
        ("Unset  Guard\nChecking.", ["line 1: Unset Guard Checking"]),
        ("Unset Positivity Checking. Unset Universe Checking.",
         ["line 1: Unset Positivity Checking", "line 1: Unset Universe Checking"]),
        ("Declare Module M : T.", ["line 1: Declare Module"]),
        ("Variable n : nat.", ["line 1: Variable outside of a section"]),
        ("Section S.\nHypothesis h : True.\nEnd S.\nContext (n : nat).", ["line 4: Context outside of a section"]),
        ("Section S.\nModule M.\nEnd M.\nVariables n m : nat.\nEnd S.", []),
        ('(* Admitted (* Axiom *) admit *) Lemma admitted_not : "Admitted" = "(*".\n(* " *) Axiom " *)', []),
        ("(* closed *) Axiom (* a *) b : False. (* ( *)", ["line 1: Axiom"]),
    ],
)  # fmt: skip
def test_what_leaves_a_proof_open_is_told_and_comments_are_not_read(source, told):
    assert forbidden(source) == told


def test_the_control_is_refused_by_its_text():
    assert forbidden((ROOT / "proofs/coq/control/admitted.v").read_text()) == ["line 7: Admitted"]


def test_lines_stay_where_they_are_without_comments():
    assert without_comments('a (* b\n (* c *) \n*) d "e\n" f').split("\n") == ["a ", "", " d ", " f"]


def test_statements_are_read_by_their_kind(tmp_path):
    file = tmp_path / "a.v"
    file.write_text(
        "Theorem a : True.\n  Local Lemma b' : True.\n#[local] Corollary c_1 : True.\n"
        "(* Lemma d : True. *)\nDefinition e := 0.\n(* Theorem f *) Check f."
    )
    assert statements(file) == {"a": "Theorem", "b'": "Lemma", "c_1": "Corollary"}


def test_what_coq_prints_of_axioms_is_read():
    printed = (
        "@@ 0\nClosed under the global context\n@@ 1\nAxioms:\nboolp.classic\n  : forall P : Prop,\n    P\n"
        "Classical_Prop.classic : forall P : Prop, P\nf is assumed to be guarded.\n"
    )
    assert parsed(printed, 2) == [frozenset(), {"boolp.classic", "Classical_Prop.classic", "f"}]


@pytest.mark.parametrize(
    "printed", ["", "@@ 0\n", "@@ 1\nClosed under the global context\n", "Closed under the global context"]
)
def test_an_answer_that_is_missing_is_refused(printed):
    with pytest.raises(RefusedError, match="what the proofs rest on"):
        parsed(printed, 1)


def test_axioms_that_are_not_allowed_and_those_that_nothing_needs_are_told(tmp_path):
    file = tmp_path / "a.v"
    file.write_text("Theorem b : True.\nAdmitted.")
    rests_on = {Statement("a.v", "b"): frozenset({"classic", "open"}), Statement("c.v", "d"): frozenset({"classic"})}
    assert list(complaints([file], rests_on, {"a.v": frozenset({"classic", "other"})})) == [
        "a.v, line 2: Admitted",
        "a.v: b rests on open, which proofs/map.toml does not allow",
        "c.v: d rests on classic, which proofs/map.toml does not allow",
        "proofs/map.toml allows other for a.v, where nothing rests on it",
    ]


@pytest.mark.parametrize("summary", ["CONTEXT SUMMARY\n* Axioms:\n    refgrad.a.b\n    Coq.c", "Modules were checked"])
def test_what_coqchk_takes_for_granted_is_refused(monkeypatch, summary, tmp_path):
    monkeypatch.setattr(machine, "run", lambda *command, folder, what: summary)
    with pytest.raises(RefusedError, match="taken for granted"):
        machine.coqchk([Path("a.v")], tmp_path)


def test_coqchk_accepts_what_only_the_libraries_take_for_granted(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "run", lambda *command, folder, what: "CONTEXT SUMMARY\n* Axioms:\n    Coq.Reals.a")
    machine.coqchk([Path("a.v")], tmp_path)


def test_a_control_that_passes_is_told_by_each_part(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "run", lambda *command, folder, what: "@@ 0\nClosed under the global context")
    monkeypatch.setattr(machine, "coqchk", lambda files, folder: None)
    monkeypatch.setattr(machine, "forbidden", lambda source: [])
    parts = machine.control_passes(ROOT / "proofs/coq", tmp_path / "control")
    assert parts == ["the reading of the sources", "the question what a theorem rests on", "coqchk"]


def test_what_is_absent_and_cannot_be_installed_is_named(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda program: None)
    assert absent() == list(machine.PACKAGES)
    with pytest.raises(RefusedError, match=r"The proofs need coq, .*libcoq-flocq.* apt-get install"):
        install()


# What ran, and what was measured


@pytest.mark.parametrize(
    ("outcomes", "told"),
    [
        ({"passed"}, []),
        ({"passed", "skipped"}, ["proofs/map.toml names a.py::test, which passed and skipped"]),
        ({"failed"}, ["proofs/map.toml names a.py::test, which failed"]),
        (None, ["proofs/map.toml names a.py::test, which did not run"]),
    ],
)
def test_a_mapped_test_has_to_run_and_pass_with_all_its_parameters(outcomes, told):
    assert mapped.not_passed(["a.py::test"], {"a.py::test": outcomes} if outcomes else {}) == told


def run_pytest(*arguments):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("workers", [[], ["-n", "1"]])
def test_a_run_of_all_tests_fails_where_a_mapped_one_did_not_run(workers):
    everything = "-otestpaths=tests/test_accounting.py"  # as if there were no other tests
    run = run_pytest(everything, *workers)
    assert run.returncode == pytest.ExitCode.TESTS_FAILED, run.stdout + run.stderr
    assert "test_proofs.py::test_T11_the_linear_bound, which did not run" in run.stdout


def test_a_run_of_some_tests_does_not_ask_for_the_others():
    assert run_pytest("tests/test_accounting.py").returncode == pytest.ExitCode.OK


@pytest.fixture
def ranges(monkeypatch):
    """Nothing measured yet, and what is measured here is nobody else's."""
    found = {}
    monkeypatch.setattr(measured, "_ranges", found)
    return found


def test_a_ratio_over_1_is_told_by_the_test_that_measured_it(ranges):
    measured.record("T3", 1.0)
    assert measured.failures() == []
    measured.record("T3", 1.0 + 2.0**-52)
    (told,) = measured.failures()
    assert told.startswith("T3: tests/test_proofs_check.py::test_a_ratio_over_1")
    assert told.endswith("more than all of it")


def test_an_input_made_to_attain_a_bound_has_to(ranges):
    measured.record("T11", 0.5)
    measured.record("T11", 0.99, attained=True)
    measured.record("T11", 1.0, attained=True)
    assert measured.failures() == []
    measured.record("T11", 0.98, attained=True)
    (told,) = measured.failures()
    assert "is made to attain the bound, and reached 0.98 of it" in told


def test_what_workers_measured_is_put_together(ranges):
    measured.record("T12", 0.25)
    measured.record("T12", 0.995, attained=True)
    sent = measured.extremes()
    ranges.clear()
    measured.record("T3", 0.5)
    measured.record("T12", 0.75)
    measured.gather(sent)
    assert [line.split() for line in measured.table()[1:]] == [
        ["T3", "0.500000"],
        ["T12", "0.750000", "0.995000", "0.995000"],
    ]


@pytest.mark.parametrize(
    ("theorem", "ratio", "told"),
    [("T3_upper", 0.5, "theorem must be an id"), ("T3", -0.1, "not negative"), ("T3", float("nan"), "not negative")],
)
def test_what_cannot_be_recorded(ranges, theorem, ratio, told):
    with pytest.raises(ValueError, match=told):
        measured.record(theorem, ratio)
    assert not ranges
