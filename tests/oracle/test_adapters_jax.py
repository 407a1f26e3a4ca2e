import pytest

jax = pytest.importorskip("jax", reason="the adapter is for JAX")

from refgrad.oracle import find_case, judge  # noqa: E402
from refgrad.oracle.adapters import from_jax  # noqa: E402
from tests.oracle.adapters_targets import FEW, example  # noqa: E402

# JAX compiles every operation anew for every shape, so that a whole run takes minutes: single cases are judged here.
right = example("jax_custom_vjp")


def altered(change):
    """Make a function whose backward hands its cotangents to `change(dx, dw, db)` before it returns."""

    @jax.custom_vjp
    def identity(x, weight, bias):
        return x, weight, bias

    identity.defvjp(lambda *arrays: (arrays, None), lambda _, cotangents: change(*cotangents))
    return from_jax(lambda *arrays, **attributes: right.layer(*identity(*arrays), **attributes), stored=right.stored)


@pytest.mark.parametrize("case", [*FEW, find_case("plain, float32")], ids=lambda case: case.name)
def test_the_correct_function_is_judged_right(case):
    found = judge(right.implementation, case, twice=True)
    assert not found.failed, found.verdicts
    assert found.answer.provided == {"output", "grad_input", "grad_weight", "grad_bias", "core", "factors"}


@pytest.mark.parametrize(
    ("row", "change"),
    [
        ("grad_weight", lambda dx, dw, db: (dx, dw[:, :, ::-1], db)),
        ("grad_weight", lambda dx, dw, db: (dx, dw.astype("float32").astype("float64"), db)),
        ("grad_bias", lambda dx, dw, db: (dx, dw, None)),  # which JAX takes for zero
        ("grad_input", lambda dx, dw, db: (dx / 2, dw, db)),
    ],
)
def test_a_wrong_cotangent_fails_in_its_row(row, change):
    found = judge(altered(change), find_case("plain")).verdicts
    assert [name for name, verdict in found.items() if verdict.failed] == [row]


def test_a_cotangent_of_the_wrong_shape_is_refused_by_jax():
    found = judge(altered(lambda dx, dw, db: (dx, dw[None], db)), find_case("plain")).verdicts
    assert found["call"].kind == "call raised ValueError"


def test_the_precision_of_the_process_is_left_alone():
    before = jax.config.jax_enable_x64
    assert not judge(right.implementation, find_case("plain")).failed
    assert jax.config.jax_enable_x64 == before


def test_bad_arguments_are_named():
    with pytest.raises(TypeError, match="function must be callable, got 3"):
        from_jax(3)
    with pytest.raises(TypeError, match="stored must be callable, got 3"):
        from_jax(print, stored=3)
