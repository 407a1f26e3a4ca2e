"""Train on the digits with every method over several seeds, and write the table of docs/results.md.

    python benchmarks/digits_study.py                # about 15 minutes on two cores
    python benchmarks/digits_study.py --resume       # goes on after Ctrl-C, bit for bit

Writes study.json, and the folder of `refgrad train` for each seed, into --out; prints the table in Markdown.
"""

import argparse
import json
import sys
from pathlib import Path
from statistics import mean

from rich.console import Console

from refgrad.datasets import digits
from refgrad.training import Interruption, Method, Settings, prepare_runs, train_side_by_side
from refgrad.training.records import versions
from refgrad.training.terminal import TerminalReporter

VARIANCES = (0.8, 0.9, 0.95, 0.99)
WITH_NORM = (Method("exact"), *(Method(store, value) for store in ("hosvd", "svd") for value in VARIANCES))
WITHOUT_NORM = (Method("exact"), Method("hosvd", 0.8))
HEADINGS = (
    "batch norm",
    "store",
    "explained variance",
    "test accuracy in %, mean (each seed)",
    "points below exact",
    "times fewer numbers, mean (each seed)",
    "gradient error",
    "bound",
    "seconds",
)


def study(seeds, epochs, folder, *, resume, console):
    """Run everything; return the records by (norm, seed), and whether Ctrl-C was pressed."""
    results = {}
    with Interruption() as interrupted:
        for norm, methods in ((True, WITH_NORM), (False, WITHOUT_NORM)):
            for seed in seeds:
                settings = Settings(epochs=epochs, seed=seed, norm=norm)
                place = folder / f"{'norm' if norm else 'no-norm'}-seed-{seed}"
                data = digits(seed=seed, scaling="standard")
                goes_on = resume and any(place.glob("checkpoint-*.npz"))
                runs = prepare_runs(data, methods, settings, place, resume=goes_on)
                console.rule(str(place))
                reporter = TerminalReporter(console, len(runs))
                results[norm, seed] = train_side_by_side(runs, place, should_stop=interrupted, reporter=reporter)
                if interrupted():
                    return results, True
    return results, False


def rows(results):
    """Return the table's rows, a dict each, for records by (norm, seed)."""
    seeds = sorted({seed for _, seed in results})
    table = []
    for norm in sorted({norm for norm, _ in results}, reverse=True):
        exact = [
            record.test_accuracy for seed in seeds for record in results[norm, seed] if record.method.store == "exact"
        ]
        for position, record in enumerate(results[norm, seeds[0]]):
            runs = [results[norm, seed][position] for seed in seeds]
            alive = [run for run in runs if run.status == "finished"]
            accuracies = [run.test_accuracy for run in runs]
            below = None
            if len(alive) == len(runs) and None not in exact:
                below = 100 * (mean(exact) - mean(accuracies))
            table.append(
                {
                    "norm": norm,
                    "store": record.method.store,
                    "explained_variance": record.method.explained_variance,
                    "seeds": seeds,
                    "test_accuracy": accuracies,
                    "status": [run.status for run in runs],
                    "points_below_exact": below,
                    "stored_numbers": [run.stored_numbers for run in runs],
                    "times_fewer": [run.times_fewer for run in runs],
                    "gradient_error": [run.gradient_error for run in runs],
                    "gradient_bound": [run.gradient_bound for run in runs],
                    "seconds": [run.seconds for run in runs],
                }
            )
    return table


def markdown(table):
    """Return the rows as a Markdown table."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
    for row in table:
        variance = row["explained_variance"]
        cells = (
            "yes" if row["norm"] else "no",
            row["store"],
            "" if variance is None else f"{variance:g}",
            _mean_and_each([None if a is None else 100 * a for a in row["test_accuracy"]], row["status"]),
            "" if row["points_below_exact"] is None else f"{row['points_below_exact']:.1f}",
            _mean_and_each(row["times_fewer"], row["status"]),
            _mean(row["gradient_error"]),
            _mean(row["gradient_bound"]),
            _mean(row["seconds"]),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _mean_and_each(values, status):
    known = [value for value in values if value is not None]
    each = ", ".join(s if v is None else f"{v:.1f}" for v, s in zip(values, status, strict=True))
    return f"{mean(known):.1f} ({each})" if known else each


def _mean(values):
    known = [value for value in values if value is not None]
    return f"{mean(known):.3g}" if known else ""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("runs/digits-study"))
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoints in --out")
    options = parser.parse_args()
    results, stopped = study(
        options.seeds, options.epochs, options.out, resume=options.resume, console=Console(stderr=True)
    )
    if stopped:
        print("Stopped by Ctrl-C; the same command with --resume goes on.", file=sys.stderr)
        return 130
    table = rows(results)
    document = {"versions": versions(), "epochs": options.epochs, "seeds": options.seeds, "rows": table}
    (options.out / "study.json").write_text(json.dumps(document, indent=2, allow_nan=False) + "\n")
    print(markdown(table))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
