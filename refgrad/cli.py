"""The command line: what a user types, checked and handed to the module that does the work.

Nothing heavy is imported before a command runs, so that ``refgrad --help`` answers at once.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

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
    help="Pictures that show what the theory says of a real network.", no_args_is_help=True, rich_markup_mode="markdown"
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


def _use_one_blas_thread() -> None:
    """Ask BLAS, before NumPy loads it, for one thread, unless the user has said how many.

    The matrices here are so small that threads wait for each other longer than they compute, many times longer where
    something else uses the machine; and the last bits of a sum follow from their number.
    """
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
