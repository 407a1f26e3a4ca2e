"""Golden vectors: inputs with what is right for them, frozen in a directory that anybody can read without refgrad.

`expected` says what holds for every right answer. `manifest` is what stands in the directory, read with suspicion.
`build` chooses and writes, `verify` holds a directory against refgrad, `export` turns it into other formats, and `log`
judges what a board printed.
"""

from refgrad.oracle.vectors.build import build
from refgrad.oracle.vectors.export import to_c_header, to_npz, to_pytest, to_safetensors
from refgrad.oracle.vectors.log import judge_log
from refgrad.oracle.vectors.manifest import CORPUS, Corpus, Vector, VectorsError, read_corpus
from refgrad.oracle.vectors.verify import verify

__all__ = [
    "CORPUS",
    "Corpus",
    "Vector",
    "VectorsError",
    "build",
    "judge_log",
    "read_corpus",
    "to_c_header",
    "to_npz",
    "to_pytest",
    "to_safetensors",
    "verify",
]
