"""The library of mistakes: what people really get wrong, each runnable, each with the sentence that the report prints.

In: nothing. Out: `LIBRARY`, in the order in which a failure is compared with them: where two explain it equally well,
the first is named. `implementation_of` makes any of them a target, which is how the judge itself is tested.
"""

from functools import cache
from typing import Final

from refgrad.oracle.mistakes.base import Mistake, implementation_of
from refgrad.oracle.mistakes.decomposition import decomposition_mistakes
from refgrad.oracle.mistakes.geometry import geometry_mistakes, group_mistakes
from refgrad.oracle.mistakes.ladder import ladder_mistakes
from refgrad.oracle.mistakes.parts import Parts
from refgrad.oracle.mistakes.values import precision_mistakes, value_mistakes

__all__ = ["LIBRARY", "Mistake", "Parts", "implementation_of", "library_of"]

LIBRARY: Final[tuple[Mistake, ...]] = (
    *value_mistakes(),
    *geometry_mistakes(),
    *group_mistakes(),
    *decomposition_mistakes(),
    *precision_mistakes(),
)
"""The mistakes of a convolution."""


@cache
def library_of(operation: str) -> tuple[Mistake, ...]:
    """Return the mistakes of an operation.

    Examples
    --------
    >>> library_of("conv2d") is LIBRARY, len(library_of("rank"))
    (True, 9)
    """
    return LIBRARY if operation == "conv2d" else tuple(ladder_mistakes(operation))
