"""A program that speaks the record protocol, well or badly: `python programs.py BEHAVIOUR`."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from refgrad.oracle.foreign.records import CALL, ERROR, HELLO, NOT_CLAIMED, RESULT, read_record, record

HELLO_ITEMS = {"operations": "unfold", "dtypes": "float64"}


def write(data):
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def unfolded(items):
    (mode,) = items["mode"]
    matrix = np.moveaxis(items["tensor"], mode, 0).reshape(items["tensor"].shape[mode], -1)
    return record(RESULT, {"matrix": np.ascontiguousarray(matrix)})


def misbehave(behaviour, items):
    """Do what the behaviour says; return what is written."""
    right = unfolded(items)
    if behaviour == "hang":
        time.sleep(600)
    if behaviour == "exit":
        print("the last words", file=sys.stderr)
        sys.exit(3)
    if behaviour == "abort":
        os.abort()
    if behaviour == "exit halfway":
        write(right[:-5])
        sys.exit(4)
    if behaviour == "exit quietly":
        sys.exit(0)
    if behaviour == "close":
        os.close(1)
        time.sleep(600)
    if behaviour == "print":
        return b"unfolding ..." + right
    if behaviour == "checksum":
        return right[:-1] + bytes([right[-1] ^ 1])
    if behaviour == "error":
        return record(ERROR, {"message": "no memory left"})
    if behaviour == "error without a message":
        return record(ERROR, {})
    if behaviour == "not claimed":
        return record(NOT_CLAIMED, {"reason": "too large for this board"})
    if behaviour == "hello again":
        return record(HELLO, HELLO_ITEMS)
    if behaviour == "integers":
        return record(RESULT, {"matrix": (1, 2)})
    if behaviour == "unknown key":
        return record(RESULT, {"matrices": np.ones(1)})
    if behaviour == "much on stderr":
        for line in range(100_000):
            print("line", line, file=sys.stderr)
        sys.exit(5)
    if behaviour == "grandchild":  # which holds the pipes open when its parent has gone
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        sys.exit(6)
    return right


def main():
    behaviour = sys.argv[1]
    if behaviour == "silent":
        time.sleep(600)
    if behaviour == "no hello":
        write(record(RESULT, {}))
    elif behaviour == "nonsense":
        print("Hello, world! Usage: program [options]")
        return
    elif behaviour == "greets and leaves":
        sys.exit(7)
    elif behaviour == "unknown operation":
        write(record(HELLO, {"operations": "unfold fold"}))
    elif behaviour == "unknown dtype":
        write(record(HELLO, {"operations": "unfold", "dtypes": "float16"}))
    elif behaviour == "nothing offered":
        write(record(HELLO, {"dtypes": "float64"}))
    else:
        write(record(HELLO, HELLO_ITEMS))
    calls = 0
    while (came := read_record(sys.stdin.buffer)) is not None:
        kind, items = came
        assert kind == CALL
        calls += 1
        if "twice" in behaviour:  # the state that it keeps shows whether it was started anew
            write(record(RESULT, {"matrix": np.full((1, 1), float(calls))}))
        else:
            write(misbehave(behaviour, items))


if __name__ == "__main__":
    main()
