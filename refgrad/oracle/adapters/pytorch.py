"""A PyTorch layer as a target of the oracle.

In: an `autograd.Function` or an `nn.Module`. Out: a callable of NumPy arrays. Autograd sums a gradient that has too
many axes, casts one of another dtype and fills in for None; so what `backward` returns is recorded before that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from refgrad.arguments import Array, one_of
from refgrad.oracle.adapters.attributes import Attributes, framework

__all__ = ["from_torch_function", "from_torch_module"]

LEAVES = {"x": "grad_input", "weight": "grad_weight", "bias": "grad_bias"}


def from_torch_function(
    function: Any,
    *,
    call: Callable[..., Any] | None = None,
    stored: Callable[[Any], Mapping[str, Any]] | None = None,
    declaration: Mapping[str, Any] | None = None,
) -> Callable[..., dict[str, Any]]:
    """Make a target of an `autograd.Function`.

    Parameters
    ----------
    function : type
        A subclass of `torch.autograd.Function`.
    call : callable, optional
        ``call(apply, x, weight, bias, attributes)`` returns the output; `attributes` is an `Attributes`. Where absent:
        ``apply(x, weight, bias, stride, padding, dilation, groups, explained_variance)``.
    stored : callable, optional
        ``stored(ctx)`` returns what the forward pass kept, under the names of the protocol: "core", "factors", "ranks",
        "reconstruction", "stored_numbers". It is called after forward and before backward.
    declaration : mapping, optional
        See `refgrad.oracle.Declaration`.

    Returns
    -------
    callable
        An `Implementation`.

    Raises
    ------
    ImportError
        Where PyTorch is not installed.
    TypeError
        Where `function` is no `autograd.Function`, or `call` or `stored` cannot be called.
    """
    torch = framework("torch")
    if not (isinstance(function, type) and issubclass(function, torch.autograd.Function)):
        raise TypeError(f"function must be a subclass of torch.autograd.Function, got {function!r}")
    _check_callables(call=call, stored=stored)
    run, apply = call or _in_the_usual_order, getattr(function, "apply")  # noqa: B009 - torch is untyped here

    def build(weight: Any, bias: Any, attributes: Attributes) -> _Built:
        def forward(x: Any) -> Any:
            return run(apply, x, weight, bias, attributes)

        def kept(contexts: list[Any]) -> Mapping[str, Any]:
            own = [context for context in contexts if context._forward_cls is function]
            if not own:
                raise ValueError(f"stored: {function.__name__} is not in the graph of the output")
            return stored(own[0]) if stored is not None else {}

        return _Built(forward, weight, bias, kept if stored is not None else None)

    return _TorchTarget(torch, build, declaration)


def from_torch_module(
    factory: Callable[..., Any],
    *,
    explained_variance: str = "explained_variance",
    padding: str = "symmetric",
    stored: Callable[[Any, Any], Mapping[str, Any]] | None = None,
    declaration: Mapping[str, Any] | None = None,
) -> Callable[..., dict[str, Any]]:
    """Make a target of an `nn.Module`.

    Parameters
    ----------
    factory : callable or type
        ``factory(weight, bias, attributes)`` returns a module with these values in its ``weight`` and ``bias``. Or a
        subclass of `torch.nn.Module` that is made like `torch.nn.Conv2d`; its ``weight`` and ``bias`` are then set.
    explained_variance : str
        What such a class calls the explained variance.
    padding : str
        What such a class takes: "symmetric" is (height, width), and a case with other pads is then not claimed; "pairs"
        is ((top, bottom), (left, right)).
    stored : callable, optional
        ``stored(module, ctx)`` returns what the forward pass kept, as for `from_torch_function`; `ctx` is that of the
        first custom Function met from the output, None where there is none.
    declaration : mapping, optional
        See `refgrad.oracle.Declaration`.

    Returns
    -------
    callable
        An `Implementation`.

    Raises
    ------
    ImportError
        Where PyTorch is not installed.
    TypeError, ValueError
        Where `factory` or `stored` cannot be called, or `padding` is neither of the two.
    """
    torch = framework("torch")
    if not callable(factory):
        raise TypeError(f"factory must be callable, got {factory!r}")
    one_of("padding", padding, ("symmetric", "pairs"))
    _check_callables(stored=stored)
    is_class = isinstance(factory, type) and issubclass(factory, torch.nn.Module)

    def build(weight: Any, bias: Any, attributes: Attributes) -> _Built:
        if is_class:
            module = factory(
                weight.shape[1] * attributes.groups,
                weight.shape[0],
                tuple(weight.shape[2:]),
                stride=attributes.stride,
                padding=attributes.symmetric_padding if padding == "symmetric" else attributes.padding,
                dilation=attributes.dilation,
                groups=attributes.groups,
                bias=True,
                **{explained_variance: attributes.explained_variance},
            ).to(weight.dtype)
            with torch.no_grad():
                module.weight.copy_(weight)
                module.bias.copy_(bias)
        else:
            module = factory(weight, bias, attributes)
        for name in ("weight", "bias"):
            if not isinstance(getattr(module, name, None), torch.Tensor):
                raise TypeError(f"factory must return a module with a tensor {name}, got {module!r}")

        def kept(contexts: list[Any]) -> Mapping[str, Any]:
            return stored(module, contexts[0] if contexts else None) if stored is not None else {}

        return _Built(module, module.weight, module.bias, kept if stored is not None else None)

    return _TorchTarget(torch, build, declaration)


def _in_the_usual_order(apply: Any, x: Any, weight: Any, bias: Any, a: Attributes) -> Any:
    return apply(x, weight, bias, a.stride, a.padding, a.dilation, a.groups, a.explained_variance)


def _check_callables(**given: Any) -> None:
    for name, value in given.items():
        if value is not None and not callable(value):
            raise TypeError(f"{name} must be callable, got {value!r}")


@dataclass(frozen=True, slots=True)
class _Built:
    """A layer made for one case: what runs it, its parameters, and what reads what it kept."""

    forward: Callable[[Any], Any]
    weight: Any
    bias: Any
    kept: Callable[[list[Any]], Mapping[str, Any]] | None


@dataclass(frozen=True)
class _TorchTarget:
    """The callable that the oracle judges."""

    torch: Any
    build: Callable[[Any, Any, Attributes], _Built]
    declaration: Mapping[str, Any] | None

    def __call__(
        self,
        x: Array,
        weight: Array,
        bias: Array,
        grad_output: Array,
        *,
        stride: tuple[int, int],
        padding: tuple[tuple[int, int], tuple[int, int]],
        dilation: tuple[int, int],
        groups: int,
        explained_variance: float,
    ) -> dict[str, Any]:
        """Run one training step."""
        torch, arrays = self.torch, {"x": x, "weight": weight, "bias": bias, "grad_output": grad_output}
        # A copy: PyTorch takes no negative strides and warns of what is read-only.
        tensors = {name: torch.from_numpy(np.array(array, order="C")) for name, array in arrays.items()}
        for name in LEAVES:
            tensors[name].requires_grad_()
        attributes = Attributes(stride, padding, dilation, groups, explained_variance)
        with torch.enable_grad():
            built = self.build(tensors["weight"], tensors["bias"], attributes)
            leaves = {"x": tensors["x"], "weight": built.weight, "bias": built.bias}
            seen = tensors | leaves
            before = {name: tensor.detach().clone() for name, tensor in seen.items()}
            output = built.forward(tensors["x"])
            if not isinstance(output, torch.Tensor):
                raise TypeError(f"the layer must return a tensor, got {type(output).__name__}")
            contexts = _custom_contexts(output)
            results: dict[str, Any] = {"output": _numpy("output", output)}
            if built.kept is not None:
                results |= {key: _converted(torch, key, value) for key, value in built.kept(contexts).items()}
            if output.shape == tensors["grad_output"].shape:  # where it is not, the shape of the output is the finding
                raw = _raw_gradients(torch, output, tensors["grad_output"], leaves, contexts)
                results |= {key: None if raw[name] is None else _numpy(key, raw[name]) for name, key in LEAVES.items()}
        for name, array in arrays.items():
            _repeat_writing(name, array, _numpy(name, before[name]), _numpy(name, seen[name]))
        return results


def _custom_contexts(output: Any) -> list[Any]:
    """Return the contexts of custom Functions in a graph, from the output on, breadth first."""
    waiting, met, found = [output.grad_fn], set(), []
    for node in waiting:
        if node is None or node in met:
            continue
        met.add(node)
        if hasattr(node, "_forward_cls"):
            found.append(node)
        waiting += [following for following, _ in node.next_functions]
    return found


def _raw_gradients(
    torch: Any, output: Any, grad_output: Any, leaves: Mapping[str, Any], contexts: list[Any]
) -> dict[str, Any]:
    """Run backward; return every leaf's gradient, as a custom Function returned it where it did so directly."""
    before = {name: leaf.grad for name, leaf in leaves.items()}
    raw: dict[str, Any] = {}
    if output.grad_fn is not None:
        names = _tapped(leaves, output, contexts)
        with _recording(torch, contexts, names, raw):
            torch.autograd.backward(output, grad_output)
    gradients = {name: leaf.grad if leaf.grad is not before[name] else None for name, leaf in leaves.items()}
    return gradients | raw


def _tapped(leaves: Mapping[str, Any], output: Any, contexts: list[Any]) -> dict[int, str]:
    """Return the leaves, by id, that get their gradient from one place and that a custom Function."""
    waiting, met, edges = [output.grad_fn], set(), []
    for node in waiting:
        if node is None or node in met:
            continue
        met.add(node)
        edges += [(node, id(following.variable)) for following, _ in node.next_functions if _is_leaf(following)]
        waiting += [following for following, _ in node.next_functions]
    tapped = {}
    for name, leaf in leaves.items():
        sources = [node for node, variable in edges if variable == id(leaf)]
        if len(sources) == 1 and sources[0] in contexts:
            tapped[id(leaf)] = name
    return tapped


def _is_leaf(node: Any) -> bool:
    return node is not None and hasattr(node, "variable")


@contextmanager
def _recording(torch: Any, contexts: list[Any], names: Mapping[int, str], raw: dict[str, Any]) -> Iterator[None]:
    """Record what the backward of these contexts returns for the leaves, and keep it from autograd."""
    replaced: list[tuple[Any, str, Any]] = []
    for owner in {context._forward_cls for context in contexts}:
        method = "vjp" if owner.vjp is not torch.autograd.Function.vjp else "backward"
        replaced.append((owner, method, owner.__dict__.get(method)))
        setattr(owner, method, staticmethod(_recorder(torch, getattr(owner, method), names, raw)))
    try:
        yield
    finally:
        for owner, method, own in replaced:
            if own is None:  # it is inherited
                delattr(owner, method)
            else:
                setattr(owner, method, own)


def _recorder(torch: Any, backward: Any, names: Mapping[int, str], raw: dict[str, Any]) -> Callable[..., Any]:
    def recorded(ctx: Any, *grad_outputs: Any) -> Any:
        returned = backward(ctx, *grad_outputs)
        single = not isinstance(returned, tuple)
        values = [returned] if single else list(returned)
        # One edge for every tensor among the arguments, one flag for every argument: those that need a gradient agree.
        edges = iter([node for node, _ in ctx.next_functions if node is not None])
        for index, needed in enumerate(ctx.needs_input_grad[: len(values)]):
            node = next(edges) if needed else None
            name = names.get(id(getattr(node, "variable", None)))
            if name is not None and (values[index] is None or isinstance(values[index], torch.Tensor)):
                raw[name], values[index] = values[index], None
        return values[0] if single else tuple(values)

    return recorded


def _numpy(name: str, tensor: Any) -> Array:
    """Copy a tensor into an array of the same dtype."""
    try:
        return np.array(tensor.detach().cpu().resolve_conj().resolve_neg().numpy())
    except TypeError:
        raise TypeError(f"{name} has dtype {tensor.dtype}, which NumPy does not have") from None


def _converted(torch: Any, name: str, value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return _numpy(name, value)
    if isinstance(value, (tuple, list)):
        return [_converted(torch, name, each) for each in value]
    return value


def _repeat_writing(name: str, array: Array, before: Array, after: Array) -> None:
    """Do to an argument what the layer did to its copy, so that the oracle sees it."""
    if before.shape == after.shape and before.tobytes() == after.tobytes():
        return
    if not array.flags.writeable or array.shape != after.shape:
        raise ValueError(f"the layer wrote into its argument {name}")
    array[...] = after
