"""What somebody else wrote is read with suspicion: manifests, and logs of boards."""

import copy
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refgrad.oracle.vectors import VectorsError, build, read_corpus
from refgrad.oracle.vectors.log import read_log
from refgrad.oracle.vectors.manifest import write_corpus

FUZZED = settings(max_examples=100_000 if os.environ.get("REFGRAD_PROFILE") == "search" else 300)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vectors") / "v"
    write_corpus(build(["unfold"]), folder)
    return folder, json.loads((folder / "manifest.json").read_text())


def places(value, path=()):
    """Return the path of every value in a document."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


@FUZZED
@given(data=st.data())
def test_a_changed_manifest_is_refused_or_read_as_it_was(written, data):
    folder, document = written
    changed = copy.deepcopy(document)
    path = data.draw(st.sampled_from(list(places(document))[1:]))
    parent = changed
    for key in path[:-1]:
        parent = parent[key]
    kind = data.draw(st.sampled_from(["replace", "remove", "add"]))
    if kind == "remove":
        del parent[path[-1]]
    elif kind == "add" and isinstance(parent, dict):
        parent[data.draw(st.text(max_size=5))] = data.draw(JSON)
    else:
        parent[path[-1]] = data.draw(JSON)
    (folder / "manifest.json").write_text(json.dumps(changed))
    try:
        corpus = read_corpus(folder)
    except VectorsError:
        return
    assert {vector.id for vector in corpus.vectors} <= {entry["id"] for entry in document["vectors"]}


@FUZZED
@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_no_manifest(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp()
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(VectorsError):
        read_corpus(folder)


WORDS = st.sampled_from(
    [
        "case",
        "array",
        "bits",
        "integers",
        "not",
        "claimed",
        "end",
        "m",
        "1",
        "2",
        "-1",
        "99999999",
        "3f800000",
        "abc",
        "",
    ]
)
LINES = st.one_of(st.text(max_size=20), st.lists(WORDS, max_size=6).map(lambda words: "@refgrad " + " ".join(words)))


@FUZZED
@given(st.lists(LINES, max_size=12))
def test_any_log_is_read(lines):
    for answered in read_log(lines):
        assert answered.fault is None or not answered.results
