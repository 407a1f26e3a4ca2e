"""A failure as a few lines of Python to paste: the input written out, the call, and the verdict on it.

In: a `Case`, the row that failed, the target's name. Out: source code that needs refgrad and the target, and nothing
else.
"""

from __future__ import annotations

import pprint
import textwrap

import numpy as np

from refgrad.arguments import Array
from refgrad.oracle.cases import AnyCase, Case
from refgrad.oracle.protocol import FURTHER_ROWS

__all__ = ["snippet"]


def snippet(case: AnyCase, row: str, target: str | None, *, written_out: bool) -> str:
    """Return source code that calls the target on a case and asserts that the row passes.

    Parameters
    ----------
    case : Case or LadderCase
        The input.
    row : str
        The row that failed.
    target : str, optional
        As `load_target` takes it; where absent there is a place for it.
    written_out : bool
        Whether the arrays are written out; if not, the case is looked up by its name.
    """
    known = ["judge", "load_target", "operations_of"]
    if target is None:
        known = ["judge"]
        loaded = f"operation = ...  # yours: the function {case.operation}"
    else:
        loaded = f"operation = operations_of(load_target({target!r}))[{case.operation!r}]"
    if written_out:
        known.append(type(case).__name__)
        imports = "from fractions import Fraction\n\nimport numpy as np\n\n"
        made = _written(case)
    else:
        known.append("find_case_of")
        imports = ""
        made = f"case = find_case_of({case.operation!r}, {case.name!r})"
    further = f", further=[{row!r}]" if row in FURTHER_ROWS[case.operation] else ""
    imports += f"from refgrad.oracle import {', '.join(sorted(known, key=lambda name: (name.islower(), name)))}"
    return f"""{imports}

{made}
{loaded}
returned = operation(*case.arrays().values(), **case.attributes)
verdict = judge(operation, case, twice=True{further}).verdicts[{row!r}]
print(verdict.message)
assert verdict.outcome.value == "passed"
"""


def _written(case: AnyCase) -> str:
    if isinstance(case, Case):
        fields = {name: _array(array) for name, array in case.parts.items()}
        fields |= {name: repr(getattr(case, name)) for name in ("stride", "padding", "dilation", "groups")}
        first = repr(case.name)
    else:
        arrays = {
            name: f"({', '.join(map(_array, value))},)" if isinstance(value, tuple) else _array(value)
            for name, value in case.parts.items()
        }
        given = {key: value for key, value in case.attributes.items() if key != "explained_variance"}
        fields = {"parts": f"{{{', '.join(f'{name!r}: {text}' for name, text in arrays.items())}}}"}
        fields |= {"given": repr(given)}
        first = f"{case.operation!r}, {case.name!r}"
    fields |= {"explained_variance": repr(case.explained_variance), "layout": repr(case.layout)}
    lines = "".join(f"    {name}={value},\n" for name, value in fields.items())
    return f"case = {type(case).__name__}(\n    {first},\n{lines})"


def _array(array: Array) -> str:
    numbers = pprint.pformat(np.asarray(array, np.float64).tolist(), width=100, compact=True)
    return f"np.array({textwrap.indent(numbers, ' ' * 8).strip()}, dtype=np.{array.dtype})"
