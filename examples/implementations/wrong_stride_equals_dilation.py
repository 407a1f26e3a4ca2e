"""One mistake: where the stride equals the dilation, the weight gradient takes the stride for 1."""

import correct_numpy
from correct_numpy import layer


def weight_gradient(core, factors, grad_output, *, stride, dilation, **geometry):
    """Be right unless the stride equals the dilation and is not 1."""
    stride = (1, 1) if tuple(stride) == tuple(dilation) else stride
    return correct_numpy.weight_gradient(core, factors, grad_output, stride=stride, dilation=dilation, **geometry)


def implementation(x, weight, bias, grad_output, **attributes):
    """Run one training step: this is what `refgrad check` calls."""
    return layer(x, weight, bias, grad_output, weight_gradient=weight_gradient, **attributes)
