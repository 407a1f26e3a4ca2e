"""What a storage method is, what it returns, and how an array is kept so that nobody can change it.

In: the dense input of a layer. Out: a small immutable `Stored`, and the weight gradient that follows from it. Here too:
which bytes a kept object really holds.
"""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from refgrad.arguments import Array, float_array, shape_text

if TYPE_CHECKING:
    from refgrad.geometry import ConvGeometry

__all__ = [
    "Storage",
    "Stored",
    "adopt",
    "checked_activation",
    "checked_grad_output",
    "frozen",
    "held_arrays",
    "held_bytes",
    "one_request",
    "owner",
]

AXES_BY_COUNT = {2: "B I", 3: "B N I", 4: "B H W I"}
"""The axis names of a linear layer's input, by how many it has."""


@runtime_checkable
class Stored(Protocol):
    """An activation as it is kept until backward; immutable, and sharing memory with nothing that can be written to."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the activation that was stored."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the activation that was stored."""
        ...

    @property
    def nbytes(self) -> int:
        """The bytes that are really held."""
        ...

    @property
    def stored_numbers(self) -> int:
        """The paper's count: how many numbers are kept (THEORY D2, D3)."""
        ...

    @property
    def multilinear_rank(self) -> tuple[int, ...] | None:
        """The rank kept of each unfolding; None where nothing was decomposed."""
        ...

    def reconstruct(self) -> Array:
        """Return A~, the dense tensor that is stored."""
        ...


class Storage(ABC):
    """A way to keep the input of a conv or linear layer until backward, and to get the weight gradient from it.

    A new method is one file with one frozen dataclass that derives from this class.
    """

    __slots__ = ()

    name: ClassVar[str]

    @abstractmethod
    def store(self, activation: Array) -> Stored:
        """Keep a layer's input.

        Parameters
        ----------
        activation : array (B, C, H, W) or (B, ..., I)
            A, the input of a convolution, or that of a linear layer with 2, 3 or 4 axes.

        Returns
        -------
        Stored
            Immutable; holds no reference to `activation`, unless that is itself immutable and kept as it is.

        Raises
        ------
        TypeError, ValueError
            Where `activation` is not a finite float array of 2, 3 or 4 axes.
        """

    @abstractmethod
    def restore(self, stored: Stored) -> Array:
        """Return A~, what this storage makes of the activation, as a dense array."""

    @abstractmethod
    def weight_gradient(self, stored: Stored, grad_output: Array, geometry: ConvGeometry | None = None) -> Array:
        """Return dW = D(A~, G), the weight gradient at what was stored (THEORY D6, D7).

        Parameters
        ----------
        stored : Stored
            What `store` returned.
        grad_output : array (B, O, H', W') or (B, ..., O)
            G, the gradient with respect to the layer's output.
        geometry : ConvGeometry, optional
            How the convolution reads its input; None for a linear layer.

        Returns
        -------
        array (O, C / groups, k_h, k_w) or (O, I)
            The gradient with respect to the layer's weight.
        """

    def a_priori_error(self, axes: int) -> float | None:
        """Return what is known of |A - A~| / |A| before A is: an upper bound, or None where there is none.

        Parameters
        ----------
        axes : int
            d, how many axes the activation has.
        """
        return None

    def begin_pass(self) -> Storage:
        """Return what keeps the inputs of one forward pass; a tape asks for it once, before the first.

        That is the storage itself, unless it has to tell one layer of a pass from another.
        """
        return self

    def end_pass(self) -> None:  # noqa: B027 - most storages have nothing to note
        """Take note that backward is done; the tape tells what `begin_pass` returned."""

    def frozen_plan(self) -> Storage:
        """Return a storage that keeps what this one would keep in its next pass, and learns nothing from its passes.

        Measuring with it changes nothing in later passes of this one. It is the storage itself where that learns
        nothing either.
        """
        return self


def checked_activation(activation: object) -> Array:
    """Return `activation`, known to be something that a storage can keep: finite floats, 2 to 4 axes, none empty.

    Raises
    ------
    TypeError, ValueError
        Where it is not.
    """
    array = float_array("activation", activation, minimum_axes=2, finite=True)
    if array.ndim > 4:
        raise ValueError(
            "activation must have 2, 3 or 4 axes (B I, B N I, B H W I or B C H W), "
            f"got {array.ndim}: shape {shape_text(array.shape)}"
        )
    return array


def checked_grad_output(stored: Stored, grad_output: object, geometry: ConvGeometry | None) -> Array:
    """Return `grad_output`, known to fit the stored activation and the layer's geometry.

    Raises
    ------
    TypeError
        Where it is no float array, or of another dtype than the activation was.
    ValueError
        Where its shape is not the one that the layer gives its output.
    """
    axes = "B O H' W'" if geometry is not None else AXES_BY_COUNT[len(stored.shape)].replace("I", "O")
    array = float_array("grad_output", grad_output)
    if array.dtype != stored.dtype:
        raise TypeError(f"grad_output must have the dtype of the stored activation, {stored.dtype}, got {array.dtype}")
    if geometry is None:
        if array.ndim != len(stored.shape) or array.shape[:-1] != stored.shape[:-1]:
            raise ValueError(
                f"grad_output must have the leading axes of the stored activation "
                f"{shape_text(stored.shape, AXES_BY_COUNT[len(stored.shape)])}, got {shape_text(array.shape, axes)}"
            )
        return array
    if len(stored.shape) != 4:
        raise ValueError(
            "a geometry belongs to a convolution, whose input has 4 axes (B C H W), but the stored activation has "
            f"shape {shape_text(stored.shape)}; leave geometry out for a linear layer"
        )
    batch, channels, height, width = stored.shape
    if channels % geometry.groups:
        raise ValueError(
            f"groups must divide the channels of the stored activation {shape_text(stored.shape, 'B C H W')}, "
            f"got groups={geometry.groups}"
        )
    size = geometry.output_size((height, width))
    if array.ndim != 4 or array.shape[0] != batch or array.shape[2:] != size:
        raise ValueError(
            f"grad_output must have shape (B={batch}, O, H'={size[0]}, W'={size[1]}), as this geometry makes of the "
            f"stored activation {shape_text(stored.shape, 'B C H W')}, got {shape_text(array.shape, axes)}"
        )
    if array.shape[1] % geometry.groups:
        raise ValueError(
            f"groups must divide the channels of grad_output {shape_text(array.shape, axes)}, "
            f"got groups={geometry.groups}"
        )
    return array


def one_request(**requests: object) -> None:
    """Check that just one of the ways to say how much is kept is given, and the others are None.

    Raises
    ------
    ValueError
        Where more are, or none.
    """
    *others, last = requests
    given = " and ".join(f"{name}={value!r}" for name, value in requests.items() if value is not None)
    if sum(value is not None for value in requests.values()) != 1:
        nothing = "neither" if len(requests) == 2 else "none of them"
        raise ValueError(f"exactly one of {', '.join(others)} and {last} must be given, got {given or nothing}")


_immutable: weakref.WeakValueDictionary[int, Array] = weakref.WeakValueDictionary()
"""By id, the arrays that own their memory and that `adopt` has made immutable."""


def owner(array: Array) -> Array:
    """Return the last array in the chain of bases: the one whose memory `array` looks at.

    Examples
    --------
    >>> x = np.zeros((4, 4))
    >>> owner(x[1:].T) is x
    True
    """
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def adopt(array: Array) -> Array:
    """Make an array immutable that the caller has just computed and that nobody else holds; nothing is copied.

    Parameters
    ----------
    array : array
        Fresh: no other array that can be written to may look at its memory.

    Returns
    -------
    array
        A read-only view that `frozen` recognises. NumPy refuses to make it writeable again.

    Examples
    --------
    >>> y = adopt(np.arange(3.0))
    >>> frozen(y) is y
    True
    >>> y.flags.writeable = True
    Traceback (most recent call last):
        ...
    ValueError: cannot set WRITEABLE flag to True of this array
    """
    source = owner(array)
    if source.base is not None or not source.flags.owndata:
        return frozen(array)
    source.flags.writeable = False
    array.flags.writeable = False
    _immutable[id(source)] = source
    return array.view() if array is source else array


def frozen(array: Array) -> Array:
    """Return `array` itself if it can never change, or else a compact read-only copy of it.

    A read-only flag alone proves nothing: a writeable view may be about, or the flag be set back. So what can never
    change is only what `adopt` or this function has made, and views of it. A view of part of a larger buffer is copied
    too, for it would keep all of that buffer alive.

    Parameters
    ----------
    array : array
        Any array.

    Returns
    -------
    array
        The same values; read-only.

    Examples
    --------
    >>> x = np.zeros(3)
    >>> kept = frozen(x)
    >>> x[0] = 1.0
    >>> kept[0], frozen(kept) is kept
    (np.float64(0.0), True)
    """
    source = owner(array)
    known = _immutable.get(id(source)) is source and not source.flags.writeable and not array.flags.writeable
    if known and source.nbytes <= array.nbytes:
        return array
    return adopt(np.array(array, order="C", subok=False))


def held_arrays(*kept: object) -> Iterator[Array]:
    """Yield every array in `kept`: in arrays, dataclasses, tuples, lists and mappings, however deeply nested.

    Examples
    --------
    >>> len(list(held_arrays({"a": np.zeros(2)}, (np.ones(3), None, "text"))))
    2
    """
    waiting = list(kept)
    while waiting:
        item = waiting.pop()
        if isinstance(item, np.ndarray):
            yield item
        elif is_dataclass(item) and not isinstance(item, type):
            waiting.extend(getattr(item, field.name) for field in fields(item))
        elif isinstance(item, Mapping):
            waiting.extend(item.values())
        elif isinstance(item, (tuple, list)):
            waiting.extend(item)


def held_bytes(*kept: object) -> int:
    """Return how many bytes of array memory `kept` keeps alive; memory that is shared counts once.

    Parameters
    ----------
    *kept : object
        Arrays, dataclasses such as `Stored`, or tuples, lists and mappings of them.

    Examples
    --------
    >>> x = np.zeros((10, 10))
    >>> held_bytes(x, x[:1], [x.T])
    800
    """
    return sum({id(source): source.nbytes for source in map(owner, held_arrays(*kept))}.values())
