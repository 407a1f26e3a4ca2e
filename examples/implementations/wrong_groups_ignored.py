"""One mistake: the weight gradient of every group is computed from the channels of the first group."""

import correct_numpy
import numpy as np
from correct_numpy import layer


def weight_gradient(core, factors, grad_output, *, groups, **geometry):
    """Be right for one group; with more, the first group's channels stand in for everybody's."""
    of_batch, of_channels, of_height, of_width = factors
    first = of_channels[: len(of_channels) // groups]
    factors = (of_batch, np.tile(first, (groups, 1)), of_height, of_width)
    return correct_numpy.weight_gradient(core, factors, grad_output, groups=groups, **geometry)


def implementation(x, weight, bias, grad_output, **attributes):
    """Run one training step: this is what `refgrad check` calls."""
    return layer(x, weight, bias, grad_output, weight_gradient=weight_gradient, **attributes)
