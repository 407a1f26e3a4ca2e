"""Compiled loops as another processor would have them: with registers of another length.

In: how many float64 numbers a register holds, and a function of a test module, by its name. Out: what it returned, from
a process of its own.
"""

import os
import subprocess
import sys
from pathlib import Path

from refgrad.kernels.registers import REGISTER

ROOT = Path(__file__).resolve().parents[1]
VECTORS = (2, 4, 8)
PROGRAM = """
import importlib
import sys
import llvmlite.binding
import numba
numba.njit(lambda: None)  # numba asks for the processor's features here, and gets the true ones
features = {"8": ("avx512f", "avx"), "4": ("avx",), "2": ()}[sys.argv[1]]
type(llvmlite.binding.get_host_cpu_features()).get = lambda self, name, default=None: name in features
from refgrad.kernels.registers import REGISTER
assert REGISTER == 8 * int(sys.argv[1])
module, function = sys.argv[2].split(":")
print(getattr(importlib.import_module(module), function)())
"""


def run(vector, function, folder):
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    if 8 * vector != REGISTER:  # machine code of its own, which no other process may take for its
        environment["NUMBA_CACHE_DIR"] = str(folder)
    words = [sys.executable, "-c", PROGRAM, str(vector), function]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
