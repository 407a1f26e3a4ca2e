"""No free lunch: why keeping 99.9 % of an activation can lose all of its gradient, step by step, with a picture.

Run with ``python examples/no_free_lunch.py``; the picture goes to ``--out``, by default runs/no_free_lunch.png.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.markup import escape

import refgrad as rg
from refgrad.bounds import weight_gradient_bound
from refgrad.testing import no_free_lunch
from refgrad.training.files import prepare_folder, write_atomically

EXPLAINED_VARIANCE = 0.999
STEPS = 60
RATE = 0.1
console = Console(soft_wrap=True)


def say(title, *lines):
    """Print a step."""
    console.print()
    console.rule(f"[bold]{escape(title)}")
    for line in lines:
        console.print(escape(str(line)))


def the_activation(activation):
    """Show what explained variance sees."""
    energies = np.linalg.svd(activation, compute_uv=False) ** 2
    storage = rg.HOSVD(explained_variance=EXPLAINED_VARIANCE)
    stored = storage.store(activation)
    say(
        "1. The activation",
        "A batch of two samples with two features, one large and one small:",
        activation,
        f"The large one holds {energies[0] / energies.sum():.6f} of the energy. A storage that keeps "
        f"{EXPLAINED_VARIANCE} of it needs one singular value, {stored.multilinear_rank}, and restores",
        np.abs(storage.restore(stored)),
    )
    return storage, stored


def the_gradient(activation, grad_output, storage, stored):
    """Show what the gradient needs; return whether all of it is lost."""
    exact = rg.Exact().weight_gradient(rg.Exact().store(activation), grad_output)
    compressed = storage.weight_gradient(stored, grad_output)
    bound = weight_gradient_bound((storage, stored), grad_output)
    say(
        "2. The gradient",
        "The large sample is fitted already, so its gradient is 0. The small one is not:",
        grad_output,
        f"dW  = G^T A  = {exact}",
        f"dW~ = G^T A~ = {np.abs(compressed)}: not small, but 0.",
    )
    say(
        "3. What the bound says",
        "The bound knew: the error can be as long as the gradient itself, and no relative error follows.",
        bound.derivation(),
        f"over |dW~|: {bound.relative()}",
    )
    return bool(np.any(exact != 0) and not np.any(compressed))


def at_every_explained_variance():
    """Show that a larger explained variance does not help; return whether the gradient is lost at each of them."""
    lost, lines = True, []
    for share in (0.5, 0.9, 0.99, 0.999999, 1 - 2.0**-53):
        activation, grad_output = no_free_lunch(share)
        storage = rg.SVD(explained_variance=share)
        found = storage.weight_gradient(storage.store(activation), grad_output)
        lost = lost and not np.any(found)
        lines.append(
            f"explained variance {share!r}: a sample of {activation[0, 0]:.0f} hides one of 1, dW~ = {np.abs(found)}"
        )
    say("4. At every explained variance below 1", *lines)
    return lost


def train(activation, storage):
    """Fit the second sample by gradient descent, the first being fitted; return the loss of each step."""
    targets, weight, losses = np.array([[0.0], [1.0]]), np.zeros((1, 2)), []
    for _ in range(STEPS):
        with rg.Tape(store=storage) as tape:
            watched = tape.watch(weight)
            loss = 0.5 * np.sum((rg.linear(activation, watched) - targets) ** 2)
        losses.append(float(loss))
        weight = weight - RATE * tape.gradient(loss, [watched])[0]
    return losses


def draw(activation, kept, losses):
    """Return the picture: the activation, what is kept of it, and two trainings."""
    figure = Figure(figsize=(11.0, 3.8), layout="constrained")
    first, second, third = figure.subplots(1, 3, width_ratios=(1, 1, 2))
    for axis, matrix, title in ((first, activation, "A"), (second, kept, f"A~, which keeps {EXPLAINED_VARIANCE}")):
        axis.imshow(np.log2(1 + np.abs(matrix)), cmap="Blues", vmin=0)
        for (row, column), value in np.ndenumerate(matrix):
            axis.text(column, row, f"{abs(value):g}", ha="center", va="center", color="tab:red", fontsize=13)
        axis.set_xticks([0, 1], ["feature 1", "feature 2"])
        axis.set_yticks([0, 1], ["fitted", "not fitted"])
        axis.set_title(title)
    for name, values in losses.items():
        third.plot(values, label=name)
    third.set(xlabel="step", ylabel="loss", title="Training stands still for ever")
    third.legend()
    return figure


def main(arguments=None):
    """Tell the story, write the picture, and return 0; 1 if it did not go as the theorem says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/no_free_lunch.png"), help="where the picture goes")
    out = parser.parse_args(arguments).out
    prepare_folder(out.parent)
    activation, grad_output = no_free_lunch(EXPLAINED_VARIANCE)
    storage, stored = the_activation(activation)
    lost = the_gradient(activation, grad_output, storage, stored)
    everywhere = at_every_explained_variance()
    losses = {"exact": train(activation, rg.Exact()), f"HOSVD {EXPLAINED_VARIANCE}": train(activation, storage)}
    exact, compressed = losses.values()
    say(
        "5. A training that stands still",
        f"Fitting the small sample: after {STEPS} steps the exact loss is {exact[-1]:.2g}, the compressed one still "
        f"{compressed[-1]:.2g}.",
        "So no promise follows from the explained variance alone: a run is certified step by step, or not at all.",
    )
    figure = draw(activation, storage.restore(stored), losses)
    write_atomically(out, lambda file: figure.savefig(file, format="png", dpi=150))
    expected = lost and everywhere and exact[-1] < 1e-3 * exact[0] and compressed[-1] == compressed[0]
    say("Done", f"The picture is {out}." if expected else "Not as expected: the gradient was not lost.")
    return int(not expected)


if __name__ == "__main__":
    sys.exit(main())
