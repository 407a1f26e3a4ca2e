import dataclasses
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refgrad.geometry import ConvGeometry

ZERO = ((0, 0), (0, 0))


@st.composite
def axes(draw):
    """One axis of a convolution: size, kernel, stride, (before, after), dilation, in which the kernel fits."""
    kernel, stride, dilation = (draw(st.integers(1, 5), label=name) for name in ("kernel", "stride", "dilation"))
    pads = draw(st.tuples(st.integers(0, 4), st.integers(0, 4)), label="pads")
    smallest = max(1, dilation * (kernel - 1) + 1 - sum(pads))
    return draw(st.integers(smallest, smallest + 8), label="size"), kernel, stride, pads, dilation


def pixels_read(size, kernel, stride, pads, dilation):
    """Slide the kernel along one padded axis by hand; return how many positions it takes, and the pixels it reads."""
    positions, start, read = 0, 0, []
    while start + dilation * (kernel - 1) < size + sum(pads):
        read += [start + tap * dilation - pads[0] for tap in range(kernel)]
        positions += 1
        start += stride
    return positions, [pixel for pixel in read if 0 <= pixel < size]


def geometry_of(vertical, horizontal):
    (_, *height), (_, *width) = vertical, horizontal
    return ConvGeometry(*(tuple(pair) for pair in zip(height, width, strict=True)))


@given(axes(), axes())
def test_D6_output_size_counts_the_positions_at_which_the_kernel_fits(vertical, horizontal):
    size = (vertical[0], horizontal[0])
    counted = (pixels_read(*vertical)[0], pixels_read(*horizontal)[0])
    assert geometry_of(vertical, horizontal).output_size(size) == counted


@given(axes(), axes())
def test_T12_multiplicity_counts_the_reads_of_every_pixel(vertical, horizontal):
    counted = np.zeros((vertical[0], horizontal[0]), dtype=np.int64)
    for row in pixels_read(*vertical)[1]:
        for column in pixels_read(*horizontal)[1]:
            counted[row, column] += 1
    multiplicity = geometry_of(vertical, horizontal).multiplicity(counted.shape)
    assert multiplicity.dtype == np.int64
    assert np.array_equal(multiplicity, counted)


@given(axes(), axes())
def test_T12_no_pixel_is_read_more_often_than_the_formula_says(vertical, horizontal):
    geometry, size = geometry_of(vertical, horizontal), (vertical[0], horizontal[0])
    bounds = [
        math.ceil(kernel * math.gcd(stride, dilation) / stride)
        for _, kernel, stride, _, dilation in (vertical, horizontal)
    ]
    assert geometry.maximum_multiplicity(size) == geometry.multiplicity(size).max() <= math.prod(bounds)


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("dilation", [1, 2, 3, 6])
@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
def test_T12_the_formula_is_attained_on_an_input_that_is_long_enough(kernel, stride, dilation):
    geometry = ConvGeometry.of((kernel, 1), stride=(stride, 1), dilation=(dilation, 1))
    length = 4 * stride * dilation * kernel
    assert geometry.maximum_multiplicity((length, 1)) == math.ceil(kernel * math.gcd(stride, dilation) / stride)


def test_numbers_stand_for_both_axes_and_pairs_for_height_and_width():
    assert ConvGeometry.of(3) == ConvGeometry((3, 3), (1, 1), ZERO, (1, 1), 1)
    geometry = ConvGeometry.of((3, 2), stride=[2, 1], padding=(1, 0), dilation=(1, 4), groups=np.int64(2))
    assert geometry == ConvGeometry((3, 2), (2, 1), ((1, 1), (0, 0)), (1, 4), 2)
    assert type(geometry.groups) is int
    assert hash(geometry) == hash(ConvGeometry((3, 2), (2, 1), ((1, 1), (0, 0)), (1, 4), 2))
    with pytest.raises(dataclasses.FrozenInstanceError):
        geometry.groups = 3


@pytest.mark.parametrize(
    ("padding", "resolved"),
    [
        (2, ((2, 2), (2, 2))),
        ((1, 2), ((1, 1), (2, 2))),
        (((1, 2), (3, 4)), ((1, 2), (3, 4))),
        ([[1, 2], (3, 4)], ((1, 2), (3, 4))),
        ("valid", ZERO),
        ("same", ((1, 2), (4, 4))),
    ],
)
def test_every_form_of_padding(padding, resolved):
    assert ConvGeometry.of((4, 3), padding=padding, dilation=(1, 4)).padding == resolved


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9))
def test_same_padding_keeps_the_size_and_puts_the_odd_zero_behind(k_h, k_w, dilation, height, width):
    geometry = ConvGeometry.of((k_h, k_w), padding="same", dilation=dilation)
    assert geometry.output_size((height, width)) == (height, width)
    for before, after in geometry.padding:
        assert after - before in (0, 1)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"kernel_size": 0}, ValueError, "kernel_size (height) must be at least 1, got 0"),
        ({"kernel_size": (3, -1)}, ValueError, "kernel_size (width) must be at least 1, got -1"),
        ({"kernel_size": (3, 3, 3)}, TypeError, "kernel_size must be a pair (height, width), got (3, 3, 3)"),
        ({"stride": 1.0}, TypeError, "stride (height) must be an integer of at least 1, got 1.0"),
        ({"stride": (2, 0)}, ValueError, "stride (width) must be at least 1, got 0"),
        ({"stride": True}, TypeError, "stride (height) must be an integer of at least 1, got True"),
        ({"dilation": (0, 1)}, ValueError, "dilation (height) must be at least 1, got 0"),
        ({"groups": 0}, ValueError, "groups must be at least 1, got 0"),
        ({"groups": "2"}, TypeError, "groups must be an integer of at least 1, got '2'"),
        ({"padding": -1}, ValueError, "padding (height) must be at least 0, got -1"),
        ({"padding": ((0, 0), (0, -2))}, ValueError, "padding (right) must be at least 0, got -2"),
        ({"padding": ((-1, 0), (0, 0))}, ValueError, "padding (top) must be at least 0, got -1"),
        ({"padding": (1, (1, 2))}, TypeError, "padding (width) must be an integer of at least 0, got (1, 2)"),
        ({"padding": (1, 2, 3)}, TypeError, "padding must be a pair (height, width), got (1, 2, 3)"),
        (
            {"padding": "full"},
            ValueError,
            'padding must be an integer, a pair, two pairs, "same" or "valid", got \'full\'',
        ),
        ({"padding": "same", "stride": (1, 2)}, ValueError, 'padding="same" needs stride 1, got stride (1, 2)'),
    ],
)
def test_what_no_geometry_can_be_made_of(arguments, error, text):
    with pytest.raises(error, match=re.escape(text)):
        ConvGeometry.of(**{"kernel_size": 3, **arguments})


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"kernel_size": 3}, "kernel_size must be a pair (height, width), got 3"),
        ({"padding": 1}, "padding must be ((top, bottom), (left, right)), got 1"),
        ({"padding": (1, 1)}, "padding must be a pair (top, bottom), got 1"),
    ],
)
def test_the_constructor_takes_resolved_forms_only(arguments, text):
    with pytest.raises(TypeError, match=re.escape(text)):
        ConvGeometry(**{"kernel_size": (3, 3), **arguments})


@pytest.mark.parametrize("method", ["output_size", "multiplicity", "maximum_multiplicity"])
def test_a_kernel_must_fit_into_the_padded_input(method):
    geometry = ConvGeometry.of((3, 2), padding=((1, 0), (0, 0)), dilation=(2, 1))
    assert geometry.output_size((4, 2)) == (1, 1)
    text = (
        "kernel must fit into the padded input: along the height it spans dilation * (kernel_size - 1) + 1 = 5, "
        "but the input of (H=3, W=2) has 3 + 1 + 0 = 4; pad it or shorten the kernel"
    )
    with pytest.raises(ValueError, match=re.escape(text)):
        getattr(geometry, method)((3, 2))
    with pytest.raises(ValueError, match="along the width"):
        getattr(geometry, method)((4, 1))
    with pytest.raises(TypeError, match=re.escape("input_size must be a pair (height, width), got 4")):
        getattr(geometry, method)(4)
    with pytest.raises(ValueError, match=re.escape("input_size (width) must be at least 1, got 0")):
        getattr(geometry, method)((4, 0))


@pytest.mark.parametrize(
    ("input_shape", "weight_shape", "groups", "text"),
    [
        ((2, 4, 5), (4, 4, 3, 3), 1, "input must have 4 axes (B C H W), none of them empty, got (2, 4, 5)"),
        ((0, 4, 5, 5), (4, 4, 3, 3), 1, "none of them empty, got (B=0, C=4, H=5, W=5)"),
        ((2, 4, 5, 5), (4, 4, 3), 1, "weight must have 4 axes (O C/groups k_h k_w), none of them empty, got (4, 4, 3)"),
        ((2, 4, 5, 5), (0, 4, 3, 3), 1, "none of them empty, got (O=0, C/groups=4, k_h=3, k_w=3)"),
        (
            (2, 4, 5, 5),
            (4, 4, 3, 2),
            1,
            "weight must have the kernel of its geometry, (3, 3), got (O=4, C/groups=4, k_h=3",
        ),
        (
            (2, 4, 5, 5),
            (3, 2, 3, 3),
            3,
            "groups must divide the channels of the input, got groups=3 for (B=2, C=4, H=5",
        ),
        (
            (2, 4, 5, 5),
            (3, 2, 3, 3),
            2,
            "groups must divide the out channels of the weight, got groups=2 for (O=3, C/gro",
        ),
        (
            (2, 4, 5, 5),
            (4, 4, 3, 3),
            2,
            "weight must have C / groups = 4 / 2 = 2 channels, got (O=4, C/groups=4, k_h=3",
        ),
    ],
)
def test_shapes_that_do_not_fit_one_another(input_shape, weight_shape, groups, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        ConvGeometry.of(3, groups=groups).output_shape(input_shape, weight_shape)
