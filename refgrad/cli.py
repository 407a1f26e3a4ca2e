"""The command line: what a user types, checked and handed to the module that does the work.

Nothing heavy is imported before a command runs, so that ``refgrad --help`` answers at once.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from refgrad.processes import start_importing

__all__ = ["app"]

app = typer.Typer(
    name="refgrad",
    help="The reference for training with compressed activations: train with it, or judge an implementation by it.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


@app.command()
def check(
    target: Annotated[
        str,
        typer.Argument(
            help="What to judge: `file.py`, `file.py:name` or `module:name`; the name is `implementation` if left out. "
            "Or a program that speaks the record protocol: `./client`, `'node client.js'`.",
        ),
    ],
    cases: Annotated[
        int, typer.Option(min=0, help="How many generated inputs follow the catalogue of named edge cases.")
    ] = 100,
    seed: Annotated[
        int, typer.Option(min=0, help="What the generated inputs follow from: the same seed, the same inputs.")
    ] = 0,
    level: Annotated[
        str | None,
        typer.Option(
            metavar="smoke|ci|nightly|exhaustive",
            help="How much to run, in place of `--cases`: 20 named inputs an operation; all of them and 200 generated "
            "ones; 2,000; and every small geometry of a convolution.",
        ),
    ] = None,
    op: Annotated[
        list[str] | None,
        typer.Option(metavar="OPERATION", help="Judge this operation only; may be given again.", show_default="all"),
    ] = None,
    dtype: Annotated[
        list[str] | None,
        typer.Option(metavar="float64|float32", help="Judge in this dtype only.", show_default="both"),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="How many processes judge.", show_default="as many as there are cores")
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0.001, help="Seconds that one call may take; a call that takes longer fails.")
    ] = 60,
    json: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the report there as well, as JSON, whatever the verdict."),
    ] = None,
    junit: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it there as JUnit XML, for a build server.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write it there as a page that shows where in an array the error sits."),
    ] = None,
    known: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A TOML file of known failures: an id like conv2d/grad_weight/value, a reason and the day on which it "
            "expires. They do not count; an entry that nothing failed for does.",
        ),
    ] = None,
) -> None:
    """Judge an implementation of the compressed convolution: is it right, and if not, where, by how much, and why.

    TARGET is a Python function of NumPy arrays; behind it may be PyTorch, C, or anything else:

    ```
    def implementation(x, weight, bias, grad_output, *,
                       stride, padding, dilation, groups,
                       explained_variance):
        return {"output": ..., "grad_input": ..., "grad_bias": ...,
                "grad_weight": ..., "core": ..., "factors": [U1, U2, U3, U4],
                "ranks": (K1, K2, K3, K4), "reconstruction": ...,
                "stored_numbers": ...}
    ```

    It returns what it has; what it leaves out is reported as not provided. Stride and dilation are (height, width),
    padding is ((top, bottom), (left, right)). Tolerances are derived from the dtype and the lengths of the sums; the
    signs and rotations of singular vectors are never compared.

    TARGET may also be an object with a function for every step of the method that it has, from small to large: rank,
    unfold, svd, hosvd, sequential_hosvd, subspace_iteration, reconstruct, weight_gradient, linear, conv2d, step. So a
    port can climb: what is there is judged, and a call that hangs or crashes costs its own input only. A program in C,
    Rust or JavaScript offers the same over a pipe: see docs/foreign.md.

    **Examples:** `refgrad check my_layer.py --cases 500 --html report.html`; `refgrad check ./my_client --timeout 5`;
    `refgrad check my_port.py --op rank --op hosvd --level smoke`

    **Exits** 0 where everything that it returned is right, 1 where something is wrong, 2 on wrong usage, 3 where TARGET
    could not be run, 130 after Ctrl-C (what was judged so far is printed).
    """
    _use_one_blas_thread()
    start_importing()
    from refgrad.oracle.terminal import Request, run_check

    request = Request(
        target,
        cases=cases,
        seed=seed,
        level=level,
        operations=tuple(op or ()),
        dtypes=tuple(dtype or ()),
        jobs=jobs or os.cpu_count() or 1,
        timeout=timeout,
        json_file=json,
        junit_file=junit,
        html_file=html,
        known_file=known,
    )
    raise typer.Exit(run_check(request))


@app.command()
def doctor() -> None:
    """Examine the oracle itself: can its verdicts be trusted on this machine.

    Looks at this machine's LAPACK on spectra that are known exactly; at refgrad's own paths and at a library of right
    implementations, none of which may be called wrong; at a library of mistakes, each of which must be caught and
    named; and at malformed answers, all of which must fail. Takes a minute or two.

    **Exits** 0 where all is well, 1 where something is not, 130 after Ctrl-C.
    """
    _use_one_blas_thread()
    from refgrad.oracle.terminal import run_doctor

    raise typer.Exit(run_doctor())


vectors = typer.Typer(
    help="Golden vectors: inputs with what is right for them, for those who cannot run the oracle beside their code.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
app.add_typer(vectors, name="vectors")

Folder = Annotated[
    Path | None,
    typer.Option("--vectors", metavar="DIR", help="A directory of vectors.", show_default="what comes with refgrad"),
]


@vectors.command()
def build(
    folder: Annotated[Path, typer.Argument(help="Where to: a folder that is empty, or not there yet.")],
    op: Annotated[
        list[str] | None,
        typer.Option(metavar="OPERATION", help="Of this operation only; may be given again.", show_default="all"),
    ] = None,
) -> None:
    """Choose vectors anew: inputs that show a mistake, or a flag, that no other does. The same bytes every time.

    Runs the whole library of mistakes on all named inputs, which takes minutes. Nothing is written where the
    specification and refgrad's fast paths do not agree on what is right.
    """
    _use_one_blas_thread()
    from refgrad.oracle.vectors.terminal import build_vectors

    raise typer.Exit(build_vectors(folder, tuple(op or ())))


@vectors.command()
def verify(vectors: Folder = None) -> None:
    """Check a directory of vectors: its schema, hashes and ids, and that refgrad's own results meet it.

    **Exits** 0 where nothing is wrong, 1 where refgrad does not meet it, 2 where it cannot be read.
    """
    _use_one_blas_thread()
    from refgrad.oracle.vectors.terminal import verify_vectors

    raise typer.Exit(verify_vectors(vectors))


@vectors.command()
def export(
    npz: Annotated[Path | None, typer.Option(metavar="FILE", help="A NumPy archive.")] = None,
    safetensors: Annotated[Path | None, typer.Option(metavar="FILE", help="A safetensors file.")] = None,
    c_header: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A C99 header with the float32 inputs, for a board.")
    ] = None,
    pytest: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A test file that needs NumPy and pytest only, and an archive beside it."),
    ] = None,
    target: Annotated[
        str, typer.Option(metavar="MODULE:NAME", help="What the test file imports.")
    ] = "my_layer:implementation",
    flash: Annotated[
        str | None,
        typer.Option(metavar="64K", help="How many bytes the header may take: what shows most comes first."),
    ] = None,
    op: Annotated[
        list[str] | None,
        typer.Option(metavar="OPERATION", help="The header has this operation only; may be given again."),
    ] = None,
    vectors: Folder = None,
) -> None:
    """Write vectors in another format.

    **Examples:** `refgrad vectors export --c-header refgrad_vectors.h --flash 64K --op conv2d`;
    `refgrad vectors export --pytest test_vectors.py --target my_layer:conv`
    """
    from refgrad.oracle.vectors.terminal import export_vectors

    code = export_vectors(
        vectors,
        npz=npz,
        safetensors=safetensors,
        c_header=c_header,
        pytest=pytest,
        target=target,
        flash=flash,
        operations=tuple(op or ()),
    )
    raise typer.Exit(code)


@vectors.command("judge")
def judge_log(
    log: Annotated[Path, typer.Argument(help="What the board printed; other lines in it do no harm.")],
    accumulator: Annotated[
        str | None,
        typer.Option(metavar="float32|float16|bfloat16", help="What its sums are accumulated in."),
    ] = None,
    decomposition: Annotated[
        str, typer.Option(metavar="hosvd|sequential_hosvd", help="How its layers decompose their input.")
    ] = "hosvd",
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the report there as well, as JSON.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it there as a page.")] = None,
    vectors: Folder = None,
) -> None:
    """Judge the log of a board that was given `refgrad vectors export --c-header`.

    The verdicts are those of `refgrad check`, on the inputs that the board answered; there is no smaller input to be
    found, as it cannot be called again. **Exits** as `refgrad check` does.
    """
    _use_one_blas_thread()
    from refgrad.oracle.vectors.terminal import judge_vectors

    code = judge_vectors(
        log, vectors, accumulator=accumulator, decomposition=decomposition, json_file=json, html_file=html
    )
    raise typer.Exit(code)


@app.command()
def train(
    store: Annotated[
        list[str] | None,
        typer.Option(
            metavar="exact|svd|hosvd",
            help="How activations are kept; once for each run that is wanted.",
            show_default="all three, side by side",
        ),
    ] = None,
    explained_variance: Annotated[
        list[float] | None,
        typer.Option(
            metavar="FLOAT",
            help="The part of an activation's energy that svd and hosvd keep, in (0, 1]; once for each run.",
            show_default="0.9",
        ),
    ] = None,
    gradient_tolerance: Annotated[
        list[float] | None,
        typer.Option(
            metavar="FLOAT",
            help="In place of an explained variance for hosvd: how far a step's gradient may be off, over its norm; "
            "the ranks of each step follow from the steps before it.",
            show_default="none",
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(help="How often every training image is seen.")] = 10,
    seed: Annotated[int, typer.Option(help="Of the split, the initial weights and the order of the images.")] = 0,
    batch_size: Annotated[int, typer.Option(help="How many images a step sees.")] = 64,
    learning_rate: Annotated[float, typer.Option(help="Of the first step; it falls to 0 along half a cosine.")] = 0.05,
    momentum: Annotated[float, typer.Option(help="Of SGD, in [0, 1).")] = 0.9,
    weight_decay: Annotated[float, typer.Option(help="Of SGD.")] = 0.02,
    no_norm: Annotated[bool, typer.Option("--no-norm", help="Leave out the batch normalisation.")] = False,
    certify: Annotated[
        bool,
        typer.Option(
            "--certify",
            help="Say of every step whether it is guaranteed to descend, and if not, which layer spoils it. Momentum "
            "and weight decay move a step away from its gradient: try it with `--momentum 0 --weight-decay 0`.",
        ),
    ] = False,
    out: Annotated[Path, typer.Option(help="The folder for results, picture and checkpoints.")] = Path("runs/digits"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoints in the folder.")] = False,
) -> None:
    """Train a small network on real handwritten digits, with activations kept exactly and compressed, side by side.

    Shows for every epoch the loss, the test accuracy, the memory that activations take, how far the weight gradient is
    off, and the bound on that. Ctrl-C writes a checkpoint; `--resume` goes on from it with the same numbers.
    """
    _use_one_blas_thread()
    from refgrad.training.command import train_command

    code = train_command(
        stores=tuple(store or ()),
        explained_variances=tuple(explained_variance or ()),
        gradient_tolerances=tuple(gradient_tolerance or ()),
        folder=out,
        resume=resume,
        epochs=epochs,
        seed=seed,
        batch_size=batch_size,
        learning_rate=learning_rate,
        momentum=momentum,
        weight_decay=weight_decay,
        norm=not no_norm,
        certify=certify,
    )
    raise typer.Exit(code)


explain = typer.Typer(
    help="Pictures that show what the theory says of real networks and layers.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
app.add_typer(explain, name="explain")


@explain.command("bounds")
def explain_bounds(
    store: Annotated[str, typer.Option(metavar="svd|hosvd", help="How activations are kept.")] = "hosvd",
    seed: Annotated[int, typer.Option(help="Of the split, the initial weights and the order of the images.")] = 0,
    epochs: Annotated[int, typer.Option(help="How long the network is trained first.")] = 1,
    out: Annotated[Path, typer.Option(help="Where the picture goes.")] = Path("runs/bounds.png"),
) -> None:
    """Show how far the digits network's weight gradients are off, and what bounds that, over the explained variance.

    Three bounds: from the explained variance alone (a-priori), from what was discarded (a-posteriori), from the error
    of the activations itself (exact). A bound of less than half of |dW~| certifies that a step of gradient descent
    descends (THEORY T16); no explained variance below 1 does so for every input (THEORY T20).
    """
    _use_one_blas_thread()
    from refgrad.training.command import explain_bounds_command

    raise typer.Exit(explain_bounds_command(store=store, seed=seed, epochs=epochs, picture=out))


@explain.command("cost")
def explain_cost(
    shape: Annotated[str, typer.Option(metavar="B,C,H,W", help="The input of the layer.")] = "16,16,32,32",
    out_channels: Annotated[int, typer.Option(help="Of the layer.")] = 32,
    kernel: Annotated[int, typer.Option(help="Height and width of the layer's kernel.")] = 3,
    stride: Annotated[int, typer.Option(help="Of the layer.")] = 1,
    padding: Annotated[
        int | None, typer.Option(help="Zeros on every side of the input.", show_default="half of the kernel")
    ] = None,
    sizes: Annotated[
        str,
        typer.Option(metavar="8:64|8,12,20", help="Image sizes, for H and W: a range that doubles, or numbers."),
    ] = "8:64",
    rank: Annotated[int, typer.Option(help="What every mode keeps on the curve over the image size.")] = 4,
    ranks: Annotated[
        str, typer.Option(metavar="1:16|1,3,5", help="The other curve: ranks, at the image size of the shape.")
    ] = "1:16",
    method: Annotated[
        str | None,
        typer.Option(metavar="svd|gram", help="How factors are found.", show_default="as storages do by default"),
    ] = None,
    dtype: Annotated[str, typer.Option(metavar="float32|float64", help="Of the layer's arrays.")] = "float32",
    repeats: Annotated[int, typer.Option(help="How often each step is timed; the median counts.")] = 5,
    no_measure: Annotated[bool, typer.Option("--no-measure", help="Predict only: no times, no memory.")] = False,
    network: Annotated[
        str,
        typer.Option(
            metavar="deep|digits|digits-norm",
            help="Whose training step's memory is measured: 12 convolutions of 16 channels, or the digits network, "
            "without or with batch normalisation.",
        ),
    ] = "deep",
    batch_size: Annotated[int, typer.Option(help="How many images that network sees.")] = 48,
    image_size: Annotated[int, typer.Option(help="Their height and width, a multiple of 8: enlarged digits.")] = 32,
    explained_variance: Annotated[float, typer.Option(help="What that network's activations keep, in (0, 1].")] = 0.8,
    seed: Annotated[int, typer.Option(help="Of the layer's numbers, the digits and the network's weights.")] = 0,
    out: Annotated[Path, typer.Option(help="Where the picture goes.")] = Path("runs/cost.png"),
) -> None:
    """Show what compression costs and saves in a layer, predicted and measured, over the image size and over the rank.

    For SVD and HOSVD, how many times fewer than with exact storage: stored numbers (THEORY D2, D3), and multiply-adds
    of the weight gradient, of the backward pass and of the whole training step (THEORY D6, T14). The step has the price
    in it: the input is decomposed. Three columns each, for dW, back and step:

    - **paper**: by the paper's formulas, a full SVD of every unfolding and the order of contraction of T14;
    - **own**: as refgrad works, thin decompositions and the cheapest order;
    - **timed**: seconds, exact and compressed steps by turns. Less than 1 means slower than exact storage.

    *Stored* are numbers, *held* the bytes that a tape really keeps between forward and backward.

    A last table is of a whole network, each step in a process of its own: what the tape says it holds, what a memory
    tracer and the operating system see held, and the most that they saw during the step, in MiB.

    **Examples:** `refgrad explain cost --no-measure --sizes 8:256`; `refgrad explain cost --shape 32,64,16,16
    --out-channels 64 --kernel 1 --ranks 2,4,6 --method gram`; `refgrad explain cost --network digits --image-size 64`

    **Exits** 0 where it is done, 1 where a process that measures failed, 2 on wrong usage, 130 after Ctrl-C (what was
    measured so far is shown).
    """
    _use_one_blas_thread()
    from refgrad.training.command import explain_cost_command

    code = explain_cost_command(
        shape=shape,
        out_channels=out_channels,
        kernel=kernel,
        stride=stride,
        padding=padding,
        sizes=sizes,
        rank=rank,
        ranks=ranks,
        method=method,
        dtype=dtype,
        repeats=repeats,
        timed=not no_measure,
        network=network,
        batch_size=batch_size,
        image_size=image_size,
        explained_variance=explained_variance,
        seed=seed,
        picture=out,
    )
    raise typer.Exit(code)


@app.command()
def bench(
    shapes: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Measure this layer only; may be given again. small, large, wide, deep, pointwise, first (the primary "
            "ones), depthwise, strided, single, linear; with `--quick` tiny, tiny-depthwise, tiny-linear.",
            show_default="all",
        ),
    ] = None,
    dtype: Annotated[
        list[str] | None,
        typer.Option(metavar="float32|float64", help="Measure in this dtype only.", show_default="both"),
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option(help="The most rounds in which all are called in turn.", show_default="9, with --quick 3"),
    ] = None,
    budget: Annotated[
        float,
        typer.Option(help="Seconds for the rounds of one layer in one dtype; slow peers get fewer rounds, but three."),
    ] = 5.0,
    threads: Annotated[
        int | None,
        typer.Option(help="For refgrad's BLAS and for PyTorch alike.", show_default="as many as there are cores"),
    ] = None,
    seed: Annotated[int, typer.Option(help="What activations, weights and gradients are drawn from.")] = 0,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Tiny layers, to see in seconds that all of it runs; the figures say nothing."),
    ] = False,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write everything that was measured there, every round of it.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the README's table there, with the machine.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the ratios of every layer, and the growth, as a PNG.")
    ] = None,
) -> None:
    """Time refgrad beside its peers: PyTorch, the published algorithm written in PyTorch, TensorLy.

    Everything runs in one process with the same number of threads and in turns, A B C, A B C, ..., so that whatever
    else the machine does hits all of them. A ratio is taken round by round; printed are its median and its quartiles.
    **Over 1, refgrad is the faster.** Beside each time stands a floor: its multiply-adds at the rate of a large matrix
    product, or its bytes at the rate of a large copy, measured in the same rounds.

    Memory is measured in a process for each step; growth with the batch and with the image size is fitted and set
    beside what the multiply-adds predict. The last table says which targets are met. docs/bench.md says how to read it.

    Takes about ten minutes on two cores. Keep the machine quiet: other work cancels in the ratios only in part.

    **Examples:** `refgrad bench --quick`; `refgrad bench --shapes wide --shapes deep --dtype float32`;
    `refgrad bench --json bench.json --markdown bench.md --picture bench.png`

    **Exits** 0 when done, whether targets are met or not; 2 on wrong usage; 130 after Ctrl-C (what was measured so far
    is shown and written).
    """
    count = threads if threads is not None else _available_cores()
    _use_blas_threads(count)
    from refgrad.bench.command import bench_command
    from refgrad.bench.results import Settings

    try:
        settings = Settings(
            shapes=tuple(shapes or ()),
            dtypes=tuple(dtype or ()),
            repeats=repeats if repeats is not None else 3 if quick else 9,
            budget=budget,
            threads=count,
            seed=seed,
            quick=quick,
        )
    except (TypeError, ValueError) as error:
        raise typer.BadParameter(str(error)) from None
    raise typer.Exit(bench_command(settings, json_file=json, markdown_file=markdown, picture=picture))


def _use_blas_threads(count: int) -> None:
    """Tell BLAS, before NumPy loads it, how many threads it has: what is timed against a peer has as many as that."""
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(count)
    os.environ.setdefault(
        "OPENBLAS_THREAD_TIMEOUT", "4"
    )  # or its threads go on waiting, on cores that others could use


def _available_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _use_one_blas_thread() -> None:
    """Ask BLAS, before NumPy loads it, for one thread, unless the user has said how many.

    The matrices here are so small that threads wait for each other longer than they compute, many times longer where
    something else uses the machine; and the last bits of a sum follow from their number.
    """
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
