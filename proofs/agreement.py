"""The map from theorems to where they are proved, computed and tested, and whether all of that is there.

In: proofs/map.toml, and the files that it names. Out: an `Entry` per theorem, one line per disagreement, and the map as
a table for the documentation.
"""

import ast
import functools
import importlib
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
THEOREMS = tuple(f"T{number}" for number in range(1, 22))
IDENTIFIER = re.compile(r"\b([DT][1-9][0-9]?)\b")
IN_A_NAME = re.compile(r"(?<![A-Za-z0-9])(T[1-9][0-9]?)(?![A-Za-z0-9])")
STATEMENT = re.compile(
    r"^\s*(?:(?:Local|Global|#\[[^]]*\])\s+)*(Theorem|Lemma|Corollary)\s+([A-Za-z_][\w']*)", re.MULTILINE
)
NOT_RUN = {"skip", "skipif", "xfail"}
KEYS = {"title", "argued", "coq", "code", "tests", "sharp", "checked"}


class Hypothesis(NamedTuple):
    """What a proof assumes of numbers, and the functions that check it in a run."""

    assumed: str
    by: tuple[str, ...]


class Entry(NamedTuple):
    """One theorem of proofs/map.toml: in each field where the theorem is found, as the file writes it."""

    theorem: str
    title: str
    argued: str
    coq: tuple[tuple[str, str], ...]
    code: tuple[str, ...]
    tests: tuple[str, ...]
    sharp: tuple[str, ...]
    checked: tuple[Hypothesis, ...]


class Map(NamedTuple):
    """All entries, and for each Coq file the axioms that its theorems may rest on: none where it is not named."""

    entries: tuple[Entry, ...]
    axioms: Mapping[str, frozenset[str]]


def read_map(root: Path = ROOT) -> Map:
    """Read proofs/map.toml.

    Raises
    ------
    ValueError
        Where an entry has a key that is not known, lacks one, or holds something else than the key is for.
    """
    content = tomllib.loads((root / "proofs/map.toml").read_text())
    axioms = {
        file: frozenset(_strings(names, f"axioms of {file}")) for file, names in content.pop("axioms", {}).items()
    }
    return Map(tuple(_entry(name, fields) for name, fields in content.items()), axioms)


def _entry(theorem: str, fields: Mapping[str, Any]) -> Entry:
    if fields.keys() - KEYS or KEYS - {"sharp", "checked"} - fields.keys():
        raise ValueError(
            f"{theorem} in map.toml must have the keys {sorted(KEYS)}, sharp and checked where there is any, "
            f"got {sorted(fields)}"
        )
    coq = fields["coq"].items()
    return Entry(
        theorem=theorem,
        title=str(fields["title"]),
        argued=str(fields["argued"]),
        coq=tuple((file, name) for file, names in coq for name in _strings(names, f"coq of {theorem}, {file}")),
        code=_strings(fields["code"], f"code of {theorem}"),
        tests=_strings(fields["tests"], f"tests of {theorem}"),
        sharp=_strings(fields.get("sharp", []), f"sharp of {theorem}"),
        checked=tuple(
            Hypothesis(str(one["assumed"]), _strings(one["by"], f"checked of {theorem}"))
            for one in fields.get("checked", [])
        ),
    )


def _strings(values: object, what: str) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{what} in map.toml must be a list of strings, got {values!r}")
    return tuple(values)


def without_comments(source: str) -> str:
    """Blank the comments of a Coq file, which nest, and its strings; line numbers stay."""
    kept, depth, quoted = [], 0, False
    for part in re.split(r'(\(\*|\*\)|"|\n)', source):
        if part == "\n":
            kept.append(part)
        elif part == '"':
            quoted = not quoted
        elif quoted:
            continue
        elif part == "(*":
            depth += 1
        elif part == "*)" and depth:
            depth -= 1
        elif not depth:
            kept.append(part)
    return "".join(kept)


def statements(file: Path) -> Mapping[str, str]:
    """Each theorem, lemma and corollary that a Coq file states, with which of the three it calls it."""
    return _statements_in(file.read_text())


@functools.cache
def _statements_in(source: str) -> Mapping[str, str]:
    return {name: kind for kind, name in STATEMENT.findall(without_comments(source))}


def coq_files(root: Path = ROOT) -> list[Path]:
    """List the Coq files, without the control."""
    return sorted((root / "proofs/coq").glob("*.v"))


def anchors(file: Path) -> set[str]:
    """List the anchors that the headings of a Markdown file have, as GitHub and the documentation site make them."""
    headings = re.findall(r"^#+ +(.+?) *$", file.read_text(), re.MULTILINE)
    return {re.sub(r" ", "-", re.sub(r"[^\w\- ]", "", heading.lower())) for heading in headings}


def tests_of(file: Path) -> Mapping[str, set[str]]:
    """Each test function of a file, with the marks that its decorators name."""
    return _tests_in(file.read_text())


@functools.cache
def _tests_in(source: str) -> Mapping[str, set[str]]:
    return {
        node.name: {
            part.attr if isinstance(part, ast.Attribute) else part.id
            for decorator in node.decorator_list
            for part in ast.walk(decorator)
            if isinstance(part, ast.Attribute | ast.Name)
        }
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def disagreements(root: Path = ROOT) -> list[str]:
    """List what the map, the arguments, Coq, the code and the tests do not agree on, one line each."""
    try:
        the_map = read_map(root)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        return [f"proofs/map.toml cannot be read: {error!r}"]
    found = [
        f"proofs/map.toml: the entries must be {THEOREMS[0]} to {THEOREMS[-1]} in their order, got "
        + ", ".join(entry.theorem for entry in the_map.entries)
    ] * (tuple(entry.theorem for entry in the_map.entries) != THEOREMS)
    for entry in the_map.entries:
        found += [f"proofs/map.toml, {entry.theorem}: {line}" for line in _wrong_with(entry, root)]
    return found + list(_unmapped(the_map, root)) + list(_uncited(root))


def _wrong_with(entry: Entry, root: Path) -> Iterator[str]:
    for key, values in (("title", entry.title), ("coq", entry.coq), ("code", entry.code), ("tests", entry.tests)):
        if not values:
            yield f"{key} is empty"
    file, _, anchor = entry.argued.partition("#")
    if not (root / "proofs" / file).is_file():
        yield f"there is no file proofs/{file}"
    elif anchor not in anchors(root / "proofs" / file) or not anchor.startswith(f"{entry.theorem.lower()}-"):
        yield f"no heading of proofs/{file} for {entry.theorem} has the anchor {anchor!r}"
    for file, name in entry.coq:
        path = root / "proofs/coq" / file
        if not path.is_file():
            yield f"there is no file proofs/coq/{file}"
        elif name not in statements(path):
            yield f"proofs/coq/{file} states no theorem, lemma or corollary {name}"
    for symbol in (*entry.code, *(symbol for hypothesis in entry.checked for symbol in hypothesis.by)):
        if not _importable(symbol):
            yield f"{symbol} cannot be imported"
    for test in (*entry.tests, *entry.sharp):
        yield from _wrong_with_test(entry.theorem, test, root)
    row = re.search(rf"^\| {entry.theorem} \| (.*?) \| \[", _index(root), re.MULTILINE)
    if row is not None and re.search(r"\bSharp\b", row[1]) and not entry.sharp:
        yield "proofs/README.md says that it is sharp, and sharp names no test that attains it"


def _wrong_with_test(theorem: str, test: str, root: Path) -> Iterator[str]:
    file, _, name = test.partition("::")
    defined = tests_of(root / file) if (root / file).is_file() else {}
    if name not in defined:
        yield f"there is no test {test}"
    elif theorem not in name.split("_"):
        yield f"the test {test} does not carry {theorem} in its name"
    elif defined[name] & NOT_RUN:
        yield f"the test {test} is marked {', '.join(sorted(defined[name] & NOT_RUN))}"


def _importable(symbol: str) -> bool:
    """Whether a dotted name is that of a module, or of what a module holds."""
    module, names = symbol, list[str]()
    while module:
        try:
            value: object = importlib.import_module(module)
        except ModuleNotFoundError:
            module, _, name = module.rpartition(".")
            names.insert(0, name)
            continue
        for name in names:
            value = getattr(value, name, None)
        return value is not None
    return False


def _unmapped(the_map: Map, root: Path) -> Iterator[str]:
    """Name what Coq proves under the id of a theorem and no entry has, and files with axioms that are not there."""
    mapped = {pair for entry in the_map.entries for pair in entry.coq}
    for path in coq_files(root):
        for name, kind in statements(path).items():
            carried = set(IN_A_NAME.findall(name.replace("_", " "))) & set(THEOREMS)
            if kind != "Lemma" and carried and (path.name, name) not in mapped:
                yield f"proofs/coq/{path.name} proves {name}, which proofs/map.toml does not name"
    for file in sorted(the_map.axioms.keys() - {path.name for path in coq_files(root)}):
        yield f"proofs/map.toml allows axioms for {file}, which proofs/coq does not have"


def _uncited(root: Path) -> Iterator[str]:
    """Name what refgrad cites, and proofs/ does not list, argue or test."""
    argued = {
        name
        for path in (root / "proofs").glob("*.md")
        for name in re.findall(r"^#+ .*?\b(T[1-9][0-9]?)\b", path.read_text(), re.MULTILINE)
    }
    cited = {
        name: path.relative_to(root)
        for path in sorted((root / "refgrad").rglob("*.py"))
        for name in IDENTIFIER.findall(path.read_text())
    }
    tested = {
        name
        for path in (root / "tests").rglob("test_*.py")
        for test in tests_of(path)
        for name in IN_A_NAME.findall(test.replace("_", " "))
    }
    for name, path in sorted(cited.items()):
        if name not in set(IDENTIFIER.findall(_index(root))):
            yield f"{path} cites {name}, which proofs/README.md does not list"
        if name.startswith("T") and name not in argued:
            yield f"{path} cites {name}, which no heading in proofs/ argues"
        if name.startswith("T") and name not in tested:
            yield f"{path} cites {name}, which no test names"


def _index(root: Path) -> str:
    return (root / "proofs/README.md").read_text()


def table(the_map: Map) -> str:
    """Lay out the map as the page of the documentation that shows it."""
    lines = [
        "# The theorems",
        "",
        "Where each theorem is argued, proved in Coq, computed and tested. The table is `proofs/map.toml`: a test "
        "fails where it names what is not there; a run of all tests, where one of its tests did not run; "
        "`make proofs`, where Coq does not accept a proof, or one rests on an axiom that is not listed.",
        "",
        "| id | statement | in Coq | in the code | tests | attained by |",
        "|---|---|---|---|---|---|",
    ]
    for entry in the_map.entries:
        files = dict.fromkeys(file for file, _ in entry.coq)
        proved = "<br>".join(
            f"`{file}`: " + ", ".join(f"`{name}`" for of, name in entry.coq if of == file) for file in files
        )
        cells = [
            entry.theorem,
            f"[{entry.title}](proofs/{entry.argued})",
            proved,
            *(
                "<br>".join(f"`{name.rpartition('::')[2]}`" for name in names)
                for names in (entry.code, entry.tests, entry.sharp)
            ),
        ]
        lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    lines += [
        "",
        "## What a proof assumes, and what checks it in a run",
        "",
        "| id | assumed | checked by |",
        "|---|---|---|",
    ]
    lines += [
        f"| {entry.theorem} | {_cell(one.assumed)} | " + "<br>".join(f"`{symbol}`" for symbol in one.by) + " |"
        for entry in the_map.entries
        for one in entry.checked
    ]
    lines += ["", "## What the proofs rest on", ""]
    lines.append("Every proof is closed under the global context, that is, rests on no axiom, but for those in:")
    lines.append("")
    lines += [
        f"- `{file}`: " + ", ".join(f"`{name}`" for name in sorted(names)) for file, names in the_map.axioms.items()
    ]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", r"\|")
