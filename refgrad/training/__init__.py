"""Training with compressed activations, on real data, with records.

In: a dataset, methods to keep activations, settings. Out: trained networks, checkpoints to go on from, and a record of
loss, accuracy, memory and gradient error for every epoch, as JSON and as a picture.
"""

from refgrad.training.checkpoint import Checkpoint, CheckpointError, checkpoint_path
from refgrad.training.interruption import Interruption
from refgrad.training.loop import Reporter, Run, SilentReporter
from refgrad.training.records import EpochRecord, RunRecord, results_document, write_results
from refgrad.training.settings import STORES, Method, Settings, methods
from refgrad.training.side_by_side import prepare_runs, train_side_by_side
from refgrad.training.step import GradientComparison, Step, compare_with_exact, take_step

__all__ = [
    "STORES",
    "Checkpoint",
    "CheckpointError",
    "EpochRecord",
    "GradientComparison",
    "Interruption",
    "Method",
    "Reporter",
    "Run",
    "RunRecord",
    "Settings",
    "SilentReporter",
    "Step",
    "checkpoint_path",
    "compare_with_exact",
    "methods",
    "prepare_runs",
    "results_document",
    "take_step",
    "train_side_by_side",
    "write_results",
]
