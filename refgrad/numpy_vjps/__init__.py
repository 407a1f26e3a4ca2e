"""The VJPs of the NumPy functions that a Tensor answers to.

In: nothing; importing this package fills the tables. Out: `ufunc_rules`, `ufunc_method_rules`, `function_rules` and
`value_functions`. A function that is in none of them raises a TypeError when it meets a Tensor.
"""

from refgrad.numpy_vjps import contractions, indexing, reductions, shaping, ufuncs, values
from refgrad.tape import function_rules, ufunc_method_rules, ufunc_rules, value_functions

__all__ = [
    "contractions",
    "function_rules",
    "indexing",
    "reductions",
    "shaping",
    "ufunc_method_rules",
    "ufunc_rules",
    "ufuncs",
    "value_functions",
    "values",
]
