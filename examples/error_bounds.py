"""How far can a compressed gradient be off? From one matrix to a network, with the bounds written out and a picture.

Run with ``python examples/error_bounds.py``; the picture goes to ``--out``, by default runs/error_bounds.png.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.markup import escape

import refgrad as rg
from refgrad.bounds import activation_error_bounds, network_bound, weight_gradient_bound
from refgrad.testing import attains_conv_bound
from refgrad.training.files import prepare_folder, write_atomically

SHARES = (0.76, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
GEOMETRY = rg.ConvGeometry.of(3, padding=1)
STYLES = {
    "a_priori": ("tab:red", 6.0, "a priori: from eps"),
    "a_posteriori": ("tab:orange", 3.5, "a posteriori: from what was discarded"),
    "exact": ("tab:blue", 1.5, "exact: from A - A~"),
}
console = Console(soft_wrap=True)


def say(title, *lines):
    """Print a step."""
    console.print()
    console.rule(f"[bold]{escape(title)}")
    for line in lines:
        console.print(escape(str(line)))


def gradient_error(storage, stored, activation, grad_output, geometry=None):
    """Return |dW - dW~|, which nobody knows who has let the activation go."""
    exact = rg.Exact().weight_gradient(rg.Exact().store(activation), grad_output, geometry)
    return float(np.linalg.norm(exact - storage.weight_gradient(stored, grad_output, geometry)))


def images(generator, shape=(16, 6, 12, 12)):
    """Return smooth random pictures after a ReLU: the kind of activation that compresses well."""
    batch, channels, height, width = shape
    rows, columns = np.linspace(0, np.pi, height), np.linspace(0, np.pi, width)
    waves = [np.outer(np.cos(i * rows), np.cos(j * columns)) / (1 + i + j) for i in range(6) for j in range(6)]
    mixed = generator.standard_normal((batch, channels, len(waves))) @ np.array(waves).reshape(len(waves), -1)
    return np.maximum(mixed.reshape(shape), 0) + 0.01 * generator.standard_normal(shape)


def one_matrix(generator):
    """Show T7 and T11 on the input of a linear layer."""
    activation = generator.standard_normal((40, 30)) @ np.diag(0.8 ** np.arange(30))
    grad_output = generator.standard_normal((40, 10))
    storage = rg.SVD(explained_variance=0.9)
    stored = storage.store(activation)
    bound = weight_gradient_bound((storage, stored), grad_output, activation=activation)
    _, most = activation_error_bounds(stored)
    say(
        "1. One matrix",
        f"A linear layer's input A, 40 x 30, is kept by its {stored.multilinear_rank[0]} largest singular values.",
        f"What was discarded is the error of A itself, |A - A~| = {most:.4f} (T7). Measured, it is "
        f"{np.linalg.norm(activation - stored.reconstruct()):.4f}.",
        f"The gradient G^T A is off by {gradient_error(storage, stored, activation, grad_output):.4f}. Four bounds:",
        *(bound.derivation(grade) for grade in ("a_priori", "a_posteriori", "exact", "spectrum")),
    )


def one_tensor(generator):
    """Show T2 and T3 on the input of a convolution."""
    activation = images(generator)
    storage = rg.HOSVD(explained_variance=0.9)
    stored = storage.store(activation)
    least, most = activation_error_bounds(stored)
    say(
        "2. One tensor",
        f"A convolution's input {activation.shape} is kept as a core {stored.multilinear_rank} and a factor for "
        f"each mode: {activation.size / stored.stored_numbers:.1f} times fewer numbers.",
        f"Each mode discards a part, and the parts overlap: between {least:.4f} and {most:.4f} is lost (T3).",
        f"It is {np.linalg.norm(activation - stored.reconstruct()):.4f}, and the core says so (T2).",
    )
    return activation


def one_layer(activation, generator):
    """Show T12; return the error and the bounds at each explained variance, over the exact gradient's norm."""
    grad_output = generator.standard_normal((len(activation), 8, *GEOMETRY.output_size(activation.shape[2:])))
    exact = rg.Exact().weight_gradient(rg.Exact().store(activation), grad_output, GEOMETRY)
    found = []
    for share in SHARES:
        storage = rg.HOSVD(explained_variance=share)
        stored = storage.store(activation)
        bound = weight_gradient_bound((storage, stored), grad_output, GEOMETRY, activation=activation)
        error = gradient_error(storage, stored, activation, grad_output, GEOMETRY)
        found.append((error, bound))
        if share == 0.9:
            say(
                "3. One convolution",
                f"A 3 x 3 kernel reads a pixel up to 9 times. The gradient is off by {error:.4f}:",
                *(bound.derivation(grade) for grade in STYLES),
            )
    return scaled(found, float(np.linalg.norm(exact)))


def worst_layer():
    """Show an input for which every grade is an equation; return errors and bounds as `one_layer` does."""
    found, norms = [], []
    for share in SHARES:
        case = attains_conv_bound(GEOMETRY, share)
        stored = case.storage.store(case.activation)
        bound = weight_gradient_bound((case.storage, stored), case.grad_output, GEOMETRY, activation=case.activation)
        error = gradient_error(case.storage, stored, case.activation, case.grad_output, GEOMETRY)
        exact = rg.Exact().weight_gradient(rg.Exact().store(case.activation), case.grad_output, GEOMETRY)
        found.append((error, bound))
        norms.append(float(np.linalg.norm(exact)))
        if share == 0.9:
            say(
                "4. The worst layer",
                "No bound here can be improved: for this input, of six entries, all of them are attained.",
                f"The gradient is off by {error:.6f}.",
                bound.derivation("a_priori"),
            )
    return [row for pair, norm in zip(found, norms, strict=True) for row in scaled([pair], norm)]


def scaled(found, norm):
    """Return error and totals over a norm, one row for each explained variance."""
    return [{"error": error / norm} | {grade: bound.total(grade) / norm for grade in STYLES} for error, bound in found]


def network(activation, generator):
    """Show T13 on a network of three layers; return errors and a-posteriori bounds by layer, and for all together."""
    weights = [0.3 * generator.standard_normal(shape) for shape in ((8, 6, 3, 3), (8, 8, 3, 3), (10, 8 * 36))]
    labels = generator.integers(10, size=len(activation))
    bounds = []

    def gradients(storage, observe=None):
        with rg.Tape(store=storage) as tape:
            first, second, last = (tape.watch(weight) for weight in weights)
            hidden = rg.relu(rg.conv2d(activation, first, padding=1))
            hidden = rg.relu(rg.conv2d(hidden, second, stride=2, padding=1))
            scores = rg.linear(hidden.reshape(len(activation), -1), last)
            loss = rg.functional.cross_entropy(scores, labels)
        return tape.gradient(loss, [first, second, last], observe=observe)

    def observe(record, grad_output):
        geometry = getattr(record.saved, "geometry", None)
        bounds.append(weight_gradient_bound(record.kept_activation, grad_output, geometry))

    compressed = gradients(rg.HOSVD(explained_variance=0.95), observe)
    errors = [float(np.linalg.norm(a - b)) for a, b in zip(gradients(rg.Exact()), compressed, strict=True)]
    together = network_bound(bounds[::-1])  # backward runs from the last layer to the first
    total = float(np.linalg.norm(errors))
    say(
        "5. A network",
        "The gradients that run backward are exact, so no error reaches another layer, and the squares add up.",
        f"conv, conv, linear: off by {', '.join(f'{error:.4f}' for error in errors)}; together {total:.4f}.",
        together.derivation(),
        f"The error is {total / together.magnitude:.2f} times as long as the gradient; known is that it is at most "
        f"{together.relative():.2f} times as long.",
    )
    return [*errors, total], [*(bound.total() for bound in bounds[::-1]), together.total()]


def draw(usual, worst, layers):
    """Return the picture: two layers over the explained variance, and a network."""
    figure = Figure(figsize=(12.5, 4.4), layout="constrained")
    axes = figure.subplots(1, 3)
    lost = [1 - share for share in SHARES]
    for axis, rows, title in (
        (axes[0], usual, "pictures after a ReLU"),
        (axes[1], worst, "an input made to attain all"),
    ):
        for grade, (color, width, label) in STYLES.items():  # the looser the wider, to be seen where they are equal
            axis.plot(lost, [row[grade] for row in rows], color=color, linewidth=width, label=label)
        axis.plot(lost, [row["error"] for row in rows], "o", color="black", markersize=4, label="measured")
        axis.set(xscale="log", yscale="log", xlabel="1 - explained variance", title=f"One convolution: {title}")
        axis.grid(visible=True, which="major", linewidth=0.4, alpha=0.5)
    axes[0].set_ylabel("|dW - dW~| / |dW|")
    axes[1].legend(fontsize="small")
    places, (errors, bounds) = np.arange(len(layers[0])), layers
    axes[2].bar(places - 0.2, errors, 0.4, color="black", label="measured")
    axes[2].bar(places + 0.2, bounds, 0.4, color="tab:orange", label="a posteriori")
    axes[2].set_xticks(places, ["conv 1", "conv 2", "linear", "network"])
    axes[2].set(title="A network: squares add up (T13)", ylabel="|dW - dW~|")
    axes[2].legend(fontsize="small")
    return figure


def main(arguments=None):
    """Tell the story, write the picture, and return 0; 1 if a bound did not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/error_bounds.png"), help="where the picture goes")
    out = parser.parse_args(arguments).out
    prepare_folder(out.parent)
    generator = np.random.default_rng(0)
    one_matrix(generator)
    activation = one_tensor(generator)
    usual, worst = one_layer(activation, generator), worst_layer()
    layers = network(activation, generator)
    figure = draw(usual, worst, layers)
    write_atomically(out, lambda file: figure.savefig(file, format="png", dpi=150))
    broken = [row for row in (*usual, *worst) if any(row["error"] > row[grade] for grade in STYLES)]
    broken += [error for error, bound in zip(*layers, strict=True) if error > bound]
    say("Done", f"The picture is {out}." if not broken else f"Not as expected: {len(broken)} errors are over a bound.")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
