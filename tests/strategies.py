"""What the property tests draw from: arrays of every dtype, layout, rank and magnitude, and every convolution."""

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

DTYPES = (np.float32, np.float64)
LAYOUTS = ("C", "Fortran", "strided", "reversed", "read-only", "transposed")
SPECTRA = ("random", "low rank", "steep", "flat", "constant", "zero", "dead slice")


def magnitudes(dtype):
    """Powers of two about the extremes at which a square still has to be right."""
    exponent = 59 if np.dtype(dtype) == np.float32 else 498  # 2^59 ~ 6e17, 2^498 ~ 8e149
    return st.sampled_from([0, 0, 0, exponent, -exponent])


def with_layout(array, layout):
    """The same values in another memory layout."""
    if layout == "Fortran":
        return np.asfortranarray(array)
    if layout == "strided":
        padded = np.zeros(tuple(2 * n for n in array.shape), array.dtype)
        view = padded[tuple(slice(None, None, 2) for _ in array.shape)]
        view[...] = array
        return view
    if layout == "reversed":
        flip = tuple(slice(None, None, -1) for _ in array.shape)
        return np.ascontiguousarray(array[flip])[flip]
    if layout == "transposed":
        return np.ascontiguousarray(array.T).T
    result = np.array(array, order="C")
    if layout == "read-only":
        result.flags.writeable = False
    return result


def tensor_with_spectrum(generator, shape, spectrum):
    """A float64 tensor whose unfoldings have the named kind of spectrum."""
    if spectrum == "zero":
        return np.zeros(shape)
    if spectrum == "constant":
        return np.full(shape, 1.0 + generator.random())
    if spectrum in ("low rank", "steep"):
        result = np.zeros(shape)
        for term in range(1 if spectrum == "low rank" else 4):
            outer = np.ones(())
            for length in shape:
                outer = np.multiply.outer(outer, generator.standard_normal(length))
            result += outer * 10.0 ** (-2 * term)
        return result
    if spectrum == "flat":
        return np.where(generator.random(shape) < 0.5, -1.0, 1.0)
    result = generator.standard_normal(shape)
    if spectrum == "dead slice":
        axis = int(generator.integers(len(shape)))
        result[(slice(None),) * axis + (0,)] = 0.0
    return result


@st.composite
def tensors(draw, shape=None, minimum_axes=1, maximum_axes=4, longest=5, dtype=None, scaled=True, spectra=SPECTRA):
    """A finite tensor, not empty, of a drawn shape (or the given one), dtype, layout, spectrum and magnitude."""
    if shape is None:
        shape = draw(
            st.lists(st.integers(1, longest), min_size=minimum_axes, max_size=maximum_axes).map(tuple), label="shape"
        )
    dtype = draw(st.sampled_from(DTYPES), label="dtype") if dtype is None else dtype
    spectrum = draw(st.sampled_from(spectra), label="spectrum")
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1), label="seed"))
    exponent = draw(magnitudes(dtype), label="exponent") if scaled else 0
    values = np.ldexp(tensor_with_spectrum(generator, shape, spectrum), exponent).astype(dtype)
    return with_layout(values, draw(st.sampled_from(LAYOUTS), label="layout"))


explained_variances = st.one_of(st.sampled_from([1.0, 0.5, 0.8, 0.9, 0.99, 1e-9]), st.floats(0.05, 1.0))


@dataclass(frozen=True)
class ConvCase:
    """One convolution: x is (B, C, H, W), weight (O, C / groups, k_h, k_w), bias (O,), grad_output (B, O, H', W')."""

    x: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    grad_output: np.ndarray
    stride: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    dilation: tuple[int, int]
    groups: int

    @property
    def attributes(self):
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": self.groups}


@st.composite
def conv_cases(draw, dtype=None, scaled=False, longest=7, spectra=SPECTRA):
    """Strides and dilations that differ per axis, four different pads, groups, even, 1x1 and 1xk kernels."""
    dtype = draw(st.sampled_from(DTYPES), label="dtype") if dtype is None else dtype
    groups = draw(st.sampled_from([1, 1, 2, 3]), label="groups")
    channels = groups * draw(st.integers(1, 3), label="channels per group")
    out_channels = groups * draw(st.integers(1, 3), label="out channels per group")
    batch = draw(st.integers(1, 4), label="batch")
    kernel, stride, dilation, padding, size = [], [], [], [], []
    for axis in ("height", "width"):
        k = draw(st.integers(1, 4), label=f"kernel {axis}")
        d = draw(st.integers(1, 3), label=f"dilation {axis}")
        pads = (draw(st.integers(0, 3), label=f"pad before {axis}"), draw(st.integers(0, 3), label=f"pad after {axis}"))
        smallest = max(1, d * (k - 1) + 1 - sum(pads))
        kernel.append(k)
        dilation.append(d)
        padding.append(pads)
        stride.append(draw(st.integers(1, 3), label=f"stride {axis}"))
        size.append(draw(st.integers(smallest, max(smallest, longest)), label=axis))
    out = [
        (n + sum(p) - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(size, padding, dilation, kernel, stride, strict=True)
    ]
    shapes = (
        (batch, channels, *size),
        (out_channels, channels // groups, *kernel),
        (out_channels,),
        (batch, out_channels, *out),
    )
    parts = [draw(tensors(shape=shape, dtype=dtype, scaled=scaled, spectra=spectra)) for shape in shapes]
    return ConvCase(*parts, tuple(stride), tuple(padding), tuple(dilation), groups)
