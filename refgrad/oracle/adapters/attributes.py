"""What both adapters need: the attributes of a convolution in one object, and a framework where it is installed.

In: the keyword attributes of `Implementation`, or a framework's name. Out: an `Attributes`, or a module.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

__all__ = ["Attributes", "framework"]

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Attributes:
    """The attributes of one case, as the oracle gives them.

    Parameters
    ----------
    stride, dilation : pair of int
        (height, width).
    padding : two pairs of int
        ((top, bottom), (left, right)).
    groups : int
        Into how many independent convolutions the channels are split.
    explained_variance : float
        The share of the energy that every mode keeps.
    """

    stride: Pair
    padding: tuple[Pair, Pair]
    dilation: Pair
    groups: int
    explained_variance: float

    @property
    def symmetric_padding(self) -> Pair:
        """Return (height, width), for a layer that pads both sides of an axis alike.

        Raises
        ------
        NotImplementedError
            Where the two sides differ: the layer then does not claim the case.

        Examples
        --------
        >>> Attributes((1, 1), ((2, 2), (1, 1)), (1, 1), 1, 0.9).symmetric_padding
        (2, 1)
        """
        (top, bottom), (left, right) = self.padding
        if top != bottom or left != right:
            raise NotImplementedError("padding that differs between the two sides of an axis")
        return top, left


def framework(name: str) -> Any:
    """Import a framework that an adapter is for.

    Raises
    ------
    ImportError
        Where it is not installed; the text says what to install.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:  # it is there, and something that it needs is not
            raise
        text = f"this adapter needs {name}, which is not installed: pip install 'refgrad[{name}]'"
        raise ImportError(text, name=name) from error
