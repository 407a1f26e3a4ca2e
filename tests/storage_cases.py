"""Stored activations to draw, and how far two right evaluations of their weight gradient can lie apart (THEORY T15)."""

import math
import tracemalloc
from dataclasses import dataclass

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from refgrad import specification as spec
from refgrad.convolution import conv2d_weight_gradient, linear_weight_gradient
from refgrad.geometry import ConvGeometry
from refgrad.multilinear import LowRank
from refgrad.rounding import gamma
from refgrad.storage import HOSVD, SVD, SequentialHOSVD
from refgrad.storage.sizes import Sizes
from tests.strategies import SPECTRA, conv_cases, explained_variances, tensors

PYTHON_OBJECTS = 16 * 1024
"""What tracemalloc sees of a contraction that is not array memory: slices, tuples, array headers, loop variables."""


@dataclass(frozen=True)
class Layer:
    """The input of a conv or linear layer, the gradient of its output, and its geometry (None: linear)."""

    x: np.ndarray
    grad_output: np.ndarray
    geometry: ConvGeometry | None

    @property
    def out_channels(self):
        return self.grad_output.shape[-1 if self.geometry is None else 1]


def geometry_of(case):
    """The geometry of a tests.strategies.ConvCase."""
    return ConvGeometry(case.weight.shape[2:], case.stride, case.padding, case.dilation, case.groups)


@st.composite
def conv_layers(draw, dtype=None, scaled=True, longest=6, spectra=SPECTRA):
    case = draw(conv_cases(dtype=dtype, scaled=scaled, longest=longest, spectra=spectra), label="convolution")
    return in_range(Layer(case.x, case.grad_output, geometry_of(case)))


@st.composite
def linear_layers(draw, dtype=None, scaled=True, longest=6, spectra=SPECTRA):
    x = draw(
        tensors(dtype=dtype, scaled=scaled, minimum_axes=2, maximum_axes=4, longest=longest, spectra=spectra), label="x"
    )
    shape = (*x.shape[:-1], draw(st.integers(1, 6), label="out channels"))
    grad_output = draw(tensors(shape=shape, dtype=x.dtype, scaled=scaled, spectra=spectra), label="grad_output")
    return in_range(Layer(x, grad_output, None))


def layers(**options):
    return st.one_of(conv_layers(**options), linear_layers(**options))


def in_range(layer):
    """Pass over layers whose weight gradient is beyond the largest number of their dtype, as |A| |G| m may be."""
    largest = math.frexp(float(np.abs(layer.x).max()))[1] + math.frexp(float(np.abs(layer.grad_output).max()))[1]
    assume(largest + math.frexp(16.0 * layer.x.size * layer.grad_output.size)[1] < np.finfo(layer.x.dtype).maxexp)
    return layer


@st.composite
def compressing_storages(draw, shape):
    """Every compressing storage, by explained variance or at fixed ranks, by either method, for that shape."""
    method = draw(st.sampled_from(["svd", "gram"]), label="method")
    by_ranks = draw(st.booleans(), label="fixed ranks")
    kind = draw(st.sampled_from([HOSVD, SVD, SequentialHOSVD]), label="kind")
    if kind is SVD:
        if by_ranks:
            largest = min(shape[0], math.prod(shape[1:]))
            return SVD(rank=draw(st.integers(1, largest), label="rank"), method=method)
        return SVD(draw(explained_variances, label="explained variance"), method=method)
    options = {"method": method}
    if kind is SequentialHOSVD and draw(st.booleans(), label="ordered"):
        options["order"] = tuple(draw(st.permutations(range(len(shape))), label="order"))
    if by_ranks:
        return kind(ranks=draw(st.tuples(*(st.integers(1, n) for n in shape)), label="ranks"), **options)
    return kind(draw(explained_variances, label="explained variance"), **options)


@st.composite
def factored(draw, layer):
    """Core and factors of any sizes for a layer's input, not from a decomposition; some modes without a factor."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1), label="factor seed"))
    shape, dtype = layer.x.shape, layer.x.dtype
    if draw(st.booleans(), label="low rank"):
        ranks = (draw(st.integers(1, shape[0]), label="K"), *shape[1:])
        with_factor = (True,) + (False,) * (len(shape) - 1)
    else:
        ranks = draw(st.tuples(*(st.integers(1, n) for n in shape)), label="ranks")
        with_factor = (True,) * len(shape)
    core = generator.standard_normal(ranks).astype(dtype)
    factors = [
        generator.standard_normal((n, rank)).astype(dtype) if here else None
        for n, rank, here in zip(shape, ranks, with_factor, strict=True)
    ]
    return core, factors


def core_and_factors(stored):
    """What a Tucker or LowRank holds, as the contraction takes it: a core, and one factor or None a mode."""
    if isinstance(stored, LowRank):
        return stored.right, [stored.left, *(None,) * (len(stored.shape) - 1)]
    return stored.core, list(stored.factors)


def sizes_of(layer, core, factors):
    identity = [factor is None for factor in factors]
    return Sizes.of(layer.x.shape, core.shape, layer.out_channels, layer.geometry, identity=identity)


def rebuilt(core, factors):
    """S x_1 U_1 ... x_d U_d in float64."""
    tensor = core.astype(np.float64)
    for mode, factor in enumerate(factors):
        if factor is not None:
            tensor = np.moveaxis(np.tensordot(factor.astype(np.float64), tensor, (1, mode)), 0, mode)
    return np.ascontiguousarray(tensor)


def specified(layer, core, factors):
    """D(A~, G) by the specification."""
    dense = [np.eye(n) if factor is None else factor for factor, n in zip(factors, core.shape, strict=True)]
    arguments = [np.array(array, dtype=np.float64) for array in (core, *dense, layer.grad_output)]
    attributes = {}
    if layer.geometry is not None:
        names = ("kernel_size", "stride", "padding", "dilation", "groups")
        attributes = {name: getattr(layer.geometry, name) for name in names}
    return spec.compressed_weight_gradient(arguments[0], arguments[1:-1], arguments[-1], **attributes)


def exact_gradient(x, grad_output, geometry):
    """D(x, G) in float64."""
    x, grad_output = (np.array(array, dtype=np.float64) for array in (x, grad_output))
    if geometry is None:
        return linear_weight_gradient(x, grad_output)
    return conv2d_weight_gradient(x, grad_output, geometry)


def majorant(layer, core, factors):
    """<|S| x_1 |U_1| ... x_d |U_d|, |G|>: the weight gradient with every number replaced by its absolute value."""
    absolute = rebuilt(np.abs(core), [None if factor is None else np.abs(factor) for factor in factors])
    return exact_gradient(absolute, np.abs(layer.grad_output), layer.geometry), absolute


def allowed_between_two(layer, core, factors):
    """Bound, entry by entry, how far two evaluations of D(A~, G) in the core's dtype can lie apart (THEORY T15).

    Each goes through at most `rounding_length` roundings. What a product loses under the smallest subnormal number is
    enlarged by the sums that come after it.
    """
    bound, absolute = majorant(layer, core, factors)
    length = sizes_of(layer, core, factors).rounding_length
    smallest = float(np.finfo(core.dtype).smallest_subnormal)
    lost = length * smallest * (1.0 + float(np.abs(layer.grad_output).sum(dtype=np.float64)) + float(absolute.sum()))
    return 2.0 * (gamma(length, core.dtype) * bound + lost)


def held_by_numpy():
    """The bytes of array memory that tracemalloc sees alive."""
    snapshot = tracemalloc.take_snapshot().filter_traces([tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)])
    return sum(trace.size for trace in snapshot.traces)


def peak_beside_result(function, *arguments, enough=None, **options):
    """Return what a call gives, and the most bytes that it had allocated at a time besides that.

    The least of several calls counts: the tracer sees every thread, and a test runner's own ones allocate too, but the
    call's own arrays are allocated every time. Where it is known what is `enough`, more calls are made to see it.
    """
    function(*arguments, **options)
    peaks = []
    while len(peaks) < 3 if enough is None else len(peaks) < 20 and min(peaks, default=math.inf) > enough:
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            result = function(*arguments, **options)
            peaks.append(tracemalloc.get_traced_memory()[1] - before - result.nbytes)
        finally:
            tracemalloc.stop()
    return result, min(peaks)
