"""Vectors in other formats: .npz, safetensors, a C header for boards, a test file for pytest.

In: a corpus. Out: bytes or text, the same every time.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from refgrad.arguments import Array
from refgrad.oracle.ladder.cases import each_array
from refgrad.oracle.vectors.expected import Integers, Norm
from refgrad.oracle.vectors.manifest import Corpus, Vector, VectorsError
from refgrad.oracle.vectors.templates import C_HEADER, C_TYPES, PYTEST

__all__ = ["named_arrays", "to_c_header", "to_npz", "to_pytest", "to_safetensors"]


def named_arrays(corpus: Corpus) -> Iterator[tuple[str, Array]]:
    """Yield every array of a corpus by its path.

    "ID/inputs/NAME" and "ID/attributes/NAME" are what goes into the call. "ID/expected/RESULT/value" and "/allowed" are
    an array and what each of its entries may be off by, "/norm" what the whole may be off by in the Frobenius norm,
    "/integers" the least and the largest value, (n, 2). Where "/allowed" and "/norm" are absent no bit may differ.
    """
    for vector in corpus.vectors:
        for name, number, array in each_array(vector.case.parts):
            yield f"{vector.id}/inputs/{name}" + ("" if number is None else f"[{number}]"), array
        for name, value in vector.case.attributes.items():
            dtype = np.float64 if isinstance(value, float) else np.int64
            yield f"{vector.id}/attributes/{name}", np.array(value, dtype)
        for key, expected in vector.expected.items():
            path = f"{vector.id}/expected/{key}"
            if isinstance(expected, Integers):
                yield f"{path}/integers", np.array(expected.intervals, np.int64)
                continue
            yield f"{path}/value", expected.value
            if isinstance(expected, Norm):
                yield f"{path}/norm", np.array(expected.allowed)
            elif expected.allowed is not None:
                yield f"{path}/allowed", expected.allowed


def to_npz(corpus: Corpus) -> bytes:
    """Return a NumPy archive of `named_arrays`, and "index": id, operation and name of every vector.

    Examples
    --------
    >>> from refgrad.oracle.vectors.build import build
    >>> archive = np.load(io.BytesIO(to_npz(build(["rank"]))))
    >>> archive["index"].shape[1]
    3
    """
    index = np.array([[vector.id, vector.case.operation, vector.case.name] for vector in corpus.vectors], np.str_)
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in (("index", index), *named_arrays(corpus)):
            content = io.BytesIO()
            np.lib.format.write_array(content, np.ascontiguousarray(array).reshape(array.shape), allow_pickle=False)
            # numpy.savez would write the time of day into the archive.
            member = zipfile.ZipInfo(f"{name}.npy")
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, content.getvalue())
    return result.getvalue()


def to_safetensors(corpus: Corpus) -> bytes:
    """Return a safetensors file of `named_arrays`; its metadata's one entry, "index", is id -> operation, name in JSON.

    Raises
    ------
    VectorsError
        Where the package safetensors is not installed.
    """
    try:
        from safetensors.numpy import save
    except ImportError:
        raise VectorsError("this needs the package safetensors: pip install refgrad[safetensors]") from None
    index = {vector.id: [vector.case.operation, vector.case.name] for vector in corpus.vectors}
    arrays = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in named_arrays(corpus)}
    content: bytes = save(arrays, metadata={"index": json.dumps(index)})  # several entries would come in any order
    return content


# ---- C


BYTES_OF_A_CASE: Final = 512
"""What one entry of the table takes on a 64-bit device, its texts included: on small ones it is less."""


def to_c_header(corpus: Corpus, *, flash: int | None = None, operations: Sequence[str] = ()) -> str:
    """Return a C99 header with the float32 inputs, as bit patterns, or as seeds where those show as much.

    Parameters
    ----------
    corpus : Corpus
        The vectors.
    flash : int, optional
        How many bytes the constants may take; vectors that show the most for their size come first. All where absent.
    operations : sequence of str
        Which; all where empty.

    Raises
    ------
    VectorsError
        Where not one vector fits.
    """
    chosen = [
        vector
        for vector in corpus.vectors
        if vector.case.dtype == np.float32 and (not operations or vector.case.operation in operations)
    ]
    chosen = _fitting(chosen, flash)
    if not chosen:
        what = f" of {', '.join(operations)}" if operations else ""
        room = "" if flash is None else f" that takes {flash} bytes or fewer"
        raise VectorsError(f"there is no float32 vector{what}{room}")
    arrays, cases = [], []
    for vector in chosen:
        entries = []
        for name, number, array in each_array(vector.case.parts):
            key = name if number is None else f"{name}[{number}]"
            shape = ", ".join(map(str, array.shape))
            seed = vector.seeds.get(key, 0)
            symbol = "0"
            if not seed:
                symbol = f"refgrad_{vector.id}_{name}{'' if number is None else number}"
                arrays.append(f"static const uint32_t {symbol}[{array.size}] = {{\n{_words(array)}\n}};")
            entries.append(f'        {{"{key}", {array.ndim}, {{{shape}}}, {symbol}, 0x{seed:08x}u}},')
        cases.append(_c_case(vector, entries))
    total = sum(map(_flash_of, chosen))
    return C_HEADER.format(
        version=corpus.version,
        count=len(chosen),
        bytes=total,
        types=C_TYPES,
        arrays="\n".join(arrays),
        cases="\n".join(cases),
    )


def _c_case(vector: Vector, entries: Sequence[str]) -> str:
    case, given = vector.case, vector.case.attributes
    pair = {name: given.get(name, (0, 0)) for name in ("kernel_size", "stride", "dilation")}
    pads = [number for edge in given.get("padding", ((0, 0), (0, 0))) for number in edge]
    share = f"{float(case.explained_variance):.17g}" if "explained_variance" in given else "0"
    reals = ", ".join(f"{given.get(name, 0.0):.17g}" for name in ("learning_rate", "momentum", "weight_decay"))
    rest = f"{given.get('groups', 0)}, {given.get('mode', 0)}, {share}, {reals}"
    pairs = ", ".join(f"{{{first}, {second}}}" for first, second in pair.values())
    edges, body = ", ".join(map(str, pads)), "\n".join(entries)
    head = f'    {{"{vector.id}", "{case.operation}", {pairs}, {{{edges}}}, {rest}, {len(entries)}, {{'
    return f"{head}\n{body}\n    }}}},"


def _words(array: Array) -> str:
    words = [f"0x{word:08x}" for word in np.ascontiguousarray(array, np.float32).view(np.uint32).ravel()]
    return "\n".join("    " + ", ".join(words[start : start + 8]) + "," for start in range(0, len(words), 8))


def _flash_of(vector: Vector) -> int:
    stored = sum(
        array.nbytes
        for name, number, array in each_array(vector.case.parts)
        if (name if number is None else f"{name}[{number}]") not in vector.seeds
    )
    return stored + BYTES_OF_A_CASE


def _fitting(vectors: Sequence[Vector], flash: int | None) -> list[Vector]:
    """Choose vectors that fit, each time the one that adds the most mistakes and flags for its bytes."""
    if flash is None:
        return list(vectors)
    shown: set[tuple[str, str, str]] = set()
    chosen: list[Vector] = []
    waiting, room = list(vectors), flash
    while True:
        fitting = [vector for vector in waiting if _flash_of(vector) <= room and _shows(vector) - shown]
        if not fitting:
            return sorted(chosen, key=lambda vector: vector.id)
        best = max(fitting, key=lambda vector: (len(_shows(vector) - shown) / _flash_of(vector), vector.id))
        chosen.append(best)
        waiting.remove(best)
        shown |= _shows(best)
        room -= _flash_of(best)


def _shows(vector: Vector) -> set[tuple[str, str, str]]:
    operation = vector.case.operation
    return {(operation, "mistake", name) for name in vector.kills} | {
        (operation, "flag", name) for name in vector.flags
    }


# ---- pytest


def to_pytest(corpus: Corpus, *, archive: str, target: str) -> str:
    """Return a test file that needs NumPy and pytest only, beside an archive of `to_npz`.

    Parameters
    ----------
    corpus : Corpus
        The vectors.
    archive : str
        The name of the archive, beside the test file.
    target : str
        "module:name": a function, which is taken for conv2d, or an object with one for every operation.

    Raises
    ------
    VectorsError
        Where the target is not written so.
    """
    module, colon, name = target.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module.split("."), *name.split("."))):
        raise VectorsError(f"a target is written module:name, got {target!r}")
    return PYTEST.format(version=corpus.version, count=len(corpus.vectors), archive=archive, module=module, name=name)
