"""Layers of PyTorch and JAX as targets of the oracle.

In: an `autograd.Function`, an `nn.Module`, or a JAX function. Out: a callable that takes and returns NumPy arrays, with
the gradients as the layer itself returned them, before the framework reshaped, summed or cast them. Importing this
package imports neither framework; an adapter imports its own when it is made.

Examples
--------
>>> from refgrad.oracle.adapters import from_jax, from_torch_function, from_torch_module
>>> from_torch_module.__module__
'refgrad.oracle.adapters.pytorch'
"""

from refgrad.oracle.adapters.attributes import Attributes
from refgrad.oracle.adapters.jax import from_jax
from refgrad.oracle.adapters.pytorch import from_torch_function, from_torch_module

__all__ = ["Attributes", "from_jax", "from_torch_function", "from_torch_module"]
