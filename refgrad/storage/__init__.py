"""How a layer's input is kept until backward: one file a method.

In: a dense activation, in the forward pass. Out: something small and immutable (`Dense`, `LowRank`, `Tucker`), and from
it, in the backward pass, the weight gradient, contracted without the dense activation (THEORY T14).
"""

from __future__ import annotations

from refgrad.storage.base import Storage, Stored, adopt, frozen, held_arrays, held_bytes
from refgrad.storage.exact import Dense, Exact
from refgrad.storage.hosvd import HOSVD
from refgrad.storage.plan import LayerFacts, LayerPlan, PassFacts, Plan
from refgrad.storage.sequential_hosvd import SequentialHOSVD
from refgrad.storage.svd import SVD

__all__ = [
    "HOSVD",
    "SVD",
    "Dense",
    "Exact",
    "LayerFacts",
    "LayerPlan",
    "PassFacts",
    "Plan",
    "SequentialHOSVD",
    "Storage",
    "Stored",
    "adopt",
    "frozen",
    "held_arrays",
    "held_bytes",
]
