"""How a function of NumPy is given its rule, and what all rules share.

In: NumPy functions, and what they do to tensors. Out: entries in the tables that `Tensor` looks into; arguments
checked, options that have no meaning on a tape refused by name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from operator import index
from typing import Any, TypeAlias

import numpy as np

from refgrad.arguments import Array
from refgrad.tape import (
    CONSTANT,
    Constant,
    Keeper,
    Operand,
    Primitive,
    Tensor,
    function_rules,
    ufunc_method_rules,
    ufunc_rules,
)

__all__ = [
    "Elementwise",
    "Row",
    "axes_of",
    "elementwise",
    "numpy_name",
    "numpy_says",
    "operand",
    "operands",
    "row",
    "rule",
    "unbroadcast",
    "value_of",
]

Scalar: TypeAlias = bool | int | float
"""A Python number; NumPy lets it take the dtype of its partner."""


def numpy_name(function: Callable[..., Any] | np.ufunc) -> str:
    """Return what users call a function of NumPy.

    Examples
    --------
    >>> numpy_name(np.linalg.norm), numpy_name(np.exp)
    ('np.linalg.norm', 'np.exp')
    """
    module = getattr(function, "__module__", None) or "numpy"
    return f"{module.replace('numpy', 'np', 1)}.{function.__name__}"


@contextmanager
def numpy_says(operation: str, *values: Any) -> Iterator[None]:
    """Add the operation and the shapes of its operands to an error that NumPy raises.

    Examples
    --------
    >>> with numpy_says("np.reshape", np.zeros(6)):
    ...     np.zeros(6).reshape(4)
    Traceback (most recent call last):
        ...
    ValueError: np.reshape of shape (6,): cannot reshape array of size 6 into shape (4,)
    """
    try:
        yield
    except (ValueError, IndexError, TypeError) as error:
        shapes = ", ".join(str(np.shape(value)) for value in values)
        text = f"{operation} of shape{'s' if len(values) > 1 else ''} {shapes}: {error}"
        if isinstance(error, ValueError):
            raise ValueError(text) from error
        raise (IndexError if isinstance(error, IndexError) else TypeError)(text) from error


def operand(operation: str, value: Any) -> Any:
    """Return an operand as a tensor, an array of real numbers or a Python number.

    Raises
    ------
    TypeError
        Where it is none of these: an object, string or complex array, or a list that holds tensors.
    """
    if isinstance(value, (Tensor, bool, int, float)):
        return value
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{operation} cannot use a {type(value).__name__} as an array: {error}") from error
    if array.dtype.kind not in "fiub":
        raise TypeError(
            f"{operation} takes arrays of real numbers when a Tensor takes part, got an array of dtype {array.dtype}"
        )
    return array


def value_of(value: Any) -> Any:
    """Return the values of a tensor, and anything else as it is."""
    return value.value if isinstance(value, Tensor) else value


def axes_of(operation: str, axis: Any, ndim: int) -> tuple[int, ...]:
    """Return the axes that `axis` names, each in [0, ndim) and in increasing order; None names them all.

    Raises
    ------
    TypeError
        Where an axis is no integer.
    ValueError
        Where an axis does not exist, or is named twice.

    Examples
    --------
    >>> axes_of("np.sum", (-1, 0), 3)
    (0, 2)
    """
    if axis is None:
        return tuple(range(ndim))
    entries = axis if isinstance(axis, (tuple, list)) else (axis,)
    try:
        numbers = [index(entry) for entry in entries]
    except TypeError:
        raise TypeError(f"axis of {operation} must be an integer, a tuple of them, or None, got {axis!r}") from None
    for number in numbers:
        if not -ndim <= number < ndim:
            raise ValueError(f"axis of {operation} must be in [{-ndim}, {ndim}) for {ndim} axes, got {number}")
    axes = tuple(sorted(number % ndim for number in numbers))
    if len(set(axes)) != len(axes):
        raise ValueError(f"axis of {operation} names an axis twice: {axis!r}")
    return axes


def unbroadcast(gradient: Array, shape: tuple[int, ...]) -> Array:
    """Sum a gradient over the axes along which its argument was broadcast: the adjoint of broadcasting.

    Examples
    --------
    >>> unbroadcast(np.ones((4, 3, 2)), (3, 1))
    array([[8.],
           [8.],
           [8.]])
    """
    extra = gradient.ndim - len(shape)
    stretched = (i + extra for i, length in enumerate(shape) if length == 1 and gradient.shape[i + extra] != 1)
    axes = (*range(extra), *stretched)
    return (gradient.sum(axis=axes, keepdims=True) if axes else gradient).reshape(shape)


def rule(
    *functions: Callable[..., Any], method: str | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register what functions of NumPy do when a tensor is among their arguments.

    Parameters
    ----------
    *functions : callable
        Functions of NumPy; aliases go together.
    method : str, optional
        The functions are ufuncs, and this is the method of theirs that is meant, such as ``"reduce"``.

    Returns
    -------
    callable
        Decorates the rule, which names the parameters that work on tensors as NumPy does, in NumPy's order. An option
        that it does not name, such as ``out``, is refused with its name.
    """

    def register(implementation: Callable[..., Any]) -> Callable[..., Any]:
        parameters = inspect.signature(implementation).parameters.values()
        names = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        name = numpy_name(functions[0]) if method is None else f"{numpy_name(functions[0])}.{method}"

        @wraps(implementation)
        def checked(*args: Any, **kwargs: Any) -> Any:
            if len(args) > len(positional) and not variadic:
                raise TypeError(
                    f"{name} takes {', '.join(positional)} by position when a Tensor takes part, "
                    f"got {len(args)} arguments; name the others"
                )
            for key in [key for key in kwargs if key not in names]:
                value = kwargs.pop(key)
                if value is not None and value is not np._NoValue:
                    raise TypeError(
                        f"{name} has no option `{key}` when a Tensor takes part; it takes {', '.join(names) or 'none'}"
                    )
            return implementation(*args, **kwargs)

        for function in functions:
            if method is None:
                function_rules[function] = checked
            else:
                assert isinstance(function, np.ufunc)
                ufunc_method_rules[function, method] = checked
        return checked

    return register


@dataclass(frozen=True, slots=True)
class Row:
    """How one argument of an elementwise function gets its gradient.

    Parameters
    ----------
    keeps : tuple of str
        What the formula uses: names of arguments, or ``"output"``. Only this is kept.
    formula : callable
        ``formula(grad_output, *kept)`` in the shape of the output; summing over broadcast axes is done for it.
    """

    keeps: tuple[str, ...]
    formula: Callable[..., Array]

    def __post_init__(self) -> None:
        expected = 1 + len(self.keeps)
        got = len(inspect.signature(self.formula).parameters)
        if got != expected:
            raise TypeError(f"a formula that keeps ({', '.join(self.keeps)}) takes {expected} arguments, got {got}")


def row(keeps: str, formula: Callable[..., Array]) -> Row:
    """Return a `Row`; `keeps` separates names by spaces."""
    return Row(tuple(keeps.split()), formula)


@dataclass(frozen=True, slots=True, eq=False)
class Elementwise:
    """What an elementwise function keeps: the shapes, and what its rows declare.

    Parameters
    ----------
    shapes : tuple of tuple of int
        Of the arguments.
    x1, x2 : array, number or None
        The arguments.
    output : array or None
        The result.
    """

    shapes: tuple[tuple[int, ...], ...]
    x1: Array | Scalar | None = None
    x2: Array | Scalar | None = None
    output: Array | None = None


def elementwise(ufunc: np.ufunc, **rows: Row | Constant) -> Primitive:
    """Make the primitive of a ufunc from its table and register it.

    Parameters
    ----------
    ufunc : np.ufunc
        With one output.
    **rows
        For every argument, ``x1`` and, where there are two, ``x2``: its row, or `CONSTANT`.
    """
    name = ufunc.__name__
    words = (*rows, "output")
    for argument, entry in rows.items():
        if isinstance(entry, Row) and not set(entry.keeps) <= set(words):
            raise TypeError(
                f"the row of {name} for {argument} can keep {', '.join(words)}, got {', '.join(entry.keeps)}"
            )

    def compute(keeper: Keeper, **values: Any) -> tuple[Array, Elementwise | None]:
        with numpy_says(f"np.{name}", *values.values()):
            output = np.asarray(ufunc(*values.values()))
        if not keeper.needs:
            return output, None
        used = {word for need in keeper.needs if isinstance(entry := rows[need], Row) for word in entry.keeps}
        kept = {word: _keep(keeper, values[word]) for word in used if word != "output"}
        if "output" in used:
            kept["output"] = keeper.keep(output, own=True)
        return output, Elementwise(tuple(np.shape(value) for value in values.values()), **kept)

    def unary(keeper: Keeper, x1: Any) -> tuple[Array, Elementwise | None]:
        return compute(keeper, x1=x1)

    def binary(keeper: Keeper, x1: Any, x2: Any) -> tuple[Array, Elementwise | None]:
        return compute(keeper, x1=x1, x2=x2)

    vjps = {argument: _vjp(position, entry) for position, (argument, entry) in enumerate(rows.items())}
    primitive = Primitive(name, unary if ufunc.nin == 1 else binary, vjps)

    def call(*operands: Any) -> Operand:
        return primitive(*(operand(f"np.{name}", entry) for entry in operands))

    ufunc_rules[ufunc] = call
    return primitive


def _vjp(position: int, entry: Row | Constant) -> Callable[..., Array] | Constant:
    if not isinstance(entry, Row):
        return CONSTANT

    def vjp(saved: Elementwise, grad_output: Array) -> Array:
        gradient = entry.formula(grad_output, *(getattr(saved, word) for word in entry.keeps))
        return unbroadcast(np.asarray(gradient), saved.shapes[position])

    return vjp


def _keep(keeper: Keeper, value: Any) -> Any:
    """Keep an operand; a Python number is kept as it is, so that it goes on taking the dtype of its partner."""
    return value if isinstance(value, (bool, int, float)) else keeper.keep(value)


def operands(operation: str, values: Any) -> list[Any]:
    """Return the entries of a sequence as operands, numbers as arrays."""
    if isinstance(values, Tensor):
        return list(values)
    if not isinstance(values, (tuple, list)):
        raise TypeError(f"{operation} takes a list or tuple of arrays, got {type(values).__name__}")
    checked = [operand(operation, value) for value in values]
    return [value if isinstance(value, Tensor) else np.asarray(value) for value in checked]
