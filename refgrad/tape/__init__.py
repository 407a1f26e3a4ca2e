"""Reverse-mode differentiation of NumPy code that keeps little, and shows what it keeps.

In: arrays that a `Tape` watches and operations on the tensors it returns. Out: gradients; and a list of records, each
with what its operation keeps until backward.
"""

from refgrad.tape.gradients import value_and_grad
from refgrad.tape.kept import BitMask, Keeper, KeptActivation, KeptItem, Record
from refgrad.tape.primitive import CONSTANT, VJP, Constant, Primitive
from refgrad.tape.recording import Tape
from refgrad.tape.structure import map_structure
from refgrad.tape.tensor import (
    Operand,
    Tensor,
    function_rules,
    ufunc_method_rules,
    ufunc_rules,
    value_functions,
)

__all__ = [
    "CONSTANT",
    "VJP",
    "BitMask",
    "Constant",
    "Keeper",
    "KeptActivation",
    "KeptItem",
    "Operand",
    "Primitive",
    "Record",
    "Tape",
    "Tensor",
    "function_rules",
    "map_structure",
    "ufunc_method_rules",
    "ufunc_rules",
    "value_and_grad",
    "value_functions",
]
