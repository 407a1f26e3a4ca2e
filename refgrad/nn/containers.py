"""Modules made of modules.

In: modules. Out: one module that runs them in order.
"""

from __future__ import annotations

from collections.abc import Iterator

from refgrad.nn.module import Module
from refgrad.tape import Operand

__all__ = ["Sequential"]


class Sequential(Module):
    """Modules one after another, named ``"0"``, ``"1"``, ...

    Parameters
    ----------
    *modules : Module
        What is called first comes first.

    Raises
    ------
    TypeError
        Where one of them is no Module.

    Examples
    --------
    >>> import numpy as np
    >>> from refgrad.nn import Flatten, ReLU
    >>> Sequential(ReLU(), Flatten())(np.full((2, 1, 2), -1.0))
    array([[0., 0.],
           [0., 0.]])
    """

    def __init__(self, *modules: Module) -> None:
        super().__init__()
        for position, module in enumerate(modules):
            self.add_module(str(position), module)

    def forward(self, x: Operand) -> Operand:
        """Hand the output of each module to the next."""
        for module in self.children().values():
            x = module(x)
        return x

    def __len__(self) -> int:
        return len(self.children())

    def __iter__(self) -> Iterator[Module]:
        return iter(self.children().values())

    def __getitem__(self, position: int) -> Module:
        modules: list[Module] = list(self.children().values())
        return modules[position]
