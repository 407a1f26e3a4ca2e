"""The tolerances: that they hold, that they are not loose, and that no other number decides anything."""

import ast
import math
import pathlib
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import refgrad.oracle
from refgrad.oracle import tolerance
from refgrad.rounding import unit_roundoff

FOLDER = pathlib.Path(refgrad.oracle.__file__).parent
INPUTS = ("catalogue.py", "ladder/decompositions.py", "ladder/layers.py")
"""The values of named inputs, which decide nothing."""

FILES = sorted(path for path in FOLDER.rglob("*.py") if str(path.relative_to(FOLDER)) not in ("tolerance.py", *INPUTS))
PACKAGE = sorted(pathlib.Path(refgrad.__file__).parent.rglob("*.py"))
HARMLESS = {0.0, 1.0, 2.0, 4.0, 64.0, 4096.0, 1 / 64}
"""Not tolerances: identities, halves and the spectra of the catalogue."""


def numbers_and_names(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, float):
            yield node.value
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.keyword):
            yield node.arg


def offences(path):
    forbidden = {"rtol", "atol", "allclose", "isclose", "assert_allclose", "approx", "finfo"}
    return [
        found for found in numbers_and_names(path)
        if (isinstance(found, float) and found not in HARMLESS) or (isinstance(found, str) and found in forbidden)
    ]  # fmt: skip


def test_nothing_in_the_package_compares_by_a_tolerance_given_by_hand():
    for path in PACKAGE:
        assert not {"rtol", "atol", "assert_allclose", "approx"} & set(numbers_and_names(path)), path


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_tolerance_stands_outside_tolerance_py(path):
    assert offences(path) == []


def test_the_search_for_tolerances_can_fail(tmp_path):
    path = tmp_path / "judge.py"
    path.write_text("import numpy as np\nok = np.allclose(a, b, rtol=1e-3)\n")
    assert sorted(map(str, offences(path))) == ["0.001", "allclose", "rtol"]


vectors = st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=40)


@given(vectors, vectors, st.sampled_from([np.float32, np.float64]), st.permutations(range(40)))
def test_T15_sum_bound_holds_for_any_order(first, second, dtype, order):
    n = min(len(first), len(second))
    x, y = np.array(first[:n], dtype), np.array(second[:n], dtype)
    exact = sum((Fraction(float(a)) * Fraction(float(b)) for a, b in zip(x, y, strict=True)), Fraction(0))
    total = dtype(0)
    for index in (i for i in order if i < n):
        total = dtype(total + x[index] * y[index])
    majorant = np.abs(x.astype(np.float64)) @ np.abs(y.astype(np.float64))
    allowed = tolerance.sum_bound(n, np.array(majorant), dtype)
    assert abs(Fraction(float(total)) - exact) <= Fraction(float(allowed))


def test_T15_sum_bound_is_nearly_attained():
    """1 + u, rounded to even n - 1 times: each addition of u to 1 is lost, and the sum is off by almost gamma_n."""
    n, u = 1000, unit_roundoff(np.float64)
    terms = np.array([1.0] + [u] * (n - 1))
    total = 0.0
    for term in terms:
        total += term
    error = abs(math.fsum(terms) - total)
    allowed = float(tolerance.sum_bound(n, np.array(terms.sum()), np.float64))
    assert allowed / 3 < error <= allowed


def test_sum_bound_is_zero_where_nothing_is_summed():
    assert tolerance.sum_bound(9, np.array([0.0, 1.0]), np.float64)[0] == 0.0


def test_nothing_is_allowed_of_nothing_even_where_a_sum_is_too_long_for_its_format():
    long = 10**4
    assert tolerance.sum_bound(long, np.ones(1), np.float16) == [math.inf]
    assert tolerance.energy_bound(long, long, 0.0, np.float16) == 0.0
    assert tolerance.residual_bound(1, long, 0.0, 0.0, np.float16) == 0.0
    assert tolerance.image_bound((long, long), 0.0, 1, np.float16) == 0.0


def test_weight_gradient_length_covers_every_order():
    batch, height, width, ranks = 4, 5, 6, (2, 3, 4, 3)
    length = tolerance.weight_gradient_length(batch * height * width, ranks)
    theorem_14 = batch + ranks[2] + ranks[3] + ranks[0] * height * width + ranks[1]
    rebuilt = sum(ranks) + batch * height * width
    at_once = math.prod(ranks) + batch * height * width
    assert length >= max(theorem_14, rebuilt, at_once)


def test_admissible_ranks_of_a_tie_are_both_and_of_a_clear_cut_one():
    squares = np.array([4.0, 3.0, 2.0, 1.0])
    assert tolerance.admissible_ranks(squares, 4, 9, np.float64, Fraction(7, 10)) == (2, 3)
    assert tolerance.admissible_ranks(squares, 4, 9, np.float64, Fraction(71, 100)) == (3, 3)
    assert tolerance.admissible_ranks(squares, 4, 9, np.float32, Fraction(700001, 1000000)) == (2, 3)


def test_admissible_ranks_at_eps_1_reach_from_the_numerical_rank_to_every_column():
    assert tolerance.admissible_ranks(np.array([4.0, 3.0, 0.0, 0.0]), 4, 9, np.float64, Fraction(1)) == (2, 4)
    assert tolerance.admissible_ranks(np.array([4.0, 3.0]), 5, 2, np.float64, Fraction(1)) == (2, 5)


def test_admissible_ranks_of_zero_energy_are_all():
    assert tolerance.admissible_ranks(np.zeros(3), 3, 9, np.float64, Fraction(1, 2)) == (1, 3)


def test_rank_margin_counts_the_rounding_of_eps_itself():
    exact = tolerance.rank_margin(4, 9, np.float32, Fraction(3, 4))
    rounded = tolerance.rank_margin(4, 9, np.float32, Fraction(4, 5))
    assert rounded == exact + float(abs(Fraction(float(np.float32(0.8))) - Fraction(4, 5)))


@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.integers(6, 9), st.data())
def test_T15_projector_bound_holds_for_the_singular_vectors_of_a_disturbed_matrix(seed, rows, columns, data):
    generator = np.random.default_rng(seed)
    matrix = generator.standard_normal((rows, columns))
    rank = data.draw(st.integers(1, rows - 1))
    left, values, _ = np.linalg.svd(matrix)
    disturbed = np.linalg.svd(matrix + np.ldexp(generator.standard_normal((rows, columns)), -30))[0][:, :rank]
    image = matrix @ (matrix.T @ disturbed)
    residual = float(np.linalg.norm(image - disturbed @ (disturbed.T @ image)))
    bound = tolerance.projector_bound(values**2, rank, rows, residual)
    right = left[:, :rank]
    rounding = tolerance.orthonormality_bound(rows, np.float64)
    assert np.linalg.norm(disturbed @ disturbed.T - right @ right.T) <= bound + rounding


def test_projector_bound_is_infinite_at_a_degenerate_cut_and_zero_where_everything_is_kept():
    squares = np.array([3.0, 2.0, 2.0])
    assert tolerance.projector_bound(squares, 2, 3, np.finfo(float).eps) == math.inf
    assert tolerance.projector_bound(squares, 3, 3, np.finfo(float).eps) == 0.0
    assert tolerance.projector_bound(np.zeros(3), 1, 3, 0.0) == 0.0


def test_float32_accumulation_is_far_outside_of_what_float64_allows():
    assert tolerance.sum_bound(10**4, np.array(1.0), np.float64) < unit_roundoff(np.float32)


def test_guaranteed_digits_of_an_exact_result_are_all():
    assert tolerance.guaranteed_digits(np.zeros(2), np.ones(2)) == math.inf
    assert tolerance.guaranteed_digits(np.full(2, 1e9), np.ones(2)) == 0.0


small = st.integers(-9, 9)


@given(st.lists(st.tuples(small, small), min_size=1, max_size=30), st.integers(-40, 40), st.permutations(range(30)))
def test_exact_sums_have_no_rounding_in_any_order(pairs, exponent, order):
    x, y = np.array(pairs, np.float32).T
    x, y = np.ldexp(x, exponent), np.ldexp(y, -3)
    majorant = np.array([np.abs(x.astype(float) * y).sum()])
    allowed = tolerance.rounding_of_exact_sums(np.ones(1), majorant, [x, y], 2, np.float32)
    assert allowed == [0.0]
    total = np.float32(0)
    for index in (i for i in order if i < len(x)):
        total += x[index] * y[index]
    assert float(total) == math.fsum(x.astype(float) * y)


@pytest.mark.parametrize(
    ("x", "y", "majorant"),
    [
        ([1 / 3], [1.0], 1.0),
        ([1.0], [1.0 + 2.0**-20], 1.0),
        ([4096.0, 1.0], [4096.0, 1.0], 2.0**24 + 1),
        ([2.0**-100], [2.0**-100], 2.0**-200),
    ],
)
def test_sums_that_may_round_keep_their_bound(x, y, majorant):
    """Thirds, many digits, sums beyond 24 bits, and products that vanish in float32."""
    allowed = tolerance.rounding_of_exact_sums(
        np.ones(1), np.array([majorant]), [np.array(x), np.array(y)], 2, np.float32
    )
    assert allowed == [1.0]


def test_what_is_added_must_be_a_multiple_of_the_products_unit():
    x, bias = np.array([2.0]), np.array([0.5])
    bound = np.ones(1)
    assert tolerance.rounding_of_exact_sums(bound, np.array([4.5]), [x, x, bias], 2, np.float32) == [1.0]
    assert tolerance.rounding_of_exact_sums(bound, np.array([12.0]), [x, x, 16 * bias], 2, np.float32) == [0.0]
