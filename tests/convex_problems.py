"""Convex losses of a linear layer with L and mu known, and their values to fifty digits."""

from dataclasses import dataclass
from functools import cached_property

import mpmath
import numpy as np
from hypothesis import strategies as st

import refgrad as rg
from refgrad.convergence import least_squares_curvature, logistic_curvature, softmax_curvature
from refgrad.functional import cross_entropy, linear

KINDS = ("least squares", "logistic", "softmax")


@dataclass(frozen=True)
class ConvexProblem:
    """The loss of W: scores A W^T against targets (M, O), signs (M, 1) or labels (M,); plus ridge/2 |W|^2."""

    kind: str
    data: np.ndarray
    targets: np.ndarray
    start: np.ndarray
    ridge: float = 0.0

    def loss(self, params):
        """On a tape, or of plain arrays."""
        weight = params["weight"]
        scores = linear(self.data, weight)
        if self.kind == "least squares":
            value = np.sum((scores - self.targets) ** 2) / (2 * len(self.data))
        elif self.kind == "logistic":
            value = np.mean(np.logaddexp(0.0, -self.targets * scores))
        else:
            value = cross_entropy(scores, self.targets)
        return value + self.ridge / 2 * np.sum(weight * weight)

    @cached_property
    def curvature(self):
        known = {"least squares": least_squares_curvature, "logistic": logistic_curvature, "softmax": softmax_curvature}
        return known[self.kind](self.data, ridge=self.ridge)

    def loss_exactly(self, weight):
        """To fifty digits, as a number of mpmath."""
        with mpmath.workdps(50):
            rows = [list(map(mpmath.mpf, row)) for row in weight]
            total = mpmath.mpf(0)
            for sample, target in zip(self.data, self.targets, strict=True):
                scores = [
                    mpmath.fdot((mpmath.mpf(float(a)), w) for a, w in zip(sample, row, strict=True)) for row in rows
                ]
                if self.kind == "least squares":
                    total += sum((s - float(y)) ** 2 for s, y in zip(scores, target, strict=True)) / 2
                elif self.kind == "logistic":
                    total += mpmath.log1p(mpmath.exp(-float(target[0]) * scores[0]))
                else:
                    total += mpmath.log(sum(map(mpmath.exp, scores))) - scores[int(target)]
            squares = sum(entry**2 for row in rows for entry in row)
            return total / len(self.data) + mpmath.mpf(self.ridge) * squares / 2

    def least_exactly(self):
        """The least value of a strongly convex least squares loss, to fifty digits."""
        with mpmath.workdps(50):
            data, targets = mpmath.matrix(self.data.tolist()), mpmath.matrix(self.targets.tolist())
            hessian = data.T * data + self.ridge * len(self.data) * mpmath.eye(data.cols)
            best = mpmath.inverse(hessian) * (data.T * targets)
            return self.loss_exactly(best.T.tolist())


@st.composite
def convex_problems(draw, kinds=KINDS, ridge=None):
    """With steep and flat data, more and fewer samples than features, and samples that hide others."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1), label="seed"))
    kind = draw(st.sampled_from(kinds), label="kind")
    samples, features = draw(st.integers(2, 7), label="samples"), draw(st.integers(1, 5), label="features")
    outputs = 1 if kind == "logistic" else draw(st.integers(2, 3), label="outputs")
    data = generator.standard_normal((samples, features))
    data *= 2.0 ** -(draw(st.sampled_from([0.0, 1.0, 3.0]), label="steepness") * np.arange(samples))[:, np.newaxis]
    if kind == "least squares":
        targets = generator.standard_normal((samples, outputs))
    elif kind == "logistic":
        targets = np.where(generator.standard_normal((samples, 1)) > 0, 1.0, -1.0)
    else:
        targets = generator.integers(0, outputs, samples)
    penalty = draw(st.sampled_from([0.0, 0.125, 1.0]), label="ridge") if ridge is None else ridge
    start = generator.standard_normal((outputs, features)) * draw(st.sampled_from([0.0, 1.0, 8.0]), label="start")
    return ConvexProblem(kind, data, targets, start, penalty)


def storages_for(shape):
    """SVD and HOSVD that lose much, little and nothing."""
    return st.one_of(
        st.builds(rg.SVD, st.sampled_from([0.5, 0.9, 0.999, 1.0])),
        st.builds(rg.HOSVD, st.sampled_from([0.5, 0.9, 0.999, 1.0])),
        st.builds(rg.SequentialHOSVD, st.sampled_from([0.5, 0.9, 0.999, 1.0])),
    )
