"""How many multiply-adds a call really makes: its array arguments count the matrix products that they are in."""

import numpy as np


class Counted(np.ndarray):
    """An array that notes the multiply-adds of every matrix product that it, or what is made of it, is a factor of."""

    noted = ()

    def __array_ufunc__(self, ufunc, method, *inputs, out=(), **options):
        plain = [array.view(np.ndarray) if isinstance(array, Counted) else array for array in inputs]
        if out:
            options["out"] = tuple(array.view(np.ndarray) for array in out)
        result = getattr(ufunc, method)(*plain, **options)
        if ufunc is np.matmul:
            Counted.noted.append(result.size * plain[0].shape[-1])
        return result.view(Counted) if isinstance(result, np.ndarray) else result


def multiply_adds(function, *arguments, **options):
    """Return how many multiply-adds the matrix products of a call have, those of its array arguments."""
    Counted.noted = []
    function(*map(_counting, arguments), **options)
    return sum(Counted.noted)


def _counting(argument):
    if isinstance(argument, np.ndarray):
        return argument.view(Counted)
    return list(map(_counting, argument)) if isinstance(argument, list) else argument
