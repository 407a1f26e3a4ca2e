"""Time refgrad beside its peers, in one run and alternating, so that whatever else the machine does hits both.

Prints medians and ratios. PyTorch is the peer of the convolutions where it is installed; NumPy's own SVD is that of the
HOSVD; the dense gradient is that of the compressed one.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

import refgrad as rg
from refgrad import convolution

try:
    import torch
except ImportError:
    torch = None

CONVOLUTIONS = {  # name: (B, C, H, W), O, kernel, attributes
    "digits, third layer": ((64, 32, 8, 8), 64, 3, {"padding": 1}),
    "stride 2": ((32, 32, 32, 32), 64, 3, {"padding": 1, "stride": 2}),
    "1 x 1": ((32, 64, 28, 28), 128, 1, {}),
    "depthwise": ((16, 64, 28, 28), 64, 3, {"padding": 1, "groups": 64}),
    "large": ((8, 64, 56, 56), 64, 3, {"padding": 1}),
}

Pair = tuple[str, str, Callable[[], object], str, Callable[[], object]]


def convolution_pairs(name: str, generator: np.random.Generator) -> list[Pair]:
    """Forward and both gradients of one convolution against PyTorch's."""
    shape, out_channels, kernel, attributes = CONVOLUTIONS[name]
    groups = attributes.get("groups", 1)
    x = generator.standard_normal(shape).astype(np.float32)
    weight = generator.standard_normal((out_channels, shape[1] // groups, kernel, kernel)).astype(np.float32)
    geometry = rg.ConvGeometry.of((kernel, kernel), **attributes)
    grad_output = convolution.conv2d_forward(x, weight, None, geometry)
    tx, tw, tg = (torch.from_numpy(array.copy()) for array in (x, weight, grad_output))
    peer = torch.nn.grad
    return [
        (
            f"conv2d forward, {name}",
            "refgrad", lambda: convolution.conv2d_forward(x, weight, None, geometry),
            "torch", lambda: torch.nn.functional.conv2d(tx, tw, **attributes),
        ),
        (
            f"conv2d grad_input, {name}",
            "refgrad", lambda: convolution.conv2d_input_gradient(grad_output, weight, geometry, shape[2:]),
            "torch", lambda: peer.conv2d_input(tx.shape, tw, tg, **attributes),
        ),
        (
            f"conv2d grad_weight, {name}",
            "refgrad", lambda: convolution.conv2d_weight_gradient(x, grad_output, geometry),
            "torch", lambda: peer.conv2d_weight(tx, tw.shape, tg, **attributes),
        ),
    ]  # fmt: skip


def storage_pairs(generator: np.random.Generator) -> list[Pair]:
    """Pair the HOSVD with NumPy's SVDs of the same unfoldings, and the compressed weight gradient with the dense."""
    x = np.maximum(generator.standard_normal((64, 32, 8, 8)), 0).astype(np.float32)
    grad_output = generator.standard_normal((64, 64, 8, 8)).astype(np.float32)
    geometry = rg.ConvGeometry.of((3, 3), padding=1)
    hosvd, svd, exact = rg.HOSVD(explained_variance=0.8), rg.SVD(explained_variance=0.8), rg.Exact()
    kept = {storage.name: storage.store(x) for storage in (hosvd, svd, exact)}

    def numpy_spectra() -> None:
        for mode in range(4):
            np.linalg.svd(rg.unfold(x, mode), full_matrices=False)

    def dense() -> object:
        return exact.weight_gradient(kept["exact"], grad_output, geometry)

    return [
        ("HOSVD of (64, 32, 8, 8)", "refgrad", lambda: hosvd.store(x), "numpy's four SVDs", numpy_spectra),
        (
            "HOSVD of (64, 32, 8, 8), gram",
            "gram", lambda: rg.hosvd(x, 0.8, method="gram"),
            "svd", lambda: rg.hosvd(x, 0.8),
        ),
        (
            "weight gradient from Tucker",
            "refgrad", lambda: hosvd.weight_gradient(kept["hosvd"], grad_output, geometry),
            "dense", dense,
        ),
        (
            "weight gradient from low rank",
            "refgrad", lambda: svd.weight_gradient(kept["svd"], grad_output, geometry),
            "dense", dense,
        ),
    ]  # fmt: skip


def seconds(function: Callable[[], object]) -> float:
    """How long one call takes."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15, help="timed calls of each side")
    repeats = parser.parse_args().repeats
    console, generator = Console(), np.random.default_rng(0)
    pairs = storage_pairs(generator)
    if torch is None:
        console.print(
            "The convolutions are left out: their peer, PyTorch, is not installed (pip install torch==2.13.0)."
        )
    else:
        pairs += [pair for name in CONVOLUTIONS for pair in convolution_pairs(name, generator)]
    table = Table("what", "ours", "ms", "peer", "ms", "ours / peer", title=f"medians of {repeats} alternating calls")
    for what, our_name, ours, peer_name, peer in track(pairs, "timing", console=console, transient=True):
        ours()  # the first call compiles, or loads what was compiled
        peer()
        times = [(seconds(ours), seconds(peer)) for _ in range(repeats)]
        our_median, peer_median = (statistics.median(column) for column in zip(*times, strict=True))
        row = (
            our_name,
            f"{our_median * 1e3:.2f}",
            peer_name,
            f"{peer_median * 1e3:.2f}",
            f"{our_median / peer_median:.2f}",
        )
        table.add_row(what, *row)
    console.print(table)


if __name__ == "__main__":
    main()
