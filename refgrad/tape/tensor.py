"""Tensor: an array on a tape, which answers to NumPy's own functions.

In: NumPy's operators, ufuncs and array functions. Out: the same operations, recorded; or a TypeError that says why not.
The rules are in `refgrad.numpy_vjps`, which a Tape loads.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from refgrad.arguments import Array

if TYPE_CHECKING:
    from refgrad.tape.recording import Tape

__all__ = ["Operand", "Tensor", "function_rules", "ufunc_method_rules", "ufunc_rules", "value_functions"]

ufunc_rules: dict[np.ufunc, Callable[..., Any]] = {}
"""What a ufunc does when a tensor is among its arguments."""

ufunc_method_rules: dict[tuple[np.ufunc, str], Callable[..., Any]] = {}
"""What a method of a ufunc does, such as ``np.add.reduce``."""

function_rules: dict[Callable[..., Any], Callable[..., Any]] = {}
"""What any other function does."""

value_functions: set[Callable[..., Any]] = set()
"""Functions and ufuncs without a derivative: they look at the values and return plain arrays."""

WAY_OUT = (
    "compute on .value if no gradient has to pass through it, write it with functions that have one, "
    "or make a refgrad.tape.Primitive of it"
)


class Tensor(NDArrayOperatorsMixin):
    """An array that a tape watches, or that was computed from one.

    Tensors come from `Tape.watch` and from operations on tensors. They are immutable; ``t += 1`` binds the name `t` to
    a new tensor. Operators, slicing, and the functions of NumPy that have a VJP work on them, comparisons and the like
    return plain arrays, and everything else raises a TypeError.

    Examples
    --------
    >>> from refgrad.tape import Tape
    >>> with Tape() as tape:
    ...     t = tape.watch(np.array([1.0, 2.0]))
    ...     loss = np.sum(t**2)
    >>> loss.value, t > 1.5
    (array(5.), array([False,  True]))
    """

    __slots__ = ("__weakref__", "_index", "_tape", "_value")
    __array_priority__ = 1000.0

    def __init__(self, value: Array, tape: Tape, index: int) -> None:
        self._value = value
        self._tape = tape
        self._index = index

    @property
    def value(self) -> Array:
        """The values, as a read-only array."""
        return self._value

    @property
    def tape(self) -> Tape:
        """The tape that records what is computed from this tensor."""
        return self._tape

    @property
    def index(self) -> int:
        """The place of the record that this tensor comes from."""
        return self._index

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of every axis."""
        return self._value.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        return self._value.dtype

    @property
    def ndim(self) -> int:
        """How many axes there are."""
        return self._value.ndim

    @property
    def size(self) -> int:
        """How many entries there are."""
        return self._value.size

    @property
    def nbytes(self) -> int:
        """How many bytes the values take."""
        return self._value.nbytes

    @property
    def T(self) -> Tensor:  # noqa: N802 - NumPy's name
        """The tensor with its axes in reverse order."""
        return _call(np.transpose, self)

    def __repr__(self) -> str:
        record = self._tape.records[self._index]
        origin = record.name or record.operation
        return (
            f"Tensor({np.array2string(self._value, separator=', ', prefix='Tensor(')}, {origin!r}, dtype={self.dtype})"
        )

    def __len__(self) -> int:
        return len(self._value)

    def __iter__(self) -> Iterator[Tensor]:
        if self.ndim == 0:
            raise TypeError("iteration over a Tensor without axes")
        return (self[i] for i in range(len(self)))

    def __float__(self) -> float:
        return float(self.item())

    def __bool__(self) -> bool:
        return bool(self._value)

    def item(self) -> float:
        """Return the one entry as a float.

        Raises
        ------
        TypeError
            Where there is not just one.
        """
        if self.size != 1:
            raise TypeError(f"only a Tensor of size 1 can be a float, got shape {self.shape}; use .value")
        return float(self._value.item())

    def __array__(self, dtype: object = None, copy: object = None) -> NoReturn:
        raise TypeError(
            "a Tensor is not turned into an array silently, for the array would be cut off from its tape; "
            "use .value where no gradient has to pass, and np.stack to join several tensors"
        )

    def __setitem__(self, key: object, value: object) -> NoReturn:
        raise TypeError(
            "a Tensor cannot be written to: the tape may need its old entries; build a new one, for example with "
            "np.where or np.concatenate"
        )

    def __getitem__(self, key: Any) -> Tensor:
        return _call(operator.getitem, self, key)

    # Augmented assignment binds a new tensor; nothing is changed in place.
    __iadd__ = NDArrayOperatorsMixin.__add__
    __isub__ = NDArrayOperatorsMixin.__sub__
    __imul__ = NDArrayOperatorsMixin.__mul__
    __itruediv__ = NDArrayOperatorsMixin.__truediv__
    __ifloordiv__ = NDArrayOperatorsMixin.__floordiv__
    __imod__ = NDArrayOperatorsMixin.__mod__
    __ipow__ = NDArrayOperatorsMixin.__pow__
    __imatmul__ = NDArrayOperatorsMixin.__matmul__

    def reshape(self, *shape: Any) -> Tensor:
        """Return the same entries in another shape."""
        return _call(np.reshape, self, shape[0] if len(shape) == 1 else shape)

    def transpose(self, *axes: Any) -> Tensor:
        """Return the tensor with its axes permuted, or reversed where none are given."""
        order = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes or None
        return _call(np.transpose, self, order)

    def swapaxes(self, axis1: int, axis2: int) -> Tensor:
        """Return the tensor with two axes swapped."""
        return _call(np.swapaxes, self, axis1, axis2)

    def ravel(self) -> Tensor:
        """Return the tensor with one axis."""
        return _call(np.ravel, self)

    flatten = ravel

    def squeeze(self, axis: Any = None) -> Tensor:
        """Return the tensor without its axes of length 1, or without those given."""
        return _call(np.squeeze, self, axis=axis)

    def sum(self, axis: Any = None, *, keepdims: bool = False) -> Tensor:
        """Return the sum over the given axes, or over all."""
        return _call(np.sum, self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Any = None, *, keepdims: bool = False) -> Tensor:
        """Return the mean over the given axes, or over all."""
        return _call(np.mean, self, axis=axis, keepdims=keepdims)

    def prod(self, axis: Any = None, *, keepdims: bool = False) -> Tensor:
        """Return the product over the given axes, or over all."""
        return _call(np.prod, self, axis=axis, keepdims=keepdims)

    def max(self, axis: Any = None, *, keepdims: bool = False) -> Tensor:
        """Return the largest entry over the given axes, or over all."""
        return _call(np.max, self, axis=axis, keepdims=keepdims)

    def min(self, axis: Any = None, *, keepdims: bool = False) -> Tensor:
        """Return the smallest entry over the given axes, or over all."""
        return _call(np.min, self, axis=axis, keepdims=keepdims)

    def var(self, axis: Any = None, *, ddof: float = 0, keepdims: bool = False) -> Tensor:
        """Return the variance over the given axes, or over all."""
        return _call(np.var, self, axis=axis, ddof=ddof, keepdims=keepdims)

    def std(self, axis: Any = None, *, ddof: float = 0, keepdims: bool = False) -> Tensor:
        """Return the standard deviation over the given axes, or over all."""
        return _call(np.std, self, axis=axis, ddof=ddof, keepdims=keepdims)

    def cumsum(self, axis: int | None = None) -> Tensor:
        """Return the sums of the first entries along an axis."""
        return _call(np.cumsum, self, axis=axis)

    def clip(self, minimum: Any = None, maximum: Any = None) -> Tensor:
        """Return the entries, moved into an interval."""
        return _call(np.clip, self, minimum, maximum)

    def dot(self, other: Any) -> Tensor:
        """Return the dot product, as `numpy.dot` defines it."""
        return _call(np.dot, self, other)

    def astype(self, dtype: Any) -> Tensor:
        """Return the tensor in float32 or float64; its gradient comes back in the dtype it had before."""
        return _call(np.ndarray.astype, self, dtype)

    def argmax(self, axis: int | None = None) -> Any:
        """Return where the largest entry is, as a plain integer or array."""
        return self._value.argmax(axis=axis)

    def argmin(self, axis: int | None = None) -> Any:
        """Return where the smallest entry is, as a plain integer or array."""
        return self._value.argmin(axis=axis)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **keywords: Any) -> Any:
        name = f"np.{ufunc.__name__}" if method == "__call__" else f"np.{ufunc.__name__}.{method}"
        if any(entry is not None for entry in _as_tuple(keywords.pop("out", ()))):
            raise TypeError(f"{name} cannot write into `out` when a Tensor takes part; use what it returns")
        if ufunc in value_functions:
            return getattr(ufunc, method)(
                *map(_plain, inputs), **{key: _plain(entry) for key, entry in keywords.items()}
            )
        if method != "__call__":
            rule = ufunc_method_rules.get((ufunc, method))
            if rule is None:
                raise TypeError(f"{name} has no VJP; {WAY_OUT}")
            return rule(*inputs, **keywords)
        if ufunc not in ufunc_rules:
            raise TypeError(f"{name} has no VJP; {WAY_OUT}")
        if keywords:
            raise TypeError(f"{name} takes no keyword argument when a Tensor takes part, got {', '.join(keywords)}")
        return ufunc_rules[ufunc](*inputs)

    def __array_function__(
        self, function: Callable[..., Any], types: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        rule = function_rules.get(function)
        if rule is not None:
            return rule(*args, **kwargs)
        if function in value_functions:
            return function(*map(_plain, args), **{key: _plain(entry) for key, entry in kwargs.items()})
        module = function.__module__.replace("numpy", "np", 1)
        raise TypeError(f"{module}.{function.__name__} has no VJP; {WAY_OUT}")


Operand: TypeAlias = Array | Tensor
"""What an operation takes and gives: an array, or a tensor where it is recorded."""


def _call(function: Callable[..., Any], tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Apply the rule of a function of NumPy."""
    result: Tensor = function_rules[function](tensor, *args, **kwargs)
    return result


def _plain(entry: Any) -> Any:
    """Replace tensors by their values, in tuples and lists too."""
    if isinstance(entry, Tensor):
        return entry.value
    if isinstance(entry, (tuple, list)):
        return type(entry)(map(_plain, entry))
    return entry


def _as_tuple(entry: Any) -> tuple[Any, ...]:
    return entry if isinstance(entry, tuple) else (entry,)
