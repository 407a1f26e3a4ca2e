"""Have Coq check the proofs, and see what they rest on.

In: proofs/coq and the axioms that proofs/map.toml allows. Out: per theorem the axioms it rests on, and one line for
each thing that is wrong: a proof that is left open, an axiom, an unsafe switch, a file that is not accepted.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from proofs.agreement import ROOT, statements, without_comments

FOLDER = ROOT / "build/proofs"
"""Where everything is built; the sources are copied there."""

LIBRARY = "refgrad"
"""The name under which the files find each other."""

PACKAGES = {
    "coq": "",
    "libcoq-mathcomp-algebra": "mathcomp/algebra/ssrnum.vo",
    "libcoq-mathcomp-algebra-tactics": "mathcomp/algebra_tactics/ring.vo",
    "libcoq-mathcomp-analysis": "mathcomp/analysis/Rstruct.vo",
    "libcoq-flocq": "Flocq/IEEE754/Bits.vo",
}
"""Debian's packages, and a file of each below Coq's user-contrib."""

FORBIDDEN = re.compile(
    r"\b(Admitted|admit|give_up|Admit\s+Obligations|Axioms?|Parameters?|Conjectures?|bypass_check|Declare\s+Module"
    r"|Module\s+Type|Unset\s+(?:Guard|Positivity|Universe)\s+Checking|Set\s+Type\s+In\s+Type|type-in-type"
    r"|impredicative-set|Declare\s+ML\s+Module)\b"
)
OF_A_SECTION = re.compile(r"^\s*(Section|End|Variables?|Hypothes[ie]s|Context)\b\s*(\w*)", re.MULTILINE)


class RefusedError(Exception):
    """Something was not accepted; the text says what, and what the program said."""


class Statement(NamedTuple):
    """A theorem, lemma or corollary, by the file that states it."""

    file: str
    name: str


def run(*command: str, folder: Path, what: str) -> str:
    """Run a program to its end; return what it printed.

    Raises
    ------
    RefusedError
        Where it ends with an error; `what` says what it was for.
    """
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise RefusedError(f"{what}: {command[0]} ended with {done.returncode}:\n{done.stdout[-4000:]}")
    return done.stdout


def absent() -> list[str]:
    """List the packages that are not installed, whoever installed the others: opam's Coq is as good as Debian's."""
    if not all(shutil.which(program) for program in ("coqc", "coq_makefile", "coqchk", "make")):
        return list(PACKAGES)
    where = Path(run("coqc", "-where", folder=ROOT, what="looking for Coq's libraries").strip()) / "user-contrib"
    return [name for name, file in PACKAGES.items() if not (where / file).exists()]


def install() -> None:
    """Install with apt what is absent, where that is possible.

    Raises
    ------
    RefusedError
        Where it is not: with what to install.
    """
    names = absent()
    if not names:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise RefusedError(
            f"The proofs need {', '.join(names)}. On Debian 12 or its like, run as root: apt-get install "
            f"--no-install-recommends {' '.join(names)}. Elsewhere, Coq 8.16 with MathComp 1.15, algebra-tactics 1.0, "
            "analysis 0.6 and Flocq 4.1."
        )
    print(f"Installing {', '.join(names)} (once, about half a minute) ...", flush=True)
    environment = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get")
    command = (*environment, "install", "--yes", "--no-install-recommends", *names)
    try:
        run(*command, folder=ROOT, what="installing Coq")
    except RefusedError:  # the lists of packages may be missing or old
        run(*environment, "update", folder=ROOT, what="reading the lists of packages")
        run(*command, folder=ROOT, what="installing Coq")
    if absent():
        raise RefusedError(
            f"apt-get has installed {', '.join(names)}, and {', '.join(absent())} cannot be found all the same"
        )


def forbidden(source: str) -> list[str]:
    r"""List what a Coq file says, outside of comments, that leaves a proof open or assumes something for good.

    Examples
    --------
    >>> forbidden("(* an Axiom *) Lemma a : 0 = 1.\nAdmitted.")
    ['line 2: Admitted']
    >>> forbidden("Section S. \nVariable n : nat. \nEnd S. \nVariable m : nat.")
    ['line 4: Variable outside of a section']
    """
    source = without_comments(source)

    def line(found: re.Match[str]) -> int:
        return source.count("\n", 0, found.start(1)) + 1

    lines = [(line(found), " ".join(found[1].split())) for found in FORBIDDEN.finditer(source)]
    sections: list[str] = []
    for found in OF_A_SECTION.finditer(source):
        if found[1] == "Section":
            sections.append(found[2])
        elif found[1] == "End":
            sections = sections[:-1] if sections[-1:] == [found[2]] else sections
        elif not sections:
            lines.append((line(found), f"{found[1]} outside of a section"))
    return [f"line {number}: {text}" for number, text in sorted(lines)]


def build(sources: Path, folder: Path) -> list[Path]:
    """Copy a folder of Coq files to where they are built, and build what is new; return the copies.

    Raises
    ------
    RefusedError
        Where Coq does not accept a file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = {path.name for path in sources.glob("*.v")}
    for gone in {path.name for path in folder.glob("*.v")} - names:
        for path in (*folder.glob(f"{gone.removesuffix('v')}*"), *folder.glob(f".{gone.removesuffix('v')}*")):
            path.unlink()
    for name in sorted(names | {"_CoqProject"}):
        if not (folder / name).exists() or (folder / name).read_bytes() != (sources / name).read_bytes():
            shutil.copyfile(sources / name, folder / name)
    files = [folder / name for name in sorted(names)]
    arguments = ("-f", "_CoqProject", "-o", "Makefile.coq", *(path.name for path in files))
    run("coq_makefile", *arguments, folder=folder, what="building the proofs")
    run("make", "-f", "Makefile.coq", f"-j{os.cpu_count()}", folder=folder, what="building the proofs")
    return files


def assumptions(statements: Iterable[Statement], folder: Path) -> dict[Statement, frozenset[str]]:
    """Ask Coq what each of these rests on, one by one.

    Raises
    ------
    RefusedError
        Where Coq does not know one, or answers something else than it is asked.
    """
    asked = list(statements)
    query = [f"Require {LIBRARY}.{file.removesuffix('.v')}." for file in sorted({one.file for one in asked})]
    for number, one in enumerate(asked):
        query.append(f'Goal True. idtac "@@ {number}". Abort.')
        query.append(f"Print Assumptions {LIBRARY}.{one.file.removesuffix('.v')}.{one.name}.")
    return dict(zip(asked, _answers("\n".join(query), len(asked), folder), strict=True))


def all_closed(statements: Iterable[Statement], folder: Path) -> bool:
    """Ask Coq whether all of these together rest on no axiom: much quicker than one by one, for they share a lot."""
    asked = list(statements)
    query = [f"Require {LIBRARY}.{file.removesuffix('.v')}." for file in sorted({one.file for one in asked})]
    together = ", ".join(f"@{LIBRARY}.{one.file.removesuffix('.v')}.{one.name}" for one in asked)
    query.append(f'Definition together := ({together}).\nGoal True. idtac "@@ 0". Abort.\nPrint Assumptions together.')
    (rests_on,) = _answers("\n".join(query), 1, folder)
    return not rests_on


def _answers(query: str, count: int, folder: Path) -> list[frozenset[str]]:
    file = folder / "query.v"
    file.write_text(query + "\n")
    try:
        printed = run(
            "coqc", "-w", "none", "-R", ".", LIBRARY, file.name, folder=folder, what="what the proofs rest on"
        )
    finally:
        for path in (*folder.glob("query.*"), *folder.glob(".query.*")):
            path.unlink()
    return parsed(printed, count)


def parsed(printed: str, count: int) -> list[frozenset[str]]:
    r"""Read the answers to `count` questions, each after a line "@@ number".

    Examples
    --------
    >>> parsed("@@ 0\nClosed under the global context\n@@ 1\nAxioms:\nclassic\n  : forall P, P", 2)
    [frozenset(), frozenset({'classic'})]
    """
    found = []
    for number, part in enumerate(re.split(r"^@@ (?=\d)", printed, flags=re.MULTILINE)[1:]):
        first, *lines = part.splitlines()
        if first != str(number) or not lines:
            raise RefusedError(f"what the proofs rest on: question {number} of {count} has no answer:\n{part[:500]}")
        if lines[0] == "Closed under the global context":
            found.append(frozenset[str]())
        else:
            names = (line.split()[0] for line in lines if line and not line[0].isspace() and not line.endswith(":"))
            found.append(frozenset(names) or frozenset({lines[0]}))
    if len(found) != count:
        raise RefusedError(f"what the proofs rest on: {count} questions and {len(found)} answers:\n{printed[-2000:]}")
    return found


def rests_on(
    asked: Iterable[Statement], allowed: Mapping[str, frozenset[str]], folder: Path
) -> dict[Statement, frozenset[str]]:
    """Find what each statement rests on: those of files that may rest on nothing all at once, if that is how it is."""
    asked = list(asked)
    strict = [one for one in asked if not allowed.get(one.file)]
    others = [one for one in asked if allowed.get(one.file)]
    if strict and all_closed(strict, folder):
        found = {one: frozenset[str]() for one in strict}
    else:
        found = assumptions(strict, folder)
    return {**found, **(assumptions(others, folder) if others else {})}


def coqchk(files: Iterable[Path], folder: Path, *, libraries: bool = False) -> None:
    """Let Coq's small separate checker go through the compiled files; with `libraries` through all they require, too.

    Raises
    ------
    RefusedError
        Where it does not accept one, or finds that something of ours is taken for granted.
    """
    option = [] if libraries else ["-norec"]
    names = [part for path in files for part in (*option, f"{LIBRARY}.{path.stem}")]
    printed = run("coqchk", "-silent", "-o", "-R", ".", LIBRARY, *names, folder=folder, what="coqchk")
    if "CONTEXT SUMMARY" not in printed:
        raise RefusedError(f"coqchk has not said what is taken for granted:\n{printed[-2000:]}")
    granted = [line.strip() for line in printed.splitlines() if line.strip().startswith(f"{LIBRARY}.")]
    if granted:
        raise RefusedError(f"coqchk: taken for granted are {', '.join(granted)}")


def main_statements(files: Iterable[Path], mapped: Iterable[Statement]) -> list[Statement]:
    """Every theorem and corollary of the files, and what else the map names."""
    stated = {Statement(path.name, name): kind for path in files for name, kind in statements(path).items()}
    named = set(mapped)
    return [one for one, kind in stated.items() if kind != "Lemma" or one in named]


def complaints(
    files: Iterable[Path],
    found: Mapping[Statement, frozenset[str]],
    allowed: Mapping[str, frozenset[str]],
) -> Iterator[str]:
    """List what the sources must not say, the axioms that are not allowed, and those allowed that nothing rests on."""
    for path in files:
        for line in forbidden(path.read_text()):
            yield f"{path.name}, {line}"
    for one, axioms in found.items():
        for axiom in sorted(axioms - allowed.get(one.file, frozenset())):
            yield f"{one.file}: {one.name} rests on {axiom}, which proofs/map.toml does not allow"
    for file, axioms in allowed.items():
        used = frozenset[str]().union(*(rests for one, rests in found.items() if one.file == file))
        for axiom in sorted(axioms - used):
            yield f"proofs/map.toml allows {axiom} for {file}, where nothing rests on it"


def control_passes(sources: Path, folder: Path) -> list[str]:
    """Name each part of the check that accepts the control: a theorem that rests on an admitted lemma."""
    shutil.copytree(sources / "control", folder, dirs_exist_ok=True)
    file = folder / "admitted.v"
    run("coqc", "-w", "none", "-R", ".", LIBRARY, file.name, folder=folder, what="building the control")
    passes = [] if forbidden(file.read_text()) else ["the reading of the sources"]
    found = rests_on(main_statements([file], []), {}, folder)
    if not found or not all(found.values()):
        passes.append("the question what a theorem rests on")
    try:
        coqchk([file], folder)
    except RefusedError as error:
        if f"{LIBRARY}.admitted.left_open" in str(error):
            return passes
        raise
    return [*passes, "coqchk"]
