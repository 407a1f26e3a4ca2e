"""A primitive: one operation together with its VJPs, complete when it is made.

In: a forward pass and a table of VJPs, one for each array argument. Out: a callable that takes arrays or tensors and,
where there is a tensor among them, appends one record to its tape.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, TypeAlias

import numpy as np

from refgrad.arguments import FLOAT_DTYPES, Array
from refgrad.storage.base import Storage, adopt, frozen
from refgrad.tape.kept import Keeper
from refgrad.tape.tensor import Operand, Tensor

__all__ = ["CONSTANT", "VJP", "Constant", "Primitive"]


class Constant(Enum):
    """The type of `CONSTANT`."""

    CONSTANT = "constant"


CONSTANT: Final = Constant.CONSTANT
"""Stands in a table of VJPs for an argument that has no gradient."""

VJP: TypeAlias = Callable[..., Array]
"""``vjp(saved, grad_output) -> array`` in the argument's shape; ``vjp(saved, grad_output, index)`` if variadic."""

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True, eq=False)
class Primitive:
    """An operation that can be differentiated.

    Parameters
    ----------
    name : str
        What the tape calls it.
    forward : callable
        ``forward(keeper, *arrays, **attributes) -> (output, saved)``. The positional parameters after the keeper are
        the array arguments, or there is one variadic ``*arrays``; keyword-only parameters are attributes. `saved` is a
        frozen dataclass with what the VJPs use, or None. It asks ``keeper.needs`` before it keeps anything.
    vjps : mapping
        For every array argument, by name, its VJP or `CONSTANT`.

    Raises
    ------
    TypeError
        Where the table does not name exactly the array arguments of the forward pass.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Saved:
    ...     x: Array
    >>> def forward(keeper, x):
    ...     return x**3, Saved(keeper.keep(x)) if "x" in keeper.needs else None
    >>> cube = Primitive("cube", forward, {"x": lambda saved, grad_output: 3 * saved.x**2 * grad_output})
    >>> from refgrad.tape import Tape
    >>> with Tape() as tape:
    ...     x = tape.watch(np.array(2.0))
    ...     y = cube(x)
    >>> tape.gradient(y, x)
    array(12.)
    """

    name: str
    forward: Callable[..., tuple[Array, Any]] = field(repr=False)
    vjps: Mapping[str, VJP | Constant] = field(repr=False)
    parameters: tuple[str, ...] = field(init=False, repr=False)
    required: int = field(init=False, repr=False)
    variadic: bool = field(init=False, repr=False)

    def __post_init__(self) -> None:
        signature = list(inspect.signature(self.forward).parameters.values())
        arrays = [parameter for parameter in signature[1:] if parameter.kind in POSITIONAL]
        variadic = [parameter for parameter in signature if parameter.kind is inspect.Parameter.VAR_POSITIONAL]
        if not signature or signature[0].kind not in POSITIONAL or (variadic and arrays) or not (variadic or arrays):
            raise TypeError(
                f"the forward pass of {self.name} must take a keeper and then either array arguments or one variadic "
                f"argument, got ({', '.join(map(str, signature))})"
            )
        if any(parameter.name == "store" for parameter in signature):
            raise TypeError(
                f"the forward pass of {self.name} must not have a parameter `store`: the call itself takes it"
            )
        names = tuple(parameter.name for parameter in (variadic or arrays))
        missing, extra = set(names) - set(self.vjps), set(self.vjps) - set(names)
        if missing or extra:
            raise TypeError(
                f"the VJPs of {self.name} must name exactly its array arguments ({', '.join(names)})"
                + (f"; no VJP for {', '.join(sorted(missing))}: give one, or CONSTANT" if missing else "")
                + (f"; no such array argument: {', '.join(sorted(extra))}" if extra else "")
            )
        for name, vjp in self.vjps.items():
            if vjp is not CONSTANT and not callable(vjp):
                raise TypeError(f"the VJP of {self.name} for {name} must be a function or CONSTANT, got {vjp!r}")
        object.__setattr__(self, "parameters", names)
        object.__setattr__(self, "variadic", bool(variadic))
        required = 0 if variadic else sum(parameter.default is inspect.Parameter.empty for parameter in arrays)
        object.__setattr__(self, "required", required)

    def argument(self, position: int) -> str:
        """Return what the array argument at a position is called: ``weight``, or ``arrays[2]`` of a variadic one."""
        return f"{self.parameters[0]}[{position}]" if self.variadic else self.parameters[position]

    def __call__(self, *arguments: Operand | None, store: Storage | None = None, **attributes: Any) -> Operand:
        """Compute the operation and, where a tensor takes part, record it.

        Parameters
        ----------
        *arguments : array, Tensor or None
            The array arguments; None for one that is left out.
        store : Storage, optional
            How this call keeps its layer input; the tape's own storage by default.
        **attributes
            Passed on to the forward pass.

        Returns
        -------
        array or Tensor
            A tensor where one of the arguments is one.

        Raises
        ------
        TypeError
            Where the number of arguments is wrong, a tensor stands for a constant or an attribute, or the output is not
            float32 or float64.
        ValueError
            Where tensors of two tapes meet.
        RuntimeError
            Where the tape is closed or consumed.
        """
        if not self.variadic and not self.required <= len(arguments) <= len(self.parameters):
            raise TypeError(
                f"{self.name} takes {len(self.parameters)} array arguments ({', '.join(self.parameters)}), "
                f"got {len(arguments)}"
            )
        if store is not None and not isinstance(store, Storage):
            raise TypeError(f"store must be a Storage such as Exact() or HOSVD(explained_variance=0.8), got {store!r}")
        for name, value in attributes.items():
            if isinstance(value, Tensor):
                raise TypeError(
                    f"{name} of {self.name} cannot be differentiated, so it cannot be a Tensor; pass {name}.value"
                )
        tensors = [argument for argument in arguments if isinstance(argument, Tensor)]
        if not tensors:
            return self.forward(Keeper((), None), *arguments, **attributes)[0]
        tape = tensors[0].tape
        if any(tensor.tape is not tape for tensor in tensors):
            raise ValueError(
                f"{self.name} was given tensors of two tapes; a tensor belongs to the tape that watched it. "
                "Watch both arrays on one tape, or pass .value of the one that is a constant here"
            )
        tape.check_recording(self.name)
        needs = []
        for position, argument in enumerate(arguments):
            if isinstance(argument, Tensor):
                needs.append(self.argument(position))
                if self.vjps[self.parameters[0 if self.variadic else position]] is CONSTANT:
                    raise TypeError(
                        f"{needs[-1]} of {self.name} cannot be differentiated, so it cannot be a Tensor; "
                        f"pass {needs[-1]}.value"
                    )
        values = [argument.value if isinstance(argument, Tensor) else argument for argument in arguments]
        if store is not None:
            store = tape.in_this_pass(store)
        keeper = Keeper(needs, store if store is not None else tape.store)
        output, saved = self.forward(keeper, *values, **attributes)
        plain = [value for value in (*arguments, *attributes.values()) if isinstance(value, np.ndarray)]
        parents = tuple(argument.index if isinstance(argument, Tensor) else None for argument in arguments)
        return tape.record(self, _sealed(self.name, output, plain), parents, saved)

    def vjp(self, position: int, saved: object, grad_output: Array) -> Array:
        """Return the gradient with respect to the array argument at `position`, from that of the output."""
        vjp = self.vjps[self.parameters[0 if self.variadic else position]]
        assert vjp is not CONSTANT
        return vjp(saved, grad_output, position) if self.variadic else vjp(saved, grad_output)


def _sealed(operation: str, output: object, plain: list[Array]) -> Array:
    """Return the output of a forward pass, read-only, and sharing no memory with an array of the caller's."""
    array = np.asarray(output)
    if array.dtype not in FLOAT_DTYPES:
        raise TypeError(
            f"{operation} gives {array.dtype}, but a tape differentiates float32 and float64 only; "
            "convert the other operand, or compute on .value if no gradient is wanted"
        )
    if any(np.may_share_memory(array, other) for other in plain):
        return frozen(array)
    return adopt(array)
