"""The functions without a derivative, or whose derivative is 0 almost everywhere.

In: tensors. Out: plain arrays; nothing is recorded, and no gradient passes.
"""

from __future__ import annotations

import numpy as np

from refgrad.tape import value_functions

__all__: list[str] = []

value_functions.update(
    # comparisons and predicates
    (np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal),
    (np.logical_and, np.logical_or, np.logical_xor, np.logical_not),
    (np.isnan, np.isinf, np.isfinite, np.signbit, np.all, np.any),
    (np.allclose, np.isclose, np.array_equal, np.array_equiv, np.isposinf, np.isneginf),
    # steps
    (np.sign, np.floor, np.ceil, np.trunc, np.rint, np.round, np.around, np.fix, np.floor_divide, np.heaviside),
    # places
    (np.argmax, np.argmin, np.argsort, np.argwhere, np.nonzero, np.flatnonzero, np.count_nonzero, np.searchsorted),
    # what an array is, and arrays made after its pattern
    (np.shape, np.ndim, np.size, np.result_type, np.can_cast, np.iscomplexobj, np.isrealobj),
    (np.zeros_like, np.ones_like, np.full_like, np.empty_like),
    (np.array2string, np.array_repr, np.array_str, np.may_share_memory, np.shares_memory),
)
