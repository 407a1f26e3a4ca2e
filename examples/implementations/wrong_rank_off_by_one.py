"""One mistake: every mode keeps one column too few, and at least one."""

from correct_numpy import layer, smallest_rank


def one_too_few(singular_values, explained_variance):
    """Stop counting before the column that makes the energy enough."""
    return max(1, smallest_rank(singular_values, explained_variance) - 1)


def implementation(x, weight, bias, grad_output, **attributes):
    """Run one training step: this is what `refgrad check` calls."""
    return layer(x, weight, bias, grad_output, choose_rank=one_too_few, **attributes)
