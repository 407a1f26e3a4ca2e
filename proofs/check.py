"""Check that theory, code and tests agree: every id that refgrad cites is argued here, and carried by a test.

Reads the ids (D1, T12, ...) out of ``refgrad/`` and ``tests/``, and the headings out of ``proofs/*.md``. Exits 1
with one line for each disagreement.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
IDENTIFIER = re.compile(r"\b([DT][1-9][0-9]?)\b")
HEADING = re.compile(r"^#+ .*?\b(T[1-9][0-9]?)\b", re.MULTILINE)


def identifiers(folder: Path, pattern: str) -> dict[str, Path]:
    """Each id that a file below `folder` cites, with one file that does."""
    return {name: path for path in sorted(folder.rglob(pattern)) for name in IDENTIFIER.findall(path.read_text())}


def tested(folder: Path) -> set[str]:
    """The theorems that a test carries in its name."""
    names = re.findall(r"^def (test_\w+)", "\n".join(p.read_text() for p in folder.rglob("test_*.py")), re.MULTILINE)
    return {
        name
        for test in names
        for name in re.findall(r"(?<![A-Za-z0-9])(T[1-9][0-9]?)(?![0-9])", test.replace("_", " "))
    }


def disagreements(root: Path) -> list[str]:
    """List what is cited and not argued, and what is cited and tested by nothing."""
    argued = {
        name: path for path in sorted((root / "proofs").glob("*.md")) for name in HEADING.findall(path.read_text())
    }
    index = set(IDENTIFIER.findall((root / "proofs/README.md").read_text()))
    cited = identifiers(root / "refgrad", "*.py")
    found = [
        f"{cited[name]} cites {name}, which proofs/README.md does not list" for name in sorted(cited.keys() - index)
    ]
    theorems = {name for name in cited if name.startswith("T")}
    found += [
        f"{cited[name]} cites {name}, which no heading in proofs/ argues" for name in sorted(theorems - argued.keys())
    ]
    found += [f"{cited[name]} cites {name}, which no test names" for name in sorted(theorems - tested(root / "tests"))]
    return found


def main() -> int:
    """Print the disagreements; return the exit code."""
    found = disagreements(ROOT)
    for line in found:
        print(line)
    if not found:
        print("Every id that refgrad cites is argued in proofs/ and carried by a test.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
