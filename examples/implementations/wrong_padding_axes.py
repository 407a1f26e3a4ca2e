"""One mistake: the width begins at the padding of the height, which shows wherever top and left differ."""

from correct_numpy import layer


def implementation(x, weight, bias, grad_output, *, padding, **attributes):
    """Run one training step: this is what `refgrad check` calls."""
    top = padding[0][0]
    return layer(x, weight, bias, grad_output, padding=padding, before=(top, top), **attributes)
