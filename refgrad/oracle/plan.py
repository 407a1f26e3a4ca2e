"""Which cases a run judges: by operation, level, dtype and seed.

In: the operations of a target and what the user asked for. Out: the cases, in order, each made only when its
turn comes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from refgrad.arguments import non_negative_integer, one_of
from refgrad.geometry import ConvGeometry
from refgrad.oracle.cases import AnyCase, Case, generated_case
from refgrad.oracle.catalogue import catalogue
from refgrad.oracle.derived import CAST, SEEDED, in_dtype, seeded
from refgrad.oracle.ladder.catalogue import generated_ladder_case, ladder_catalogue

__all__ = ["LEVELS", "Level", "Planned", "exhaustive_geometries", "find_case_of", "named_cases", "plan"]


@dataclass(frozen=True, slots=True)
class Level:
    """How much is run.

    Parameters
    ----------
    named : int, optional
        How many of an operation's named cases, spread over them; all where absent.
    generated : int
        How many generated ones follow.
    exhaustive : bool
        Whether every small geometry of a convolution is run as well.
    """

    named: int | None
    generated: int
    exhaustive: bool = False


LEVELS: Final[Mapping[str, Level]] = {
    "smoke": Level(named=20, generated=0),
    "ci": Level(named=None, generated=200),
    "nightly": Level(named=None, generated=2000),
    "exhaustive": Level(named=None, generated=2000, exhaustive=True),
}
"""The levels, from seconds to an hour."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A case that is to be judged: how it is made, and whether it is one of the named ones."""

    case: Callable[[], AnyCase]
    named: bool


def named_cases(operation: str) -> tuple[AnyCase, ...]:
    """Return the named cases of an operation, the simplest first.

    Examples
    --------
    >>> sum(len(named_cases(operation)) for operation in ("rank", "hosvd", "conv2d")) > 120
    True
    """
    return catalogue() if operation == "conv2d" else ladder_catalogue(operation)


def _generated(operation: str, seed: int, number: int) -> AnyCase:
    return generated_case(seed, number) if operation == "conv2d" else generated_ladder_case(operation, seed, number)


def find_case_of(operation: str, name: str) -> AnyCase:
    """Return a case by its name: a named one, or "generated SEED/NUMBER".

    Raises
    ------
    ValueError
        Where there is none of that name.

    Examples
    --------
    >>> find_case_of("rank", "zero energy").describe()
    'float64, singular_values (3,), explained_variance 4/5'
    """
    kind, _, numbers = name.rpartition(" ")
    seed, _, number = numbers.partition("/")
    if kind == "generated" and seed.isdecimal() and number.isdecimal():
        return _generated(operation, int(seed), int(number))
    made = _made_from_another(operation, name)
    if made is not None:
        return made
    for case in itertools.chain(named_cases(operation), exhaustive_geometries() if operation == "conv2d" else ()):
        if case.name == name:
            return case
    raise ValueError(f'{operation} has no case named {name!r}; generated ones are "generated SEED/NUMBER"')


def _made_from_another(operation: str, name: str) -> AnyCase | None:
    if name.endswith(SEEDED):
        return seeded(find_case_of(operation, name.removesuffix(SEEDED)))
    original, cast, dtype = name.rpartition(CAST)
    if cast and dtype in ("float64", "float32"):
        return in_dtype(find_case_of(operation, original), dtype)
    return None


def plan(
    operations: Collection[str], *, seed: int, cases: int, level: str | None, dtypes: Collection[str]
) -> list[Planned]:
    """Return the cases of a run, operation by operation, the named ones first.

    Generated case i follows from the seed and i alone; one whose dtype is not asked for leaves its place to the next.

    Parameters
    ----------
    operations : collection of str
        Which.
    seed, cases : int
        What generated cases follow from, and how many an operation has where no level is given.
    level : str, optional
        One of `LEVELS`.
    dtypes : collection of str
        "float64", "float32".
    """
    chosen = Level(None, non_negative_integer("cases", cases)) if level is None else _level(level)
    seed = non_negative_integer("seed", seed)
    result = []
    for operation in operations:
        named = [taken for case in named_cases(operation) if (taken := _in_one_of(case, dtypes)) is not None]
        if chosen.named is not None and len(named) > chosen.named:
            named = [named[number * len(named) // chosen.named] for number in range(chosen.named)]
        result += [Planned(partial(_itself, case), named=True) for case in named]
        if operation == "conv2d" and chosen.exhaustive and "float64" in dtypes:
            result += [Planned(partial(_itself, case), named=False) for case in exhaustive_geometries()]
        numbers = _numbers_of(operation, seed, dtypes)
        for number in itertools.islice(numbers, chosen.generated):
            result.append(Planned(partial(_generated, operation, seed, number), named=False))
    return result


def _level(level: str) -> Level:
    return LEVELS[one_of("level", level, tuple(LEVELS))]


def _in_one_of(case: AnyCase, dtypes: Collection[str]) -> AnyCase | None:
    """Return the case where its dtype is asked for, else the same in one that is, where its numbers survive that."""
    return case if str(case.dtype) in dtypes else in_dtype(case, next(iter(dtypes)))


def _itself(case: AnyCase) -> AnyCase:
    return case


def _numbers_of(operation: str, seed: int, dtypes: Collection[str]) -> Iterator[int]:
    if len(set(dtypes)) == 2:
        return itertools.count()
    return (number for number in itertools.count() if str(_generated(operation, seed, number).dtype) in dtypes)


def exhaustive_geometries() -> Iterator[Case]:
    """Yield every convolution with kernels, strides and dilations of 1 to 3 an axis, ungrouped and in two groups.

    Examples
    --------
    >>> next(exhaustive_geometries()).name
    'exhaustive: kernel (1, 1), stride (1, 1), dilation (1, 1), groups 1'
    """
    steps = tuple((i, j) for i in (1, 2, 3) for j in (1, 2, 3))
    for kernel, stride, dilation, groups in itertools.product(steps, steps, steps, (1, 2)):
        geometry = ConvGeometry(kernel, stride, ((1, 0), (0, 2)), dilation, groups)
        generator = np.random.default_rng((*kernel, *stride, *dilation, groups))
        x_shape, weight_shape = (2, 2 * groups, 8, 9), (2 * groups, 2, *kernel)
        x, weight, bias, gradient = (
            generator.standard_normal(shape)
            for shape in (x_shape, weight_shape, weight_shape[:1], geometry.output_shape(x_shape, weight_shape))
        )
        yield Case(
            f"exhaustive: kernel {kernel}, stride {stride}, dilation {dilation}, groups {groups}",
            x,
            weight,
            bias,
            gradient,
            stride,
            ((1, 0), (0, 2)),
            dilation,
            groups,
            effect="wrong in one corner of the geometry",
        )
