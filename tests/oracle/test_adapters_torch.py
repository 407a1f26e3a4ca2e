import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the adapter is for PyTorch")

from refgrad.oracle import Outcome, check, find_case, judge  # noqa: E402
from refgrad.oracle.adapters import from_torch_function, from_torch_module  # noqa: E402
from tests.oracle.adapters_targets import FEW, example  # noqa: E402

CompressedConv2d = example("torch_function").CompressedConv2d
stored = example("torch_function").stored


def altered(change):
    """Make a Function whose backward hands its gradients to `change(ctx, grad_output, dx, dw, db)` first."""

    class Altered(CompressedConv2d):
        @staticmethod
        def backward(ctx, grad_output):
            gradients = CompressedConv2d.backward(ctx, grad_output)
            return *change(ctx, grad_output, *gradients[:3]), *gradients[3:]

    return from_torch_function(Altered, stored=stored)


def verdicts(target, case="plain"):
    return judge(target, find_case(case)).verdicts


def with_other_geometry(ctx, grad_output, **other):
    _, core, *factors = ctx.saved_tensors
    geometry = ctx.geometry | other
    kernel_size = ctx.saved_tensors[0].shape[2:]
    return example("torch_function").weight_gradient(core, factors, grad_output, kernel_size=kernel_size, **geometry)


def test_the_correct_function_is_judged_right():
    report = check(example("torch_function").implementation, cases=20)
    assert report.exit_code == 0, report.failures
    judged = {row.name: row for row in report.rows}
    for name in ("forward", "grad_input", "grad_bias", "grad_weight", "ranks", "factors"):
        assert judged[name].passed == report.catalogue + 20


def test_the_correct_module_is_judged_right_and_claims_what_it_can_pad():
    report = check(example("torch_module").implementation, cases=20)
    assert report.exit_code == 0, report.failures
    ((text, count),) = report.unclaimed
    assert text == "padding that differs between the two sides of an axis"
    assert 0 < count < report.catalogue + 20


def test_padding_axes_swapped_in_the_weight_gradient_are_named():
    def swap(ctx, grad_output, dx, dw, db):
        height, width = ctx.geometry["padding"]
        before = ((width[0], sum(height) - width[0]), (height[0], sum(width) - height[0]))
        return dx, with_other_geometry(ctx, grad_output, padding=before), db

    report = check(altered(swap), cases=0)
    assert report.exit_code == 1
    (failure,) = [failure for failure in report.failures if failure.row == "grad_weight" and failure.kind != "T12"][:1]
    assert failure.cause is not None
    assert "padding" in failure.cause.mistake.sentence


def test_a_gradient_that_autograd_would_sum_is_seen_as_it_was_returned():
    def keep_the_batch_axis(ctx, grad_output, dx, dw, db):
        return dx, torch.stack([dw, torch.zeros_like(dw)]), db

    target = altered(keep_the_batch_axis)
    verdict = verdicts(target)["grad_weight"]
    assert verdict.kind == "shape"
    assert verdict.message == "grad_weight must have shape (4, 2, 3, 2), got (2, 4, 2, 3, 2)"


def test_autograd_does_sum_it():
    class Summed(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return torch.stack([grad, grad])

    x = torch.ones(3, requires_grad=True)
    Summed.apply(x).sum().backward()
    assert x.grad.tolist() == [2, 2, 2]  # the leak that the adapter is there for


@pytest.mark.parametrize(
    ("row", "kind", "change"),
    [
        ("grad_bias", "None", lambda ctx, grad, dx, dw, db: (dx, dw, None)),
        ("grad_weight", "dtype", lambda ctx, grad, dx, dw, db: (dx, dw.float(), db)),
        ("grad_input", "shape", lambda ctx, grad, dx, dw, db: (dx[:, :, :-1], dw, db)),  # autograd would raise
    ],
)
def test_what_autograd_would_hide_or_refuse_reaches_the_judge(row, kind, change):
    found = verdicts(altered(change))
    assert {name: verdict.kind for name, verdict in found.items() if verdict.failed} == {row: kind}


def test_float32_inside_a_float64_backward_fails():
    target = altered(lambda ctx, grad, dx, dw, db: (dx, dw.float().double(), db))
    report = check(target, cases=0, dtypes=["float64"])
    assert report.exit_code == 1
    assert {failure.row for failure in report.failures} == {"grad_weight"}


def test_groups_ignored_fails():
    def ignore(ctx, grad_output, dx, dw, db):
        groups = ctx.geometry["groups"]
        _, core, *factors = ctx.saved_tensors
        share = len(factors[1]) // groups
        factors[1] = factors[1][:share].repeat(groups, 1)
        geometry, kernel_size = ctx.geometry, dw.shape[2:]
        gradient = example("torch_function").weight_gradient
        return dx, gradient(core, factors, grad_output, kernel_size=kernel_size, **geometry), db

    report = check(altered(ignore), cases=0)
    assert report.exit_code == 1
    failure = next(failure for failure in report.failures if failure.row == "grad_weight")
    assert failure.case.attributes["groups"] > 1


def test_a_weight_gradient_at_the_uncompressed_input_is_named():
    class Exact(CompressedConv2d):
        @staticmethod
        def forward(ctx, x, *others):
            ctx.x = x
            return CompressedConv2d.forward(ctx, x, *others)

        @staticmethod
        def backward(ctx, grad_output):
            dx, _, *others = CompressedConv2d.backward(ctx, grad_output)
            geometry, ((top, bottom), (left, right)) = ctx.geometry, ctx.geometry["padding"]
            padded = torch.nn.functional.pad(ctx.x, (left, right, top, bottom))
            shape = ctx.saved_tensors[0].shape
            return dx, torch.nn.grad.conv2d_weight(padded, shape, grad_output, **geometry | {"padding": 0}), *others

    report = check(from_torch_function(Exact, stored=stored), cases=0)
    assert report.exit_code == 1
    failure = next(failure for failure in report.failures if failure.row == "grad_weight")
    assert failure.cause is not None
    assert "compress" in failure.cause.mistake.sentence


def test_a_rank_off_by_one_is_named(monkeypatch):
    right = example("torch_function").smallest_rank
    monkeypatch.setattr(example("torch_function"), "smallest_rank", lambda *a: max(1, right(*a) - 1))
    report = check(from_torch_function(CompressedConv2d, stored=stored), cases=0)
    assert report.exit_code == 1
    failure = next(failure for failure in report.failures if failure.row == "ranks")
    assert failure.cause is not None
    assert "rank" in failure.cause.mistake.sentence


def test_an_input_gradient_that_went_through_the_factors_fails():
    def project(ctx, grad_output, dx, dw, db):
        of_batch = ctx.saved_tensors[2]
        return torch.einsum("bchw,bp,ap->achw", dx, of_batch, of_batch), dw, db

    found = verdicts(altered(project), "every mode cut")
    assert [row for row, verdict in found.items() if verdict.failed] == ["grad_input"]


@pytest.mark.parametrize("case", ["plain", "read-only layout", "reversed layout"])
@pytest.mark.parametrize("where", ["forward", "backward"])
def test_writing_into_an_argument_is_seen(where, case):
    class Writing(CompressedConv2d):
        @staticmethod
        def forward(ctx, x, *others):
            output = CompressedConv2d.forward(ctx, x, *others)
            if where == "forward":
                x.mul_(2)
            return output

        @staticmethod
        def backward(ctx, grad_output):
            gradients = CompressedConv2d.backward(ctx, grad_output)
            if where == "backward":
                grad_output.mul_(2)
            return gradients

    argument = "x" if where == "forward" else "grad_output"
    verdict = verdicts(from_torch_function(Writing), case)["call"]
    assert verdict.failed
    assert f"wrote into its argument {argument}" in verdict.message


def test_without_stored_only_what_autograd_knows_is_returned():
    returned = judge(from_torch_function(CompressedConv2d), find_case("plain"))
    assert returned.answer.provided == {"output", "grad_input", "grad_weight", "grad_bias"}
    assert returned.verdicts["factors"].outcome is Outcome.NOT_PROVIDED
    assert not returned.failed


def test_call_maps_the_arguments_and_may_pad_itself():
    class Other(torch.autograd.Function):
        @staticmethod
        def forward(ctx, bias, x, weight, a):
            return CompressedConv2d.forward(
                ctx, x, weight, bias, a.stride, a.padding, a.dilation, a.groups, a.explained_variance
            )

        @staticmethod
        def backward(ctx, grad_output):
            dx, dw, db, *_ = CompressedConv2d.backward(ctx, grad_output)
            return db, dx, dw, None

    target = from_torch_function(Other, call=lambda apply, x, weight, bias, a: apply(bias, x, weight, a), stored=stored)
    for case in FEW:
        assert not judge(target, case).failed


def test_backward_is_put_back_where_it_was_inherited_and_where_it_raises():
    class Inherits(CompressedConv2d):
        pass

    class Raises(CompressedConv2d):
        @staticmethod
        def backward(ctx, grad_output):
            raise RuntimeError("no backward today")

    own = Raises.__dict__["backward"]
    assert not judge(from_torch_function(Inherits), find_case("plain")).failed
    verdict = verdicts(from_torch_function(Raises))["call"]
    assert "no backward today" in verdict.message
    assert "backward" not in Inherits.__dict__
    assert Raises.__dict__["backward"] is own


def test_an_output_of_the_wrong_shape_is_the_finding():
    def cropped(apply, x, weight, bias, a):
        return apply(x, weight, bias, a.stride, a.padding, a.dilation, a.groups, a.explained_variance)[:, :, 1:]

    found = verdicts(from_torch_function(CompressedConv2d, call=cropped))
    assert [(row, verdict.kind) for row, verdict in found.items() if verdict.failed] == [("forward", "shape")]


def test_a_detached_output_has_no_gradients():
    def detached(apply, x, weight, bias, a):
        output = apply(x, weight, bias, a.stride, a.padding, a.dilation, a.groups, a.explained_variance)
        return output.detach()

    found = verdicts(from_torch_function(CompressedConv2d, call=detached))
    rows = [(row, verdict.kind) for row, verdict in found.items() if verdict.failed]
    assert rows == [("grad_input", "None"), ("grad_bias", "None"), ("grad_weight", "None")]


def test_a_factory_makes_a_module_of_any_kind():
    class Layer(torch.nn.Module):
        def __init__(self, weight, bias, a):
            super().__init__()
            self.weight, self.bias, self.a = torch.nn.Parameter(weight), torch.nn.Parameter(bias), a

        def forward(self, x):
            a = self.a
            return CompressedConv2d.apply(
                x, self.weight, self.bias, a.stride, a.padding, a.dilation, a.groups, a.explained_variance
            )

    def build(weight, bias, attributes):
        return Layer(weight, bias, attributes)

    target = from_torch_module(build)
    for case in FEW:
        assert not judge(target, case).failed


def test_a_plain_convolution_is_right_but_for_the_weight_gradient():
    class Plain(torch.nn.Conv2d):
        def __init__(self, *arguments, share, **keywords):
            super().__init__(*arguments, **keywords)

    case = find_case("plain")
    found = judge(from_torch_module(Plain, explained_variance="share"), case).verdicts
    assert all(not found[row].failed for row in ("call", "forward", "grad_input", "grad_bias"))
    assert found["grad_weight"].outcome is not Outcome.PASSED


def test_bad_arguments_are_named():
    with pytest.raises(TypeError, match=r"function must be a subclass of torch\.autograd\.Function, got <built-in"):
        from_torch_function(print)
    with pytest.raises(TypeError, match="call must be callable, got 3"):
        from_torch_function(CompressedConv2d, call=3)
    with pytest.raises(TypeError, match="stored must be callable, got 3"):
        from_torch_module(torch.nn.Conv2d, stored=3)
    with pytest.raises(TypeError, match="factory must be callable, got 3"):
        from_torch_module(3)
    with pytest.raises(ValueError, match="padding must be"):
        from_torch_module(torch.nn.Conv2d, padding="same")


def test_bfloat16_has_no_array():
    target = altered(lambda ctx, grad, dx, dw, db: (dx, dw.bfloat16(), db))
    assert "grad_weight has dtype torch.bfloat16, which NumPy does not have" in verdicts(target)["call"].message


def test_results_are_arrays_of_their_own():
    case = find_case("plain")
    results = from_torch_function(CompressedConv2d, stored=stored)(*case.arrays().values(), **case.attributes)
    arrays = [value for value in results.values() if isinstance(value, np.ndarray)]
    assert all(array.flags.owndata and array.flags.writeable for array in arrays)
