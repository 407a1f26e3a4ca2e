"""Measure how often the oracle is wrong about what is right, and right about what is wrong.

    python -m benchmarks.power_study                 # writes docs/power.md and docs/inputs.md
    python -m benchmarks.power_study --generated 200 --seed 1

Every operation's named inputs and as many generated ones are tried on refgrad's own paths, on the library of legitimate
variants and on the library of mistakes, in float64 and float32; layers of real size on refgrad's paths. Exits 1 where
anything right was called wrong, or a mistake survived without a written reason.
"""

import argparse
import contextlib
import os
import sys
from pathlib import Path

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

from rich.console import Console  # noqa: E402 - after BLAS was told how many threads it has
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: E402

from refgrad.oracle.flags import flags_of  # noqa: E402
from refgrad.oracle.operations import OPERATIONS  # noqa: E402
from refgrad.oracle.plan import named_cases  # noqa: E402
from refgrad.oracle.study import MISTAKEN_LAYER, REAL_LAYERS, SURVIVORS, Study, trials  # noqa: E402
from refgrad.oracle.tolerance import ENERGY_ROUNDINGS, TYPICAL_DEVIATIONS  # noqa: E402
from refgrad.oracle.variants import VARIANTS  # noqa: E402
from refgrad.rounding import LAPACK_THRESHOLD  # noqa: E402
from tests.oracle.implementations import torch_layer  # noqa: E402


def right_ones():
    """Return the library's variants, and those that need packages which refgrad does not."""
    found = dict(VARIANTS)
    with contextlib.suppress(ImportError):
        import threadpoolctl

        def two_threads(*arrays, **attributes):
            with threadpoolctl.threadpool_limits(2):
                return VARIANTS["LAPACK gesdd"](*arrays, **attributes)

        found["two BLAS threads"] = two_threads
    with contextlib.suppress(ImportError):
        import torch

        found["PyTorch"] = torch_layer(torch)
    return found


PAGE = Path(__file__).resolve().parents[1] / "docs" / "power.md"


def followed(studies, steps):
    """Run every step under a progress bar; after Ctrl-C, go on with what was found."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=len(steps))
        for operation, trial in steps:
            progress.update(task, description=trial.what)
            trial.run(studies.setdefault(operation, Study()))
            progress.advance(task)


def table(studies):
    """Return the Markdown table, a row for each operation."""
    lines = [
        "| operation | calls of right implementations | false alarms | suspect | inconclusive "
        "| worst measured over allowed, float64 / float32 | mistakes | caught | named as themselves |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for operation, study in studies.items():
        worst = " / ".join(
            f"{max((ratio for (_, _, found), ratio in study.worst.items() if found == dtype), default=0.0):.2f}"
            for dtype in ("float64", "float32")
        )
        caught = len(study.caught) - len(study.survivors)
        named = sum(each.rightly_named for each in study.caught)
        lines.append(
            f"| {operation} | {study.calls} | {len(study.alarms)} | {len(study.suspects)} | {study.inconclusive} "
            f"| {worst} | {len(study.caught)} | {caught} | {named} |"
        )
    return "\n".join(lines)


CONSTANTS = {
    "orthonormality": (LAPACK_THRESHOLD, "n u", "the defect of orthonormal columns"),
    "residual": (LAPACK_THRESHOLD, "sqrt(k) u s_1^2, beside the Gram matrix's own rounding", "a subspace's residual"),
    "energy": (ENERGY_ROUNDINGS, "(n + 1) u |A|^2", "the energy that a subspace lacks"),
    "typical": (TYPICAL_DEVIATIONS, "sqrt(n) u majorant", "an error that is not yet suspect"),
}
"""Tolerance -> its constant, what that multiplies, and what it bounds."""


def calibration(studies):
    """Return the Markdown table of the constants, and of how much of each something right needed."""
    lines = ["| tolerance | of | constant | needed by something right |", "|---|---|---|---|"]
    for name, (constant, unit, what) in CONSTANTS.items():
        share = max((study.used.get(name, 0.0) for study in studies.values()), default=0.0)
        lines.append(f"| {what} | {unit} | {constant:g} | {share * constant:.2g} |")
    return "\n".join(lines)


def page(studies, arguments, variants):
    """Return the whole page."""
    survivors = [each for study in studies.values() for each in study.survivors if each.operation in OPERATIONS]
    unseen = [each.mistake for each in studies.get("layers of real size", Study()).survivors]
    reasons = [f"- {each.operation}, {each.mistake}: {SURVIVORS.get((each.operation, each.mistake), 'UNEXPLAINED')}"
               for each in survivors]  # fmt: skip
    return f"""# How far the oracle can be trusted

A judge can be wrong in two ways: it calls something right wrong, or it misses a mistake. `make study` measures both and
writes this page (`--generated {arguments.generated} --seed {arguments.seed}`).

What is right: refgrad's own paths for every operation, and for conv2d {len(variants)} legitimate variants: other SVD
drivers, the Gram matrix, turned signs, columns rotated within a subspace, other orders of contraction, sums in blocks,
wider accumulators, other memory layouts, another number of threads, another library, and targets that return only some
of the results. They are {", ".join(variants)}. Named inputs are called again for relations and sequences of calls.

What is wrong: the library of mistakes, each made alone in an otherwise right implementation. A mistake counts as caught
where the row in which it shows fails for at least one input, and as named where the report's likely cause is just this
one.

{table(studies)}

"Layers of real size" are {"; ".join(REAL_LAYERS)} (batch x channels x height x width, kernel), each in both dtypes,
with an activation whose spectra fade in every mode. On {" in ".join(MISTAKEN_LAYER)} every mistake is made as well; the
diagnosis, which takes long on a layer of that size, is left out there. With pads of one width, one stride, no dilation,
one group and float32 the geometry's mistakes and those of a coarser dtype are none; not seen there:
{"; ".join(unseen) or "none"}.

The column "worst measured over allowed" is the margin: 1 would be a false alarm. Suspect verdicts passed the bound and
are looked at again on redrawn inputs. Inconclusive verdicts are ones in which right answers differ too much to tell, as
where a target shows no factors and the cut falls between equal singular values.

## The constants

Bounds on sums have no constant in them. These tolerances do; the last column is what they would have to be for nothing
right to fail in this study.

{calibration(studies)}

## Survivors

{chr(10).join(reasons) or "None: every mistake was caught."}
"""


def inputs_page(studies):
    """Return the page of the named inputs: what each is there for, and which mistakes fail on it."""
    sections = []
    for operation, study in studies.items():
        if operation not in OPERATIONS:
            continue
        lines = [f"## {operation}", "", "| input | what is wrong with who fails | flags | mistakes that fail |"]
        lines.append("|---|---|---|---|")
        for case in named_cases(operation):
            shown = study.shown.get((operation, case.name), [])
            alone = [name for name in shown if sum(name in others for others in study.shown.values()) == 1]
            mistakes = f"{len(shown)}" + (f"; alone: {', '.join(alone)}" if alone else "")
            lines.append(f"| {case.name} | {case.effect} | {', '.join(flags_of(case))} | {mistakes} |")
        sections.append("\n".join(lines))
    text = "\n\n".join(sections)
    return f"""# The named inputs

Every input that `refgrad check` tries by name, in its order, with its effect, its flags
([what they mean](oracle.md)) and how many of the library's mistakes fail on it; "alone" are those that fail on no other
input of the study, of which some are generated. `make study` writes this page.

{text}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generated", type=int, default=50, help="generated inputs an operation (50)")
    parser.add_argument("--seed", type=int, default=0, help="what they follow from (0)")
    parser.add_argument("--out", type=Path, default=PAGE, help="where the page goes (docs/power.md)")
    arguments = parser.parse_args()
    variants = right_ones()
    steps = [
        (operation, trial)
        for operation in OPERATIONS
        for trial in trials(
            generated=arguments.generated, seed=arguments.seed, real=False, operations=[operation], variants=variants
        )
    ]
    real = trials(generated=0, seed=0, real=True, operations=["conv2d"])
    steps += [("layers of real size", trial) for trial in real if trial.what.startswith(tuple(REAL_LAYERS))]
    studies = {}
    try:
        followed(studies, steps)
    except KeyboardInterrupt:
        print(table(studies))
        return 130
    arguments.out.write_text(page(studies, arguments, variants))
    arguments.out.with_name("inputs.md").write_text(inputs_page(studies))
    print(table(studies))
    for study in studies.values():
        print(*study.alarms, sep="\n", end="\n" if study.alarms else "")
    print(f"{sum(len(study.alarms) for study in studies.values())} false alarms, "
          f"{sum(len(study.unexplained) for study in studies.values())} unexplained survivors")  # fmt: skip
    return max(study.exit_code for study in studies.values())


if __name__ == "__main__":
    sys.exit(main())
