"""The fixed text of what is exported.

In: nothing. Out: templates for `str.format`.
"""

from __future__ import annotations

from typing import Final

__all__ = ["C_HEADER", "C_TYPES", "PYTEST"]

C_TYPES: Final = """\
#define REFGRAD_AXES 8
#define REFGRAD_ARRAYS 16

/* An argument: its numbers as bits of float32, the last axis running fastest; where bits is 0, filled from the seed. */
struct refgrad_array {
    const char *name;
    int axes;
    int shape[REFGRAD_AXES];
    const uint32_t *bits;
    uint32_t seed;
};

/* A call. What an operation has no use for is 0. */
struct refgrad_case {
    const char *id, *operation;
    int kernel_size[2], stride[2], dilation[2]; /* height, width */
    int padding[4];                             /* top, bottom, left, right */
    int groups, mode;
    double explained_variance, learning_rate, momentum, weight_decay;
    int count;
    struct refgrad_array arrays[REFGRAD_ARRAYS];
};

/* Write an argument's numbers to memory; return how many there are. */
static inline size_t refgrad_load(const struct refgrad_array *array, float *numbers) {
    size_t count = 1;
    uint32_t state = array->seed;
    for (int axis = 0; axis < array->axes; axis++) count *= (size_t)array->shape[axis];
    for (size_t i = 0; i < count; i++) {
        if (array->bits != 0) {
            memcpy(numbers + i, array->bits + i, sizeof *numbers);
        } else {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            numbers[i] = (float)(state >> 24) / 64.0f - 2.0f;
        }
    }
    return count;
}

/* Print a result as `refgrad vectors judge` reads it; what else the device prints in between does no harm. */
static uint32_t refgrad_crc;

static inline void refgrad_word(uint32_t word) {
    refgrad_crc = ~refgrad_crc;
    for (int byte = 0; byte < 4; byte++) {
        refgrad_crc ^= word >> 8 * byte & 0xFFu;
        for (int bit = 0; bit < 8; bit++) refgrad_crc = (refgrad_crc >> 1) ^ (refgrad_crc & 1u ? 0xEDB88320u : 0u);
    }
    refgrad_crc = ~refgrad_crc;
    printf(" %08lx", (unsigned long)word);
}

static inline void refgrad_print_begin(const struct refgrad_case *vector) {
    refgrad_crc = 0;
    printf("@refgrad case %s\\n", vector->id);
}

static inline void refgrad_print_array(const char *name, int axes, const int *shape, const float *numbers) {
    size_t count = 1;
    printf("@refgrad array %s", name);
    for (int axis = 0; axis < axes; axis++) {
        printf(" %d", shape[axis]);
        count *= (size_t)shape[axis];
    }
    for (size_t i = 0; i < count; i++) {
        uint32_t word;
        memcpy(&word, numbers + i, sizeof word);
        if (i % 8 == 0) printf("\\n@refgrad bits");
        refgrad_word(word);
    }
    printf("\\n");
}

static inline void refgrad_print_integers(const char *name, const int *integers, int count) {
    printf("@refgrad integers %s", name);
    for (int i = 0; i < count; i++) refgrad_word((uint32_t)integers[i]);
    printf("\\n");
}

/* Instead of results: why the device does not take this one. */
static inline void refgrad_print_not_claimed(const char *reason) {
    printf("@refgrad not claimed %s\\n", reason);
}

static inline void refgrad_print_end(void) {
    printf("@refgrad end %08lx\\n", (unsigned long)refgrad_crc);
}
"""

C_HEADER: Final = """\
/* Golden vectors of refgrad, corpus {version}: {count} calls, at most {bytes} bytes of constants.
 *
 * Call your implementation for each of refgrad_cases, print what it returns between refgrad_print_begin and
 * refgrad_print_end, and judge what was printed: refgrad vectors judge LOG */
#ifndef REFGRAD_VECTORS_H
#define REFGRAD_VECTORS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

{types}
{arrays}

static const struct refgrad_case refgrad_cases[] = {{
{cases}
}};
enum {{ refgrad_count = sizeof refgrad_cases / sizeof refgrad_cases[0] }};

#endif
"""

PYTEST: Final = '''\
"""Golden vectors of refgrad, corpus {version}: {count} inputs, and what holds for every right answer to them.

Needs NumPy and pytest. What depends on the choice of singular vectors is not compared here: `refgrad check` judges
that as well.
"""

from pathlib import Path

import numpy as np
import pytest
from {module} import {name} as target

ARCHIVE = np.load(Path(__file__).with_name("{archive}"), allow_pickle=False)
NAMES = ARCHIVE.files


def under(prefix):
    """Return what stands under a path of the archive, by the rest of the path."""
    return {{name.removeprefix(prefix): ARCHIVE[name] for name in NAMES if name.startswith(prefix)}}


def arguments(inputs):
    """Return the arrays of a call in their order; factors are one tuple."""
    result = {{}}
    for name, array in inputs.items():
        if name.startswith("factors["):
            result["factors"] = (*result.get("factors", ()), array)
        else:
            result[name] = array
    return list(result.values())


def attribute(name, value):
    """Return an attribute as a call takes it."""
    if name == "padding":
        return tuple(tuple(int(number) for number in pair) for pair in value)
    return value.item() if value.ndim == 0 else tuple(int(number) for number in value)


def norm(array):
    """Return the Frobenius norm; the squares of large and small numbers neither overflow nor vanish."""
    largest = np.abs(array).max()
    return largest * np.linalg.norm(array / largest) if largest > 0 else largest


@pytest.mark.parametrize(("identity", "operation", "title"), ARCHIVE["index"].tolist())
def test_vector(identity, operation, title):
    function = getattr(target, operation, target if callable(target) and operation == "conv2d" else None)
    if function is None:
        pytest.skip(f"{{operation}} is not offered")
    attributes = {{name: attribute(name, value) for name, value in under(f"{{identity}}/attributes/").items()}}
    try:
        returned = function(*arguments(under(f"{{identity}}/inputs/")), **attributes)
    except NotImplementedError as error:
        pytest.skip(str(error) or "not claimed")
    expected = under(f"{{identity}}/expected/")
    for key in {{name.split("/")[0] for name in expected}}:
        if key not in returned:
            continue
        if f"{{key}}/integers" in expected:
            low, high = expected[f"{{key}}/integers"].T
            found = np.atleast_1d(np.asarray(returned[key]))
            assert found.shape == low.shape, key
            within = (low <= found) & (found <= high)
            assert within.all(), f"{{title}}: {{key}} is {{found}}, not from {{low}} to {{high}}"
            continue
        value = expected[f"{{key}}/value"]
        found = np.asarray(returned[key], np.float64)
        assert found.shape == value.shape, f"{{title}}: {{key}} has shape {{found.shape}}, not {{value.shape}}"
        if f"{{key}}/norm" in expected:
            assert norm(found - value) <= expected[f"{{key}}/norm"], f"{{title}}: {{key}}"
        else:
            allowed = expected.get(f"{{key}}/allowed", 0.0)
            assert (np.abs(found - value) <= allowed).all(), f"{{title}}: {{key}}"
'''
