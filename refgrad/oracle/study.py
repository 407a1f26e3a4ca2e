"""The power study: how often the judge is wrong about what is right, and right about what is wrong.

In: the library of legitimate variants and the library of mistakes, and the cases to try them on, small ones and layers
of real size. Out: a `Study`: false alarms over variants, mistakes caught and named, the worst ratio of measured to
allowed over everything that is right, and every survivor with its reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final

import numpy as np

from refgrad.geometry import ConvGeometry
from refgrad.oracle.cases import AnyCase, Case
from refgrad.oracle.diagnosis import diagnose
from refgrad.oracle.judge import judge
from refgrad.oracle.judgement import Judgement
from refgrad.oracle.mistakes import Mistake, library_of
from refgrad.oracle.mistakes.base import returned
from refgrad.oracle.operations import OPERATIONS
from refgrad.oracle.own import target as own
from refgrad.oracle.plan import plan
from refgrad.oracle.protocol import FURTHER_ROWS, Declaration
from refgrad.oracle.reference import TensorReference
from refgrad.oracle.rows import reference_of
from refgrad.oracle.variants import VARIANTS
from refgrad.oracle.verdicts import Outcome

__all__ = ["REAL_LAYERS", "SURVIVORS", "Caught", "Study", "Trial", "real_layer", "trials"]

BOTH = ("float64", "float32")

REAL_LAYERS: Final[Mapping[str, tuple[tuple[int, int, int, int], int, int, int, int]]] = {
    "64 x 64 x 56 x 56, 3 x 3": ((64, 64, 56, 56), 64, 3, 1, 1),
    "128 x 96 x 8 x 8, 1 x 1": ((128, 96, 8, 8), 160, 1, 1, 1),
    "32 x 32 x 14 x 14, 3 x 3 depthwise": ((32, 32, 14, 14), 32, 3, 1, 32),
    "32 x 3 x 64 x 64, 3 x 3, stride 2": ((32, 3, 64, 64), 32, 3, 2, 1),
}
"""Layers of real size: shape of the input, output channels, kernel, stride and groups."""

MISTAKEN_LAYER: Final = ("32 x 3 x 64 x 64, 3 x 3, stride 2", "float32")
"""The one of them on which every mistake is made as well: long sums, whose bounds are wide, in the coarser dtype."""

SURVIVORS: Final[Mapping[tuple[str, str], str]] = {}
"""(operation, mistake) -> why no input of the study shows it: the reason is written before the survivor is excused."""


def real_layer(name: str, dtype: str) -> Case:
    """Return one of `REAL_LAYERS` as a case, with an activation whose spectra decay as those of a trained network.

    Parameters
    ----------
    name : str
        Which.
    dtype : str
        "float64" or "float32".
    """
    shape, out_channels, kernel, stride, groups = REAL_LAYERS[name]
    generator = np.random.default_rng(list(shape))
    x = generator.standard_normal(shape)
    for mode, length in enumerate(shape):  # every mode's directions fade like 1 / (1 + i)
        basis = np.linalg.qr(generator.standard_normal((length, length)))[0]
        faded = (basis / (1.0 + np.arange(length))) @ basis.T
        x = np.moveaxis(np.tensordot(faded, x, axes=(1, mode)), 0, mode)
    pads = ((kernel // 2, kernel // 2), (kernel // 2, kernel // 2))
    weight_shape = (out_channels, shape[1] // groups, kernel, kernel)
    geometry = ConvGeometry((kernel, kernel), (stride, stride), pads, (1, 1), groups)
    return Case(
        name,
        x.astype(dtype),
        generator.standard_normal(weight_shape).astype(dtype),
        generator.standard_normal(out_channels).astype(dtype),
        generator.standard_normal(geometry.output_shape(shape, weight_shape)).astype(dtype),
        stride=(stride, stride),
        padding=pads,
        groups=groups,
        explained_variance=Fraction(4, 5),
        effect="a layer of real size",
    )


@dataclass(frozen=True, slots=True)
class Caught:
    """What became of one mistake.

    Attributes
    ----------
    operation : str
        In which operation it was made.
    mistake : str
        Which.
    failed : int
        In how many cases the row failed in which it shows.
    cases : int
        Of how many.
    named : str, optional
        The mistake that the diagnosis named.
    """

    operation: str
    mistake: str
    failed: int
    cases: int
    named: str | None

    @property
    def survived(self) -> bool:
        """Whether no case showed it."""
        return self.failed == 0

    @property
    def rightly_named(self) -> bool:
        """Whether the diagnosis named just this one."""
        return self.named == self.mistake


@dataclass(slots=True)
class Study:
    """What a study found.

    Attributes
    ----------
    calls : int
        How often a right implementation was judged.
    alarms : list of str
        Every failure among them: none may be.
    worst : dict
        (operation, row, dtype) -> the largest measured over allowed of what is right: how loose the bounds are.
    inconclusive : int
        How many verdicts of right implementations decided nothing.
    suspects : list of str
        Every verdict among them that would be looked at again.
    used : dict
        Tolerance with a constant in it -> the largest share of it that something right used.
    caught : list of Caught
        One for each mistake.
    shown : dict
        (operation, input) -> the mistakes that fail on it.
    """

    calls: int = 0
    alarms: list[str] = field(default_factory=list)
    worst: dict[tuple[str, str, str], float] = field(default_factory=dict)
    inconclusive: int = 0
    suspects: list[str] = field(default_factory=list)
    used: dict[str, float] = field(default_factory=dict)
    caught: list[Caught] = field(default_factory=list)
    shown: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    @property
    def survivors(self) -> list[Caught]:
        """The mistakes that no case showed."""
        return [each for each in self.caught if each.survived]

    @property
    def unexplained(self) -> list[Caught]:
        """The survivors for which no reason is written; of one input, as a layer of real size is, nobody asks it."""
        asked = [each for each in self.survivors if each.operation in OPERATIONS]
        return [each for each in asked if (each.operation, each.mistake) not in SURVIVORS]

    @property
    def exit_code(self) -> int:
        """0 where nothing right was called wrong, and nothing wrong was missed but for a written reason."""
        return 1 if self.alarms or self.unexplained else 0

    def add_right(self, name: str, judgement: Judgement) -> None:
        """Count a judgement of something that is right."""
        self.calls += 1
        for row, verdict in judgement.verdicts.items():
            if verdict.failed:
                self.alarms.append(f"{name}, {judgement.case.operation}, {judgement.case.name}, {verdict.message}")
            if verdict.outcome is Outcome.SUSPECT:
                self.suspects.append(f"{name}, {judgement.case.operation}, {judgement.case.name}, {verdict.message}")
            self.inconclusive += verdict.outcome is Outcome.INCONCLUSIVE
            for name, share in verdict.used.items():
                self.used[name] = max(share, self.used.get(name, 0.0))
            if verdict.ratio is not None and math.isfinite(verdict.ratio):
                key = (judgement.case.operation, row, str(judgement.case.dtype))
                self.worst[key] = max(self.worst.get(key, 0.0), verdict.ratio)


@dataclass(frozen=True, slots=True)
class Trial:
    """One step of a study, done when it is called.

    Parameters
    ----------
    what : str
        For a progress bar.
    run : callable
        Adds to the study.
    """

    what: str
    run: Callable[[Study], None]


def trials(
    *,
    generated: int,
    seed: int,
    real: bool,
    operations: Sequence[str] = (),
    variants: Mapping[str, Callable[..., object]] = VARIANTS,
) -> Iterator[Trial]:
    """Yield the steps of a study.

    Parameters
    ----------
    generated : int
        How many generated cases follow an operation's named ones.
    seed : int
        What they follow from.
    real : bool
        Whether layers of real size are judged as well.
    operations : sequence of str
        Which; all where empty.
    variants : mapping
        Name -> implementation of conv2d, beside refgrad's own: all of them right.
    """
    for operation in operations or OPERATIONS:
        planned = plan([operation], seed=seed, cases=generated, level=None, dtypes=BOTH)
        cases = [each.case() for each in planned]
        further = [FURTHER_ROWS[operation] if each.named else () for each in planned]
        right: dict[str, Any] = {"refgrad": getattr(own, operation)}
        right |= variants if operation == "conv2d" else {}
        for name, target in right.items():
            yield Trial(f"{operation}: {name}", _right_trial(name, target, cases, further))
        references = [reference_of(case, Declaration()) for case in cases]
        for mistake in library_of(operation):
            yield Trial(f"{operation}: {mistake.name}", _wrong_trial(operation, mistake, references))
    if real and (not operations or "conv2d" in operations):
        for layer in REAL_LAYERS:
            for dtype in BOTH:
                yield from _real_trials(layer, dtype)


def _right_trial(
    name: str, target: Callable[..., object], cases: Sequence[AnyCase], further: Sequence[Sequence[str]]
) -> Callable[[Study], None]:
    def run(study: Study) -> None:
        for case, rows in zip(cases, further, strict=True):
            study.add_right(name, judge(target, case, further=rows))

    return run


def _real_trials(layer: str, dtype: str) -> Iterator[Trial]:
    case = real_layer(layer, dtype)

    def right(study: Study) -> None:
        study.add_right("refgrad", judge(own.conv2d, case))

    yield Trial(f"{layer}, {dtype}", right)
    if (layer, dtype) == MISTAKEN_LAYER:
        reference = reference_of(case, Declaration())
        for mistake in library_of("conv2d"):
            run = _wrong_trial(f"{layer}, {dtype}", mistake, [reference], diagnosed=False)
            yield Trial(f"{layer}, {dtype}: {mistake.name}", run)


def _wrong_trial(
    operation: str, mistake: Mistake, references: Sequence[TensorReference], *, diagnosed: bool = True
) -> Callable[[Study], None]:
    """Judge a mistake in the row in which it shows; what is right for a case is shared by all mistakes.

    The diagnosis runs the whole library on each input, which takes too long on a layer of real size.
    """

    def run(study: Study) -> None:
        judgements = []
        for reference in references:
            case = reference.case
            try:
                with np.errstate(all="ignore"):
                    results = returned(mistake.results(reference), case.dtype)
            except MemoryError:
                return  # some mistakes cannot be made on a layer of real size, a square of its long side among them
            made = judge(lambda *_, results=results, **__: results, case, rows=(mistake.row,), reference=reference)
            judgements.append(made)
        wrong = [each for each in judgements if each.verdicts[mistake.row].failed]
        for each in wrong:
            study.shown.setdefault((operation, each.case.name), []).append(mistake.name)
        right = [each for each in judgements if each.verdicts[mistake.row].outcome is Outcome.PASSED]
        cause = diagnose(mistake.row, wrong, right) if wrong and diagnosed else None
        named = None if cause is None else cause.mistake.name
        study.caught.append(Caught(operation, mistake.name, len(wrong), len(references), named))

    return run
