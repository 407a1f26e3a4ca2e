"""Convergence: what a certificate promises of a step with compressed activations, from one matrix to a network.

Run with ``python examples/convergence.py``; the picture goes to ``--out``, by default runs/convergence.png.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.markup import escape
from rich.progress import track

import refgrad as rg
from refgrad.convergence import (
    average_gradient_bound,
    certified_step,
    certify,
    compressed_gradient,
    guaranteed_losses,
    least_squares_curvature,
    linear_rate,
)
from refgrad.functional import cross_entropy, flatten, linear, max_pool2d, relu
from refgrad.training.files import prepare_folder, write_atomically

console = Console(soft_wrap=True)
VARIANCES = (0.9, 0.99, 0.9999)
STEPS = 150


def say(title, *lines):
    """Print a step."""
    console.print()
    console.rule(f"[bold]{escape(title)}")
    for line in lines:
        console.print(escape(str(line)))


def least_squares():
    """Descend on a convex problem; return for each explained variance losses and guarantees."""
    generator = np.random.default_rng(0)
    data = generator.standard_normal((40, 6)) * 2.0 ** -np.arange(6.0)
    truth = generator.standard_normal((2, 6)) * 2.0 ** np.arange(6.0)
    targets = data @ truth.T + 0.1 * generator.standard_normal((40, 2))
    curvature = least_squares_curvature(data, ridge=0.02)
    say(
        "1. A problem of which everything is known",
        f"Least squares, 40 samples, 6 features, a little ridge: L = {curvature.smoothness:.4g}, "
        f"mu = {curvature.strong_convexity:.4g}.",
        "Each step keeps the data as a truncated SVD and is certified with T16 before anything else is looked at.",
    )

    def loss(params):
        residual = linear(data, params["weight"]) - targets
        return np.sum(residual**2) / (2 * len(data)) + 0.01 * np.sum(params["weight"] ** 2)

    hessian = data.T @ data / len(data) + 0.02 * np.eye(6)
    best = {"weight": np.linalg.solve(hessian, data.T @ targets / len(data)).T}
    least = float(loss(best)) * (1.0 - 1e-12)
    curves = {}
    for variance in VARIANCES:
        params, certificates, storage = {"weight": np.zeros((2, 6))}, [], rg.SVD(variance)
        for _ in range(STEPS):
            gradient = compressed_gradient(loss, params, store=storage)
            certificates.append(certify(gradient, step_size=curvature.step_size, smoothness=curvature.smoothness))
            params = {"weight": params["weight"] - curvature.step_size * gradient.gradients["weight"]}
        certified = next((number for number, step in enumerate(certificates) if not step.certified), STEPS)
        say(f"   SVD at explained variance {variance}", f"first step: {certificates[0]}")
        if certified:
            rate = linear_rate(certificates[:certified], curvature.strong_convexity, least)
            console.print(f"{certified} steps in a row are certified. {rate}")
        if certified < STEPS:
            console.print(f"step {certified + 1}: {certificates[certified]}")
        console.print(str(average_gradient_bound(certificates, least)))
        curves[variance] = [c.loss - least for c in certificates], [v - least for v in guaranteed_losses(certificates)]
    return curves


def network(steps):
    """Train a small CNN, taking only certified steps; return what each storage did."""
    generator = np.random.default_rng(0)
    params = {
        "conv.weight": generator.standard_normal((4, 1, 3, 3)) / 3.0,
        "conv.bias": np.zeros(4),
        "fc.weight": generator.standard_normal((3, 36)) / 6.0,
        "fc.bias": np.zeros(3),
    }
    labels = generator.integers(0, 3, 12)
    images = generator.standard_normal((3, 1, 6, 6))[labels] + 0.3 * generator.standard_normal((12, 1, 6, 6))

    def loss(p):
        x = max_pool2d(relu(rg.conv2d(images, p["conv.weight"], p["conv.bias"], padding=1)), 2)
        return cross_entropy(linear(flatten(x), p["fc.weight"], p["fc.bias"]), labels)

    def loss_at(p):
        gradient = compressed_gradient(loss, p, store=rg.Exact())
        return gradient.loss, gradient.rounding

    say(
        "2. A network, of which no smoothness is known",
        "T16 needs the descent inequality at one pair of points only, so it is verified there: the step size is halved",
        "until the loss after the step proves it. A step that cannot be certified is not taken; the run then stops.",
    )
    runs = {}
    for name, storage in (
        ("exact", rg.Exact()),
        ("HOSVD, 0.9", rg.HOSVD(0.9)),
        ("HOSVD, 0.999", rg.HOSVD(0.999)),
        ("HOSVD, tolerance 0.5", rg.HOSVD(gradient_tolerance=0.5)),
    ):
        at, certificates = params, []
        for _ in track(range(steps), name, console=console, transient=True):
            gradient = compressed_gradient(loss, at, store=storage)
            after, certificate = certified_step(loss_at, at, gradient, step_size=1.0)
            if after is None:
                break
            certificates.append(certificate)
            at = after
        reached = certificates[-1].next_loss if certificates else float(loss(params))
        ended = "all were certified" if len(certificates) == steps else f"then: {certificate}"
        console.print(f"{name}: {len(certificates)} steps, loss {reached:.4f}; {ended}", markup=False)
        runs[name] = [c.loss for c in certificates] + [reached]
    return runs


def picture(curves, runs):
    """Draw guaranteed against actual descent, and the certified runs of the network."""
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for number, (variance, (losses, guaranteed)) in enumerate(curves.items()):
        left.plot(losses, color=f"C{number}", label=f"explained variance {variance}")
        left.plot(guaranteed, color=f"C{number}", linestyle=":")
    left.set_yscale("log")
    left.set_title("Least squares: loss (line), guarantee (dotted)")
    left.set_xlabel("step")
    left.set_ylabel("f - f*")
    left.legend(fontsize="small")
    for name, losses in runs.items():
        right.plot(losses, marker="." if len(losses) < 3 else None, label=f"{name}: {len(losses) - 1} steps")
    right.set_title("A CNN that takes certified steps only")
    right.set_xlabel("step")
    right.set_ylabel("loss")
    right.legend(fontsize="small")
    return figure


def main(arguments=None):
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/convergence.png"), help="where the picture goes")
    parser.add_argument("--steps", type=int, default=40, help="how many steps the network takes at most")
    options = parser.parse_args(arguments)
    if options.steps < 1:
        parser.error(f"--steps must be at least 1, got {options.steps}")
    prepare_folder(options.out.parent)
    curves = least_squares()
    figure = picture(curves, network(options.steps))
    write_atomically(options.out, lambda file: figure.savefig(file, format="png", dpi=120))
    console.print(f"\nPicture: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
