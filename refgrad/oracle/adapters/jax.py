"""A JAX function as a target of the oracle.

In: a function of JAX arrays, with a `jax.custom_vjp` inside. Out: a callable of NumPy arrays. Ranks depend on the data,
so that the function is run as it is and not compiled. JAX refuses a cotangent of the wrong shape or dtype itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from refgrad.arguments import Array
from refgrad.oracle.adapters.attributes import Attributes, framework

__all__ = ["from_jax"]


def from_jax(
    function: Callable[..., Any],
    *,
    stored: Callable[..., Mapping[str, Any]] | None = None,
    declaration: Mapping[str, Any] | None = None,
) -> Callable[..., dict[str, Any]]:
    """Make a target of a JAX function.

    Parameters
    ----------
    function : callable
        ``function(x, weight, bias, *, stride, padding, dilation, groups, explained_variance)`` returns the output.
    stored : callable, optional
        ``stored(x, weight, bias, attributes)`` returns what the forward pass keeps, under the names of the protocol:
        "core", "factors", "ranks", "reconstruction", "stored_numbers"; `attributes` is an `Attributes`.
    declaration : mapping, optional
        See `refgrad.oracle.Declaration`.

    Returns
    -------
    callable
        An `Implementation`.

    Raises
    ------
    ImportError
        Where JAX is not installed.
    TypeError
        Where `function` or `stored` cannot be called.
    """
    jax = framework("jax")
    for name, value in (("function", function), ("stored", stored)):
        if not callable(value) and not (name == "stored" and value is None):
            raise TypeError(f"{name} must be callable, got {value!r}")
    return _JaxTarget(jax, function, stored, declaration)


@dataclass(frozen=True)
class _JaxTarget:
    """The callable that the oracle judges."""

    jax: Any
    function: Callable[..., Any]
    stored: Callable[..., Mapping[str, Any]] | None
    declaration: Mapping[str, Any] | None

    def __call__(
        self,
        x: Array,
        weight: Array,
        bias: Array,
        grad_output: Array,
        *,
        stride: tuple[int, int],
        padding: tuple[tuple[int, int], tuple[int, int]],
        dilation: tuple[int, int],
        groups: int,
        explained_variance: float,
    ) -> dict[str, Any]:
        """Run one training step."""
        attributes = Attributes(stride, padding, dilation, groups, explained_variance)
        # JAX makes float32 of float64 unless told otherwise; for this call only, not for the process.
        with self._double_precision(x.dtype == np.float64):
            inputs = [self.jax.numpy.array(np.array(array, order="C")) for array in (x, weight, bias)]
            keywords = asdict(attributes)
            output, pull_back = self.jax.vjp(lambda *arrays: self.function(*arrays, **keywords), *inputs)
            if not isinstance(output, self.jax.Array):
                raise TypeError(f"the function must return one array, got {type(output).__name__}")
            results: dict[str, Any] = {"output": _numpy(output)}
            if self.stored is not None:
                results |= {key: self._converted(kept) for key, kept in self.stored(*inputs, attributes).items()}
            if output.shape == grad_output.shape:  # where it is not, the shape of the output is the finding
                gradients = pull_back(self.jax.numpy.asarray(np.array(grad_output, order="C"), dtype=output.dtype))
                names = ("grad_input", "grad_weight", "grad_bias")
                results |= {name: _numpy(gradient) for name, gradient in zip(names, gradients, strict=True)}
        return results

    def _double_precision(self, enabled: bool) -> Any:
        # Newer releases of JAX have it at the top; older ones under experimental only.
        where = self.jax if hasattr(self.jax, "enable_x64") else framework("jax.experimental")
        return where.enable_x64(enabled)

    def _converted(self, value: Any) -> Any:
        if isinstance(value, self.jax.Array):
            return _numpy(value)
        if isinstance(value, (tuple, list)):
            return [self._converted(each) for each in value]
        return value


def _numpy(array: Any) -> Array:
    """Copy into an array of the same dtype."""
    return np.array(array)
