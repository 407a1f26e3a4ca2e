"""A failure as a few lines of Python to paste: the input written out, the call, and the verdict on it.

In: a `Case`, the row that failed, the target's name. Out: source code that needs refgrad and the target, and nothing
else.
"""

from __future__ import annotations

import pprint
import textwrap

import numpy as np

from refgrad.arguments import Array
from refgrad.oracle.cases import Case

__all__ = ["snippet"]


def snippet(case: Case, row: str, target: str, *, written_out: bool) -> str:
    """Return source code that calls the target on a case and asserts that the row passes.

    Parameters
    ----------
    case : Case
        The input.
    row : str
        The row that failed.
    target : str
        As `load_target` takes it.
    written_out : bool
        Whether the arrays are written out; if not, the case is looked up by its name.
    """
    if written_out:
        imports = "from fractions import Fraction\n\nimport numpy as np\n\n"
        imports += "from refgrad.oracle import Case, judge, load_target"
        made = _written(case)
    else:
        imports = "from refgrad.oracle import find_case, judge, load_target"
        made = f"case = find_case({case.name!r})"
    return f"""{imports}

{made}
implementation = load_target({target!r})
returned = implementation(*case.arrays().values(), **case.attributes)
verdict = judge(implementation, case, twice=True).verdicts[{row!r}]
print(verdict.message)
assert verdict.outcome.value == "passed"
"""


def _written(case: Case) -> str:
    fields = {name: _array(getattr(case, name)) for name in ("x", "weight", "bias", "grad_output")}
    fields |= {name: repr(getattr(case, name)) for name in ("stride", "padding", "dilation", "groups")}
    fields |= {"explained_variance": repr(case.explained_variance), "layout": repr(case.layout)}
    lines = "".join(f"    {name}={value},\n" for name, value in fields.items())
    return f"case = Case(\n    {case.name!r},\n{lines})"


def _array(array: Array) -> str:
    numbers = pprint.pformat(np.asarray(array, np.float64).tolist(), width=100, compact=True)
    return f"np.array({textwrap.indent(numbers, ' ' * 8).strip()}, dtype=np.{array.dtype})"
