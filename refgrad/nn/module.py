"""Module: a tree of layers that owns parameters and buffers, and can run with other parameters than its own.

In: arrays or tensors. Out: the same kind. Parameters are plain arrays; to differentiate, a module is applied to tensors
that stand in their place.
"""

from __future__ import annotations

import copy
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, overload

import numpy as np

from refgrad.arguments import Array, float_array, shape_text
from refgrad.nn.files import load_arrays, save_arrays
from refgrad.tape import Operand, Tape, Tensor

__all__ = ["Module"]

REGISTERS = ("_parameters", "_buffers", "_children")


class Module(ABC):
    """A layer, or a network of layers.

    A subclass calls ``super().__init__()``, registers its arrays, assigns its layers to attributes, and writes
    `forward`. A parameter is trained; a buffer is not, but belongs to the state. Names are PyTorch's, as in
    ``features.0.weight``.

    Examples
    --------
    >>> from refgrad.nn import Linear, ReLU
    >>> class Residual(Module):
    ...     def __init__(self, *, generator):
    ...         super().__init__()
    ...         self.linear = Linear(2, 2, generator=generator)
    ...         self.relu = ReLU()
    ...
    ...     def forward(self, x):
    ...         return x + self.relu(self.linear(x))
    >>> module = Residual(generator=np.random.default_rng(0))
    >>> list(module.parameters())
    ['linear.weight', 'linear.bias']
    >>> x = np.ones((3, 2))
    >>> with Tape() as tape:
    ...     tensors = module.watch(tape)
    ...     loss = np.sum(module.apply(tensors, x) ** 2)
    >>> gradients = tape.gradient(loss, tensors)
    >>> gradients["linear.weight"].shape
    (2, 2)
    """

    training: bool

    def __init__(self) -> None:
        for register in REGISTERS:
            object.__setattr__(self, register, {})
        self.training = True

    @abstractmethod
    def forward(self, x: Operand) -> Operand:
        """Compute the output; parameters are attributes, and are tensors where the module is applied to tensors."""

    @overload
    def __call__(self, x: Array) -> Array: ...
    @overload
    def __call__(self, x: Tensor) -> Tensor: ...
    @overload
    def __call__(self, x: Operand) -> Operand: ...
    def __call__(self, x: Operand) -> Operand:
        """Run the module with its own parameters, or with those that the module around it is applied to."""
        return self.forward(x)

    @overload
    def apply(self, parameters: Mapping[str, Array], x: Array, *, update_state: bool = True) -> Array: ...
    @overload
    def apply(self, parameters: Mapping[str, Tensor], x: Operand, *, update_state: bool = True) -> Tensor: ...
    @overload
    def apply(self, parameters: Mapping[str, Operand], x: Tensor, *, update_state: bool = True) -> Tensor: ...
    @overload
    def apply(self, parameters: Mapping[str, Operand], x: Operand, *, update_state: bool = True) -> Operand: ...
    def apply(self, parameters: Mapping[str, Operand], x: Operand, *, update_state: bool = True) -> Operand:
        """Run the module with the given parameters in place of its own.

        Parameters
        ----------
        parameters : mapping of str to array or Tensor
            Just the names and shapes of `parameters()`.
        x : array or Tensor
            The input.
        update_state : bool
            Whether running statistics and the generators of dropout move on. Without, the same step can
            be taken once more, with the same statistics and zeros: to compare with exact backpropagation, say.

        Returns
        -------
        array or Tensor
            A Tensor where `x` or a parameter is one.

        Raises
        ------
        TypeError
            Where a parameter is neither array nor Tensor.
        ValueError
            Where names or shapes differ from those of the module.

        Examples
        --------
        >>> from refgrad.nn import Linear
        >>> module = Linear(2, 1, generator=np.random.default_rng(0))
        >>> module.apply({"weight": np.array([[1.0, 2.0]]), "bias": np.array([0.5])}, np.array([[1.0, 1.0]]))
        array([[3.5]])
        """
        own = self.parameters()
        _check_names("parameters", own, parameters)
        for name, array in own.items():
            if not isinstance(parameters[name], (np.ndarray, Tensor)):
                came = type(parameters[name]).__name__
                raise TypeError(f"parameters[{name!r}] must be an array or a Tensor, got {came}")
            if parameters[name].shape != array.shape:
                raise ValueError(
                    f"parameters[{name!r}] must have shape {shape_text(array.shape)}, "
                    f"got {shape_text(parameters[name].shape)}"
                )
        return self._bound(parameters, "", None if update_state else {}).forward(x)

    def watch(self, tape: Tape) -> dict[str, Tensor]:
        """Return a tensor on the tape for every parameter, by name; `apply` takes them.

        Parameters
        ----------
        tape : Tape
            Open; it copies the parameters.

        Returns
        -------
        dict of str to Tensor
            With the names of `parameters()`, which `print(tape)` shows.

        Raises
        ------
        RuntimeError
            Where the tape is closed or consumed.
        """
        return {name: tape.watch(array, name) for name, array in self.parameters().items()}

    def register_parameter(self, name: str, array: Array) -> None:
        """Make a copy of a float array a parameter: it becomes an attribute, and is trained.

        Parameters
        ----------
        name : str
            A word without dots, that is not taken.
        array : array
            float32 or float64, not empty.

        Raises
        ------
        TypeError, ValueError
            Where it is no float array, or the name is taken or no name.
        """
        self._check_name(name)
        self._parameters[name] = np.array(float_array(name, array), order="C")

    def register_buffer(self, name: str, array: Array) -> None:
        """Make a copy of an array a buffer: it becomes an attribute, and belongs to the state, but is not trained.

        `forward` changes it in place; whatever else it assigns is forgotten after `apply`.

        Parameters
        ----------
        name : str
            A word without dots, that is not taken.
        array : array
            Of any dtype.

        Raises
        ------
        TypeError, ValueError
            Where it is no array, or the name is taken or no name.
        """
        self._check_name(name)
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{name} must be a NumPy array to be a buffer, got {type(array).__name__}")
        self._buffers[name] = np.array(array, order="C")

    def add_module(self, name: str, module: Module) -> None:
        """Make a module part of this one; assigning it to an attribute does the same.

        Parameters
        ----------
        name : str
            A word without dots, that is not taken.
        module : Module
            What becomes part of this one.

        Raises
        ------
        TypeError, ValueError
            Where it is no module, or the name is taken or no name.
        """
        self._check_name(name)
        if not isinstance(module, Module):
            raise TypeError(f"{name} must be a Module, got {type(module).__name__}")
        self._children[name] = module

    def children(self) -> dict[str, Module]:
        """Return the modules that this one is made of, by name."""
        return dict(self._children)

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """Yield this module, under the name "", and all below it, depth first."""
        yield "", self
        for name, child in self._children.items():
            for below, module in child.named_modules():
                yield (f"{name}.{below}" if below else name), module

    def named_parameters(self) -> Iterator[tuple[str, Array]]:
        """Yield the name and the array of every parameter.

        Raises
        ------
        ValueError
            Where one module stands in two places: its parameters would be trained twice.
        """
        first_names: dict[int, str] = {}
        for prefix, module in self.named_modules():
            for name, array in module._parameters.items():
                full = f"{prefix}.{name}" if prefix else name
                if id(array) in first_names:
                    raise ValueError(
                        f"every parameter must have one name, but {first_names[id(array)]} and {full} are the same "
                        "array: one module stands in two places; make two, or call the one twice in forward"
                    )
                first_names[id(array)] = full
                yield full, array

    def parameters(self) -> dict[str, Array]:
        """Return every parameter by name: the arrays themselves, which an optimiser changes in place."""
        return dict(self.named_parameters())

    def buffers(self) -> dict[str, Array]:
        """Return every buffer by name: the arrays themselves."""
        return {
            f"{prefix}.{name}" if prefix else name: array
            for prefix, module in self.named_modules()
            for name, array in module._buffers.items()
        }

    def train(self, mode: bool = True) -> Module:
        """Switch to training, or with False to evaluation, here and below; return this module.

        Parameters
        ----------
        mode : bool
            Which of the two.

        Raises
        ------
        TypeError
            Where it is no bool.
        """
        if not isinstance(mode, bool):
            raise TypeError(f"mode must be True or False, got {mode!r}")
        for _, module in self.named_modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """Switch to evaluation, here and below; return this module."""
        return self.train(False)

    def state_dict(self) -> dict[str, Array]:
        """Return copies of all parameters and buffers, under PyTorch's names and in PyTorch's order."""
        return {name: array.copy() for name, array in self._state().items()}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Take over the values of parameters and buffers; all of them or, after an error, none.

        Parameters
        ----------
        state : mapping of str to array
            Just the names, shapes and dtypes of `state_dict()`.

        Raises
        ------
        TypeError
            Where an entry is no array, or has another dtype.
        ValueError
            Where names or shapes differ.

        Examples
        --------
        >>> from refgrad.nn import Linear
        >>> layer = Linear(2, 1, generator=np.random.default_rng(0))
        >>> layer.load_state_dict({"weight": np.ones((1, 2)), "scale": np.ones(1)})
        Traceback (most recent call last):
            ...
        ValueError: state must have the names of the module; missing: bias; unexpected: scale
        """
        own = self._state()
        _check_names("state", own, state)
        for name, array in own.items():
            _check_like(f"state[{name!r}]", state[name], array)
        for name, array in own.items():
            array[...] = state[name]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `state_dict()` to an .npz file, whole or not at all.

        Parameters
        ----------
        path : path
            Ends in ``.npz``; its folder exists.

        Raises
        ------
        ValueError
            Where the path does not end in .npz or cannot be written.
        """
        save_arrays(path, self._state())

    def load(self, path: str | os.PathLike[str]) -> None:
        """Read what `save` wrote; nothing in the file is ever run.

        Parameters
        ----------
        path : path
            Ends in ``.npz``.

        Raises
        ------
        TypeError, ValueError
            Where the file cannot be read, holds something else than plain arrays, or does not fit the module.
        """
        self.load_state_dict(load_arrays(path))

    def _state(self) -> dict[str, Array]:
        self.parameters()  # refuses parameters with two names
        return {
            f"{prefix}.{name}" if prefix else name: array
            for prefix, module in self.named_modules()
            for name, array in (*module._parameters.items(), *module._buffers.items())
        }

    def _bound(self, parameters: Mapping[str, Operand], prefix: str, copies: dict[int, Any] | None) -> Module:
        """Return a shallow copy of this tree with other parameters; with state of its own, where `copies` is a dict."""
        bound = copy.copy(self)
        registers: dict[str, dict[str, Any]] = {
            "_parameters": {name: parameters[prefix + name] for name in self._parameters},
            "_buffers": self._buffers,
            "_children": {
                name: child._bound(parameters, f"{prefix}{name}.", copies) for name, child in self._children.items()
            },
        }
        if copies is not None:
            registers["_buffers"] = {name: array.copy() for name, array in self._buffers.items()}
            for name, value in vars(self).items():
                if isinstance(value, np.random.Generator):
                    object.__setattr__(bound, name, copies.setdefault(id(value), copy.deepcopy(value)))
        for name, register in registers.items():
            object.__setattr__(bound, name, register)
        return bound

    def _check_name(self, name: str) -> None:
        if not isinstance(name, str) or not name or "." in name:
            raise ValueError(f"name must be a word without dots, got {name!r}")
        if (
            any(name in vars(self)[register] for register in REGISTERS)
            or name in vars(self)
            or hasattr(type(self), name)
        ):
            raise ValueError(f"name must be free, but {type(self).__name__} has {name!r} already")

    def __getattr__(self, name: str) -> Any:
        for register in REGISTERS:
            if name in vars(self).get(register, {}):
                return vars(self)[register][name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __setattr__(self, name: str, value: object) -> None:
        if "_children" not in vars(self):
            raise AttributeError(f"{type(self).__name__} must call super().__init__() before it assigns {name!r}")
        if name in self._parameters or name in self._buffers:
            array = getattr(self, name)
            _check_like(name, value, array)
            if value is not array:
                array[...] = value
        elif isinstance(value, Module):
            if name in self._children:
                del self._children[name]
            self.add_module(name, value)
        elif name in self._children:
            raise TypeError(f"{name} must be a Module, got {type(value).__name__}")
        elif isinstance(value, (np.ndarray, Tensor)):
            raise TypeError(
                f"{name} is an array: say whether it is trained, self.register_parameter({name!r}, array), or not, "
                f"self.register_buffer({name!r}, array)"
            )
        else:
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        inside = self.describe()
        if not self._children:
            return f"{type(self).__name__}({inside})"
        lines = [f"  ({name}): " + repr(child).replace("\n", "\n  ") for name, child in self._children.items()]
        return "\n".join([f"{type(self).__name__}({inside}", *lines, ")"])

    def describe(self) -> str:
        """Return what stands between the parentheses of the module's repr."""
        return ""


def _check_names(label: str, own: Mapping[str, Array], given: Mapping[str, object]) -> None:
    missing, unexpected = [name for name in own if name not in given], [name for name in given if name not in own]
    if missing or unexpected:
        raise ValueError(
            f"{label} must have the names of the module"
            + (f"; missing: {', '.join(missing)}" if missing else "")
            + (f"; unexpected: {', '.join(map(str, unexpected))}" if unexpected else "")
        )


def _check_like(name: str, value: object, array: Array) -> None:
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array, got {type(value).__name__}")
    if value.dtype != array.dtype:
        raise TypeError(f"{name} must have dtype {array.dtype}, as the module has, got {value.dtype}; nothing is cast")
    if value.shape != array.shape:
        raise ValueError(f"{name} must have shape {shape_text(array.shape)}, got {shape_text(value.shape)}")
