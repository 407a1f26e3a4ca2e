"""A directory of golden vectors: what stands in its manifest and its blobs, read with suspicion.

In: vectors, or a directory that somebody else wrote. Out: files, the same bytes for the same vectors; or a `Corpus`,
and a `VectorsError` that says which file and which place in it is wrong. Nothing is unpickled, and no file is read
before its size is known to be what the manifest says.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from refgrad.arguments import Array
from refgrad.oracle.cases import AnyCase, Case
from refgrad.oracle.derived import filled
from refgrad.oracle.flags import FLAGS
from refgrad.oracle.ladder.cases import LadderCase, each_array
from refgrad.oracle.operations import OPERATIONS
from refgrad.oracle.vectors.expected import Entries, Expected, Integers, Norm

__all__ = ["CORPUS", "Corpus", "Vector", "VectorsError", "identity_of", "read_corpus", "real_of", "write_corpus"]

CORPUS: Final = Path(__file__).with_name("corpus")
"""The directory that comes with refgrad."""

SCHEMA: Final = "refgrad-vectors/1"
LARGEST_MANIFEST: Final = 2**24
LARGEST_ARRAY: Final = 2**24

Seeds = Mapping[str, int]


class VectorsError(ValueError):
    """A directory of vectors that cannot be used."""


@dataclass(frozen=True, slots=True, eq=False)
class Vector:
    """One input, what is right for it, and what it is there for.

    Parameters
    ----------
    case : Case or LadderCase
        The input.
    expected : mapping
        Result -> what holds for every right answer; see `expected_of`.
    flags : tuple of str
        Of `FLAGS`.
    kills : tuple of str
        The mistakes that it shows.
    seeds : mapping
        Array -> the seed that it is filled from; empty where the arrays stand in blobs.
    result : str
        "must" where a right implementation has to meet what is expected, "may" where it need not take the input.
    """

    case: AnyCase
    expected: Mapping[str, Expected]
    flags: tuple[str, ...]
    kills: tuple[str, ...]
    seeds: Seeds
    result: str = "must"

    @property
    def id(self) -> str:
        """The name of the input: 16 hexadecimal digits of the hash of all that goes into the call."""
        return identity_of(self.case)

    @property
    def tier(self) -> str:
        """Whether nothing may differ ("exact"), or rounding is allowed for ("bounded")."""
        return "exact" if all(map(_is_exact, self.expected.values())) else "bounded"


def _is_exact(expected: Expected) -> bool:
    if isinstance(expected, Entries):
        return expected.allowed is None or not expected.allowed.any()
    return isinstance(expected, Integers)


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """A directory of vectors.

    Parameters
    ----------
    version : str
        "major.minor".
    vectors : tuple of Vector
        In the order of their identities.
    errata : tuple of str
        What was wrong in earlier versions.
    """

    version: str
    vectors: tuple[Vector, ...]
    errata: tuple[str, ...] = ()

    def find(self, identity: str) -> Vector:
        """Return a vector by its identity, or by the first digits of it.

        Raises
        ------
        VectorsError
            Where there is none, or several.
        """
        found = [vector for vector in self.vectors if identity and vector.id.startswith(identity)]
        if len(found) != 1:
            raise VectorsError(f"{len(found)} of {len(self.vectors)} vectors have an id that begins with {identity!r}")
        return found[0]


def real_of(value: float) -> str:
    """Return the 16 hexadecimal digits of a binary64.

    Examples
    --------
    >>> real_of(1.0)
    '3ff0000000000000'
    """
    return struct.pack(">d", value).hex()


def identity_of(case: AnyCase) -> str:
    """Return the identity of a case: of its operation, dtype, attributes, and the numbers of its arrays.

    Examples
    --------
    >>> from refgrad.oracle import find_case_of
    >>> identity_of(find_case_of("unfold", "vector, mode 0"))
    '04a2168abf522611'
    """
    arrays = {
        _named(name, number): [list(array.shape), hashlib.sha256(_bits(array)).hexdigest()]
        for name, number, array in each_array(case.parts)
    }
    content = [case.operation, str(case.dtype), _explained(case), _attributes(case), arrays, case.layout]
    return hashlib.sha256(_compact(content).encode()).hexdigest()[:16]


def _named(name: str, number: int | None) -> str:
    return name if number is None else f"{name}[{number}]"


def _bits(array: Array) -> bytes:
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()


def _explained(case: AnyCase) -> str | None:
    given = "explained_variance" in OPERATIONS[case.operation].attributes
    return str(case.explained_variance) if given else None


def _attributes(case: AnyCase) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, kind in OPERATIONS[case.operation].attributes.items():
        value = case.attributes[name]
        if kind == "real":
            result[name] = real_of(value)
        elif kind in ("pair", "pads"):
            result[name] = [int(number) for number in np.ravel(value)]
        elif kind == "integer":
            result[name] = int(value)
    return result


def _compact(content: object) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


# ---- writing


def write_corpus(corpus: Corpus, folder: Path) -> None:
    """Write a corpus into a folder that is empty or not there: the same bytes every time.

    Raises
    ------
    VectorsError
        Where the folder holds something, or two vectors are the same.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise VectorsError(f"{folder} is not empty; name a folder that is, or that is not there yet")
    identities = [vector.id for vector in corpus.vectors]
    if len(set(identities)) < len(identities):
        raise VectorsError("two vectors are the same")
    blobs: dict[str, bytes] = {}
    entries = [_entry(vector, blobs) for vector in sorted(corpus.vectors, key=lambda vector: vector.id)]
    used = {flag for vector in corpus.vectors for flag in vector.flags}
    notes = {
        name: {
            "bugType": flag.kind,
            "description": flag.description,
            "effect": flag.effect,
            "links": list(flag.theory),
        }
        for name, flag in FLAGS.items()
        if name in used
    }
    manifest = {
        "schema": SCHEMA,
        "version": corpus.version,
        "errata": list(corpus.errata),
        "notes": notes,
        "vectors": entries,
    }
    (folder / "blobs").mkdir(parents=True, exist_ok=True)
    for name, content in blobs.items():
        (folder / "blobs" / name).write_bytes(content)
    text = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=True) + "\n"
    (folder / "manifest.json").write_bytes(text.encode("ascii"))


def _entry(vector: Vector, blobs: dict[str, bytes]) -> dict[str, object]:
    def kept(array: Array) -> str:
        content = _bits(array)
        name = hashlib.sha256(content).hexdigest()
        blobs[name] = content
        return name

    inputs: dict[str, object] = {}
    for name, number, part in each_array(vector.case.parts):
        key = _named(name, number)
        numbers: dict[str, object] = {"xorshift32": vector.seeds[key]} if key in vector.seeds else {"bits": kept(part)}
        inputs[key] = {"shape": list(part.shape), **numbers}
    expected: dict[str, object] = {}
    for key, each in vector.expected.items():
        if isinstance(each, Integers):
            expected[key] = {"integers": [list(interval) for interval in each.intervals]}
            continue
        array: dict[str, object] = {"shape": list(each.value.shape), "bits": kept(each.value)}
        if isinstance(each, Norm):
            expected[key] = {**array, "norm": real_of(each.allowed)}
        else:
            expected[key] = {**array, "allowed": None if each.allowed is None else kept(each.allowed)}
    case = vector.case
    return {
        "id": vector.id,
        "operation": case.operation,
        "name": case.name,
        "dtype": str(case.dtype),
        "tier": vector.tier,
        "result": vector.result,
        "layout": case.layout,
        "effect": case.effect,
        "flags": list(vector.flags),
        "kills": sorted(vector.kills),
        "explained_variance": _explained(case),
        "attributes": _attributes(case),
        "inputs": inputs,
        "expected": expected,
    }


# ---- reading


def read_corpus(folder: Path) -> Corpus:
    """Read a directory of vectors.

    Parameters
    ----------
    folder : Path
        Where its manifest.json is.

    Raises
    ------
    VectorsError
        Where anything in it is not as the schema says, a blob is missing, has another size or other content, or a
        vector's identity is not that of its input.

    Examples
    --------
    >>> read_corpus(Path("no such folder"))
    Traceback (most recent call last):
        ...
    refgrad.oracle.vectors.manifest.VectorsError: no such folder/manifest.json cannot be read: No such file or directory
    """
    path = folder / "manifest.json"
    try:
        if path.stat().st_size > LARGEST_MANIFEST:
            raise VectorsError(f"{path} has more than {LARGEST_MANIFEST} bytes")
        document = json.loads(path.read_bytes().decode("utf-8"), parse_constant=_refused)
    except OSError as error:
        raise VectorsError(f"{path} cannot be read: {error.strerror or error}") from None
    except RecursionError:
        raise VectorsError(f"{path} is nested too deeply") from None
    except UnicodeDecodeError:
        raise VectorsError(f"{path} is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise VectorsError(f"{path} is no JSON: {error}") from None
    except VectorsError:
        raise
    except ValueError as error:  # an integer of thousands of digits
        raise VectorsError(f"{path} cannot be read: {error}") from None
    fault = next(iter(_validator().iter_errors(document)), None)
    if fault is not None:
        where = "/".join(str(part) for part in fault.absolute_path) or "the top"
        raise VectorsError(f"{path}, at {where}: {fault.message[:300]}")
    vectors = []
    for entry in document["vectors"]:
        try:
            vectors.append(_vector(entry, folder / "blobs"))
        except (ValueError, TypeError, OverflowError, ZeroDivisionError) as error:
            raise VectorsError(f"{path}, vector {entry['id']}: {error}") from None
    identities = [vector.id for vector in vectors]
    if identities != sorted(set(identities)):
        raise VectorsError(f"{path}: the vectors are not in the order of their ids, each once")
    missing = sorted({flag for vector in vectors for flag in vector.flags} - set(document["notes"]))
    if missing:
        raise VectorsError(f"{path}: notes do not explain {', '.join(missing)}")
    return Corpus(document["version"], tuple(vectors), tuple(document["errata"]))


def _refused(constant: str) -> object:
    raise VectorsError(f"the manifest holds {constant}, which is no JSON")


@cache
def _validator() -> Any:
    from jsonschema import Draft202012Validator  # it takes as long to import as NumPy

    schema = json.loads(Path(__file__).with_name("manifest.schema.json").read_text())
    return Draft202012Validator(schema)


def _vector(entry: Mapping[str, Any], blobs: Path) -> Vector:
    operation = entry["operation"]
    if operation not in OPERATIONS:
        raise VectorsError(f"there is no operation {operation!r}")
    dtype = np.dtype(entry["dtype"])
    seeds = {name: each["xorshift32"] for name, each in entry["inputs"].items() if "xorshift32" in each}
    arrays = {name: _input(each, dtype, blobs) for name, each in entry["inputs"].items()}
    case = _case(entry, arrays)
    if identity_of(case) != entry["id"]:
        raise VectorsError(f"its input has the id {identity_of(case)}")
    expected = {key: _expectation(each, blobs) for key, each in entry["expected"].items()}
    for key in expected:
        if key not in OPERATIONS[operation].results:
            raise VectorsError(f"{operation} has no result {key!r}")
    vector = Vector(case, expected, tuple(entry["flags"]), tuple(entry["kills"]), seeds, entry["result"])
    if vector.tier != entry["tier"]:
        raise VectorsError(f"its tier is {vector.tier}, not {entry['tier']}")
    return vector


def _input(each: Mapping[str, Any], dtype: np.dtype[Any], blobs: Path) -> Array:
    shape = _shape(each)
    if "xorshift32" in each:
        return filled(each["xorshift32"], shape).astype(dtype)
    return _blob(blobs, each["bits"], shape, dtype)


def _shape(each: Mapping[str, Any]) -> tuple[int, ...]:
    shape = tuple(each["shape"])
    if math.prod(shape) > LARGEST_ARRAY:
        raise VectorsError(f"shape {shape} holds more than {LARGEST_ARRAY} numbers")
    return shape


def _blob(blobs: Path, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    path, size = blobs / name, math.prod(shape) * dtype.itemsize
    try:
        found = path.stat().st_size
        content = path.read_bytes() if found == size else b""
    except OSError as error:
        raise VectorsError(f"blob {name} cannot be read: {error.strerror or error}") from None
    if found != size:
        raise VectorsError(f"blob {name} has {found} bytes; {shape} of {dtype} has {size}")
    if hashlib.sha256(content).hexdigest() != name:
        raise VectorsError(f"blob {name} has other content than its name says")
    return np.frombuffer(content, dtype.newbyteorder("<")).astype(dtype).reshape(shape)


def _expectation(each: Mapping[str, Any], blobs: Path) -> Expected:
    if "integers" in each:
        return Integers(tuple((low, high) for low, high in each["integers"]))
    shape, double = _shape(each), np.dtype(np.float64)
    value = _blob(blobs, each["bits"], shape, double)
    if "norm" in each:
        return Norm(value, struct.unpack(">d", bytes.fromhex(each["norm"]))[0])
    return Entries(value, None if each["allowed"] is None else _blob(blobs, each["allowed"], shape, double))


def _case(entry: Mapping[str, Any], arrays: Mapping[str, Array]) -> AnyCase:
    operation, name = entry["operation"], entry["name"]
    parts: dict[str, Any] = {}
    for key in OPERATIONS[operation].arrays:
        if key == "factors":
            count = sum(each.startswith("factors[") for each in arrays)
            parts[key] = tuple(_wanted(arrays, f"factors[{number}]") for number in range(count))
        else:
            parts[key] = _wanted(arrays, key)
    extra = len(arrays) - sum(len(part) if isinstance(part, tuple) else 1 for part in parts.values())
    if extra:
        raise VectorsError(f"{operation} takes {', '.join(parts)}; got {', '.join(arrays)}")
    given = {key: _given(kind, key, entry["attributes"]) for key, kind in _kinds(operation).items()}
    if set(given) != set(entry["attributes"]):
        raise VectorsError(f"{operation} has attributes {', '.join(given)}; got {', '.join(entry['attributes'])}")
    share = entry["explained_variance"]
    if (share is None) == ("explained_variance" in OPERATIONS[operation].attributes):
        raise VectorsError(f"explained_variance of {operation} is {share}")
    options: dict[str, Any] = {"layout": entry["layout"], "effect": entry["effect"]}
    if share is not None:
        options["explained_variance"] = Fraction(share)
    if operation == "conv2d":
        return Case(name, **parts, **given, **options)
    return LadderCase(operation, name, parts, given, **options)


def _kinds(operation: str) -> dict[str, str]:
    return {key: kind for key, kind in OPERATIONS[operation].attributes.items() if kind != "fraction"}


def _wanted(found: Mapping[str, Any], key: str) -> Any:
    if key not in found:
        raise VectorsError(f"{key} is missing")
    return found[key]


def _given(kind: str, key: str, attributes: Mapping[str, Any]) -> Any:
    value = _wanted(attributes, key)
    if kind == "real" and isinstance(value, str):
        return struct.unpack(">d", bytes.fromhex(value))[0]
    if kind == "integer" and isinstance(value, int):
        return value
    if kind == "pair" and isinstance(value, Sequence) and len(value) == 2:
        return tuple(value)
    if kind == "pads" and isinstance(value, Sequence) and len(value) == 4:
        return (tuple(value[:2]), tuple(value[2:]))
    raise VectorsError(f"{key} must be of the kind {kind}, got {value!r}")
