"""Look for a layer whose gradient error is over its bound, by going uphill towards one.

    python -m benchmarks.adversarial --seconds 60 --seed 0

For each grade and storage, gradient ascent and Hypothesis search over A and G for the largest error over bound, the
rounding of both included. Prints the largest ratio found, per theorem, grade and storage. Exits 1 if one exceeds 1.
"""

import argparse
import math
import os
import sys
import time
from dataclasses import dataclass

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np  # noqa: E402 - after BLAS was told how many threads it has
from hypothesis import HealthCheck, Phase, given, settings, target  # noqa: E402
from hypothesis import seed as seeded  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: E402
from rich.table import Table  # noqa: E402

from refgrad.bounds import GRADES, activation_error_bounds, weight_gradient_bound  # noqa: E402
from refgrad.bounds.norms import frobenius_norm  # noqa: E402
from refgrad.convolution import (  # noqa: E402
    conv2d_forward,
    conv2d_input_gradient,
    conv2d_weight_gradient,
    linear_forward,
    linear_input_gradient,
    linear_weight_gradient,
)
from refgrad.geometry import ConvGeometry  # noqa: E402
from refgrad.multilinear import LowRank, Tucker, mode_product  # noqa: E402
from refgrad.rounding import gamma, unit_roundoff  # noqa: E402
from refgrad.storage import HOSVD, SVD, Exact, SequentialHOSVD  # noqa: E402

STORAGES = (
    SVD(0.8), SVD(0.8, method="gram"), SVD(rank=2), SVD(1.0),
    HOSVD(0.8), HOSVD(0.95, method="gram"), HOSVD(1.0),
    SequentialHOSVD(0.8), SequentialHOSVD(0.95, method="gram"),
    Exact(),
)  # fmt: skip
LINEAR = ((6, 5), (5, 3, 4), (3, 2, 2, 4))
CONVOLUTIONS = (
    ((4, 3, 4, 4), ConvGeometry.of(3, padding=1)),
    ((3, 4, 6, 5), ConvGeometry.of((3, 2), stride=2, dilation=(2, 1), padding=((1, 0), (0, 2)), groups=2)),
    ((4, 3, 3, 3), ConvGeometry.of(1, groups=3)),
)
ACTIVATION = "|A - A~|"
"""The column of what T2, T3, T7 and T8 say of the activation itself."""

COLUMNS = (*GRADES, ACTIVATION)

DTYPES = (np.float64, np.float32)
STEPS = 40
"""Of one ascent, before it starts anew."""


@dataclass(frozen=True)
class Found:
    """The largest ratio of one row of the table, and where it was found."""

    ratio: float
    where: str


@dataclass(frozen=True)
class Layer:
    """A shape of A, how many out channels G has, and the convolution; None for a linear layer."""

    shape: tuple[int, ...]
    geometry: ConvGeometry | None
    out_channels: int

    @property
    def grad_shape(self):
        """Return the shape of G."""
        if self.geometry is None:
            return (*self.shape[:-1], self.out_channels)
        return (self.shape[0], self.out_channels, *self.geometry.output_size(self.shape[2:]))

    def weight_gradient(self, activation, grad_output):
        """Return D(A, G)."""
        if self.geometry is None:
            return linear_weight_gradient(activation, grad_output)
        return conv2d_weight_gradient(activation, grad_output, self.geometry)

    def adjoints(self, error, grad_output, weight):
        """Return the derivatives of <D(E, G), W> with respect to E and G."""
        if self.geometry is None:
            return linear_input_gradient(grad_output, weight), linear_forward(error, weight, None)
        by_error = conv2d_input_gradient(grad_output, weight, self.geometry, self.shape[2:])
        return by_error, conv2d_forward(error, weight, None, self.geometry)

    def describe(self):
        """Write the sizes in a few words."""
        return f"A {self.shape}" if self.geometry is None else f"A {self.shape}, {self.geometry.groups} groups"


def all_layers():
    """Every layer that is searched."""
    for shape in LINEAR:
        yield Layer(shape, None, 3)
    for shape, geometry in CONVOLUTIONS:
        yield Layer(shape, geometry, 2 * geometry.groups)


def measure(layer, storage, activation, grad_output, found, bound_of=weight_gradient_bound):
    """Compare error and bounds of all grades, keep what is larger than before, and return the largest ratio."""
    stored = storage.store(activation)
    bound = bound_of((storage, stored), grad_output, layer.geometry, activation=activation)
    exact = Exact().weight_gradient(Exact().store(activation), grad_output, layer.geometry)
    compressed = storage.weight_gradient(stored, grad_output, layer.geometry)
    error = frobenius_norm(exact.astype(np.float64) - compressed)
    where = f"{layer.describe()}, {activation.dtype}"
    theorem = "T11" if layer.geometry is None else "T12"
    ratios = [keep(found, theorem, ACTIVATION, storage, activation_ratio(activation, storage, stored), where)]
    for grade in GRADES:
        total = bound.total(grade)
        if total is not None:
            ratios.append(keep(found, theorem, grade, storage, share_of(error, total), where))
    return max(ratios)


def activation_ratio(activation, storage, stored):
    """Return |A - A~| over the most that the discarded energies allow, with rounding (THEORY T15)."""
    if not isinstance(stored, (LowRank, Tucker)):
        return 0.0
    axes, size = activation.ndim, activation.size
    ranks = math.sqrt(math.prod(stored.multilinear_rank))
    rounding = (
        2.0 * gamma(sum(activation.shape) + sum(stored.multilinear_rank) + 2 * axes + 2, activation.dtype) * ranks
    )
    rounding += 64.0 * axes * size * unit_roundoff(np.float64)
    if storage.method == "gram":
        rounding += axes * math.sqrt(64.0 * max(activation.shape) * gamma(size, np.float64))
    error = frobenius_norm(activation.astype(np.float64) - stored.reconstruct())
    return share_of(error, activation_error_bounds(stored)[1] + rounding * stored.norm)


def share_of(measured, allowed):
    """Return measured over allowed; 0 where both are, and inf where only what is allowed is."""
    if allowed > 0.0:
        return measured / allowed
    return 0.0 if measured == 0.0 else math.inf


def keep(found, theorem, grade, storage, ratio, where):
    """Write a ratio down where it is the largest of its row, or is not a number; return it."""
    row = (theorem, short_name(storage), grade)
    if row not in found or not ratio <= found[row].ratio:
        found[row] = Found(ratio, where)
    return ratio


def short_name(storage):
    """Write a storage as the table does: its kind, what it was asked for, and its method where that is not the SVD."""
    asked = getattr(storage, "explained_variance", None)
    words = [type(storage).__name__, f"{asked:g}" if asked is not None else ""]
    words += [f"K={storage.rank}"] if getattr(storage, "rank", None) is not None else []
    words += [storage.method] if getattr(storage, "method", "svd") != "svd" else []
    return " ".join(filter(None, words))


def ascent_direction(layer, storage, activation, grad_output):
    """Return the derivatives of log(|D(E, G)|^2 / (|G|_2^2 |E|^2)), the subspaces of the decomposition held fixed.

    E = A - A~ is then a projection of A, so its derivatives are projected alike: what is kept is left out.
    """
    stored = storage.store(activation)
    error = activation - stored.reconstruct()
    weight = layer.weight_gradient(error, grad_output)
    energy, lost = float(np.sum(weight * weight)), float(np.sum(error * error))
    if energy == 0.0 or lost == 0.0:
        return None
    by_error, by_gradient = layer.adjoints(error, grad_output, weight)
    axis = -1 if layer.geometry is None else 1
    matrix = np.moveaxis(grad_output, axis, -1)
    left, values, right = np.linalg.svd(matrix.reshape(-1, matrix.shape[-1]), full_matrices=False)
    largest = np.moveaxis((left[:, :1] @ right[:1]).reshape(matrix.shape), -1, axis) / values[0]
    return 2.0 * ((by_error - kept_part(stored, by_error)) / energy - error / lost), 2.0 * (
        by_gradient / energy - largest
    )


def kept_part(stored, tensor):
    """Project a tensor as the decomposition projected the activation."""
    if isinstance(stored, LowRank):
        right = stored.factors[1]
        return (tensor.reshape(len(tensor), -1) @ right.T @ right).reshape(tensor.shape)
    for mode, factor in enumerate(stored.factors):
        tensor = mode_product(tensor, factor @ factor.T, mode)
    return tensor


def ascend(layer, storage, generator, found, deadline, bound_of=weight_gradient_bound):
    """Go uphill from a random start until time or steps are over; return the largest ratio of the way."""
    activation, grad_output = generator.standard_normal(layer.shape), generator.standard_normal(layer.grad_shape)
    if generator.random() < 0.5:  # a steep spectrum, in which little is discarded
        activation *= np.logspace(0.0, -generator.uniform(0.0, 3.0), layer.shape[0]).reshape(
            -1, *[1] * (activation.ndim - 1)
        )
    step, best = 0.3, 0.0
    for _ in range(STEPS):
        if time.monotonic() > deadline:
            break
        for dtype in DTYPES:
            ratio = measure(layer, storage, activation.astype(dtype), grad_output.astype(dtype), found, bound_of)
            best = max(best, ratio)
        direction = ascent_direction(layer, storage, activation, grad_output)
        if direction is None:
            break
        activation, grad_output = (
            array + step * np.linalg.norm(array) / max(np.linalg.norm(uphill), np.finfo(float).tiny) * uphill
            for array, uphill in zip((activation, grad_output), direction, strict=True)
        )
        step *= 0.95
    return best


def targeted(layer, storage, seed, found, bound_of=weight_gradient_bound, examples=25):
    """Let Hypothesis drive sparse, tied and extreme entries towards a larger ratio."""
    entries = st.sampled_from([0.0, 0.0, 1.0, -1.0, 2.0, 0.5, 1e-4, 3.0])
    exponents = st.integers(-40, 40)

    def arrays(shape):
        return st.lists(entries, min_size=math.prod(shape), max_size=math.prod(shape)).map(
            lambda values: np.array(values).reshape(shape)
        )

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.target),
        suppress_health_check=list(HealthCheck),
    )
    @given(arrays(layer.shape), arrays(layer.grad_shape), exponents, exponents, st.sampled_from(DTYPES))
    def search(activation, grad_output, first, second, dtype):
        activation = np.ldexp(activation, first).astype(dtype)
        grad_output = np.ldexp(grad_output, second).astype(dtype)
        ratio = measure(layer, storage, activation, grad_output, found, bound_of)
        target(min(ratio, 2.0), label=short_name(storage))

    seeded(seed)(search)()


def run(seconds, seed, progress=None, bound_of=weight_gradient_bound):
    """Search for so long; return the rows that were found, by theorem, grade and storage."""
    generator = np.random.default_rng(seed)
    pairs = [(layer, storage) for layer in all_layers() for storage in STORAGES]
    generator.shuffle(pairs)
    began, found, turn = time.monotonic(), {}, 0
    deadline = began + seconds
    task = None if progress is None else progress.add_task("", total=seconds)
    while time.monotonic() < deadline:
        layer, storage = pairs[turn % len(pairs)]
        if progress is not None:
            worst = max((each.ratio for each in found.values()), default=0.0)
            progress.update(
                task,
                completed=time.monotonic() - began,
                description=f"{short_name(storage)}, {layer.describe()}; worst {worst:.6f}",
            )
        ascend(layer, storage, generator, found, deadline, bound_of)
        if turn % 4 == seed % 4:
            targeted(layer, storage, int(generator.integers(2**32)), found, bound_of)
        turn += 1
    if progress is not None:
        progress.update(task, completed=seconds)
    return found


def table(found):
    """Return the table: of each theorem and storage the largest ratio of each grade, and where the largest is."""
    result = Table("theorem", "storage", *COLUMNS, "found at", title="Largest error over bound")
    for theorem, storage in sorted({row[:2] for row in found}):
        row = {grade: found[theorem, storage, grade] for grade in COLUMNS if (theorem, storage, grade) in found}
        worst = max(row.values(), key=lambda best: best.ratio)
        shown = [coloured(row[grade].ratio) if grade in row else "" for grade in COLUMNS]
        result.add_row(theorem, storage, *shown, worst.where)
    return result


def coloured(ratio):
    """Write a ratio; red where it is over 1, or not a number."""
    return f"{ratio:.6f}" if ratio <= 1.0 else f"[red]{ratio:.17g}[/]"


def main(arguments=None, bound_of=weight_gradient_bound):
    """Search, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to search (default: 60)")
    parser.add_argument("--seed", type=int, default=0, help="of the starts (default: 0)")
    chosen = parser.parse_args(arguments)
    if not 0.0 < chosen.seconds < math.inf:
        parser.error(f"--seconds must be positive and finite, got {chosen.seconds}")
    if chosen.seed < 0:
        parser.error(f"--seed must be at least 0, got {chosen.seed}")
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        found = run(chosen.seconds, chosen.seed, progress, bound_of)
    console = Console()
    console.print(table(found))
    over = {row: best for row, best in found.items() if not best.ratio <= 1.0}
    for row, best in sorted(over.items()):
        console.print(
            f"[red]Over its bound:[/] {', '.join(row)}: {best.ratio:.17g} at {best.where}, seed {chosen.seed}"
        )
    return int(bool(over))


if __name__ == "__main__":
    sys.exit(main())
