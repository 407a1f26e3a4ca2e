"""Right implementations that differ in everything that may differ: none of them may ever be called wrong.

Each computes in the dtype that it is given unless it says otherwise; none shares code with refgrad.
"""

import numpy as np
import scipy.linalg


def patches(x, weight, size, *, stride, padding, dilation):
    """(B, C, k_h, k_w, H', W'): what every tap reads."""
    padded = np.pad(x, ((0, 0), (0, 0), *padding))
    result = np.zeros((*x.shape[:2], *weight.shape[2:], *size), x.dtype)
    for u in range(weight.shape[2]):
        for v in range(weight.shape[3]):
            top, left = u * dilation[0], v * dilation[1]
            rows = slice(top, top + (size[0] - 1) * stride[0] + 1, stride[0])
            columns = slice(left, left + (size[1] - 1) * stride[1] + 1, stride[1])
            result[:, :, u, v] = padded[:, :, rows, columns]
    return result


def scatter(columns, shape, *, stride, padding, dilation):
    """The transpose of `patches`."""
    (top, bottom), (left, right) = padding
    height, width = shape[2] + top + bottom, shape[3] + left + right
    padded = np.zeros((*shape[:2], height, width), columns.dtype)
    size = columns.shape[4:]
    for u in range(columns.shape[2]):
        for v in range(columns.shape[3]):
            row, column = u * dilation[0], v * dilation[1]
            rows = slice(row, row + (size[0] - 1) * stride[0] + 1, stride[0])
            across = slice(column, column + (size[1] - 1) * stride[1] + 1, stride[1])
            padded[:, :, rows, across] += columns[:, :, u, v]
    return padded[:, :, top : top + shape[2], left : left + shape[3]].copy()


def grouped(array, axis, groups):
    return array.reshape(*array.shape[:axis], groups, -1, *array.shape[axis + 1 :])


def forward(x, weight, bias, grad_output, groups, geometry):
    columns = grouped(patches(x, weight, grad_output.shape[2:], **geometry), 1, groups)
    y = np.einsum("bgcuvij,gocuv->bgoij", columns, grouped(weight, 0, groups), optimize=True)
    return y.reshape(grad_output.shape) + bias[:, None, None]


def input_gradient(x, weight, grad_output, groups, geometry):
    columns = np.einsum(
        "bgoij,gocuv->bgcuvij", grouped(grad_output, 1, groups), grouped(weight, 0, groups), optimize=True
    )
    return scatter(columns.reshape(*x.shape[:2], *columns.shape[3:]), x.shape, **geometry)


def dense_weight_gradient(x, weight, grad_output, groups, geometry):
    columns = grouped(patches(x, weight, grad_output.shape[2:], **geometry), 1, groups)
    return np.einsum("bgcuvij,bgoij->gocuv", columns, grouped(grad_output, 1, groups), optimize=True).reshape(
        weight.shape
    )


def rebuild(core, factors):
    for mode, factor in enumerate(factors):
        core = np.moveaxis(np.tensordot(factor, core, (1, mode)), 0, mode)
    return core


def by_rebuilding(core, factors, weight, grad_output, groups, geometry):
    return dense_weight_gradient(rebuild(core, factors), weight, grad_output, groups, geometry)


def of_one_axis(factor, taps, size, stride, pads, dilation):
    """(taps, positions, K): the rows of a factor that a convolution reads along one axis."""
    padded = np.pad(factor, (pads, (0, 0)))
    return padded[np.add.outer(np.arange(taps) * dilation, np.arange(size) * stride)]


def read_factors(factors, weight, grad_output, *, stride, padding, dilation):
    return [
        of_one_axis(factors[2 + a], weight.shape[2 + a], grad_output.shape[2 + a], stride[a], padding[a], dilation[a])
        for a in (0, 1)
    ]


def by_theorem_14(core, factors, weight, grad_output, groups, geometry):
    """Z1, Z2, Z3, Z4 of THEORY T14, for every group."""
    rows, columns = read_factors(factors, weight, grad_output, **geometry)
    z1 = np.einsum("boij,bp->poij", grad_output, factors[0])
    z2 = np.einsum("pqrs,uir->pquis", core, rows)
    z3 = np.einsum("pquis,vjs->pquvij", z2, columns)
    z4 = np.einsum("pquvij,poij->oquv", z3, z1)
    return np.einsum("goquv,gcq->gocuv", grouped(z4, 0, groups), grouped(factors[1], 0, groups)).reshape(weight.shape)


def by_projecting(core, factors, weight, grad_output, groups, geometry):
    """The gradient is brought down to the ranks, width first, and meets the core last."""
    rows, columns = read_factors(factors, weight, grad_output, **geometry)
    small = np.einsum("boij,vjs->bovis", grad_output, columns)
    small = np.einsum("bovis,uir->bouvrs", small, rows)
    small = np.einsum("bouvrs,bp->pouvrs", small, factors[0])
    small = np.einsum("pouvrs,pqrs->oquv", small, core)
    return np.einsum("goquv,gcq->gocuv", grouped(small, 0, groups), grouped(factors[1], 0, groups)).reshape(
        weight.shape
    )


def all_at_once(core, factors, weight, grad_output, groups, geometry):
    """One sum over everything, where that is not too long."""
    rows, columns = read_factors(factors, weight, grad_output, **geometry)
    if grad_output.size * core.size * weight[0].size > 10**6:
        return by_theorem_14(core, factors, weight, grad_output, groups, geometry)
    g, c = grouped(grad_output, 1, groups), grouped(factors[1], 0, groups)
    result = np.einsum("bgoij,bp,gcq,uir,vjs,pqrs->gocuv", g, factors[0], c, rows, columns, core, optimize=False)
    return result.reshape(weight.shape)


def left_svd(matrix):
    left, values, _ = np.linalg.svd(matrix, full_matrices=False)
    return left, values**2


def left_gesvd(matrix):
    left, values, _ = scipy.linalg.svd(matrix, full_matrices=False, lapack_driver="gesvd")
    return left, values**2


def left_full(matrix):
    left, values, _ = np.linalg.svd(matrix, full_matrices=True)
    return left, np.append(values**2, np.zeros(left.shape[0] - values.size, values.dtype))


def left_qr(matrix):
    """QR first, then the SVD of the triangle."""
    left, values, _ = np.linalg.svd(np.linalg.qr(matrix.T, mode="r").T, full_matrices=False)
    return left, values**2


def left_gram(matrix):
    """The eigenvectors of the Gram matrix: half of the digits of small singular values are lost, honestly."""
    values, left = np.linalg.eigh(matrix @ matrix.T)
    return left[:, ::-1], np.maximum(values[::-1], 0)


def leading(squares, explained_variance):
    """D1 in the dtype of the squares."""
    total = squares.sum(dtype=squares.dtype)
    if total == 0:
        return 1
    reached = np.flatnonzero(np.cumsum(squares) >= squares.dtype.type(explained_variance) * total)
    return int(reached[0]) + 1 if reached.size else squares.size


def signs(factors, generator):
    """Turn the signs of random columns round."""
    return [factor * generator.choice(np.array([-1, 1], factor.dtype), factor.shape[1]) for factor in factors]


def rotations(factors, generator):
    """Rotate the columns of every factor among themselves: the subspace is the same."""
    return [
        factor @ np.linalg.qr(generator.standard_normal((factor.shape[1],) * 2))[0].astype(factor.dtype)
        for factor in factors
    ]


def layer(left=left_svd, turn=None, weight_gradient=by_rebuilding, accumulator=None, order="C", keys=None):
    """An implementation from a decomposition, what is done to its factors, and an order of contraction."""

    def implementation(x, weight, bias, grad_output, *, stride, padding, dilation, groups, explained_variance):
        dtype = x.dtype
        inner = np.dtype(accumulator or dtype)
        geometry = {"stride": stride, "padding": padding, "dilation": dilation}
        x, weight, bias, grad_output = (array.astype(inner) for array in (x, weight, bias, grad_output))
        unit = np.ldexp(x, -np.frexp(np.abs(x).max())[1])
        factors = []
        for mode in range(4):
            vectors, squares = left(np.moveaxis(unit, mode, 0).reshape(x.shape[mode], -1))
            factors.append(vectors[:, : leading(squares, explained_variance)])
        if turn is not None:
            factors = turn(factors, np.random.default_rng(x.size))
        core = rebuild(x, [factor.T for factor in factors])
        arrays = {
            "output": forward(x, weight, bias, grad_output, groups, geometry),
            "grad_input": input_gradient(x, weight, grad_output, groups, geometry),
            "grad_bias": grad_output.sum(axis=(0, 2, 3)),
            "grad_weight": weight_gradient(core, factors, weight, grad_output, groups, geometry),
            "core": core,
            "reconstruction": rebuild(core, factors),
        }
        results = {key: array.astype(dtype, order=order) for key, array in arrays.items()}
        results["factors"] = tuple(factor.astype(dtype, order=order) for factor in factors)
        results["ranks"] = core.shape
        results["stored_numbers"] = core.size + sum(factor.size for factor in factors)
        return {key: value for key, value in results.items() if keys is None or key in keys}

    return implementation


def torch_layer(torch):
    """PyTorch's own convolution and autograd, at an A~ by PyTorch's own SVD."""

    def implementation(x, weight, bias, grad_output, *, stride, padding, dilation, groups, explained_variance):
        tensors = [torch.from_numpy(np.ascontiguousarray(array).copy()) for array in (x, weight, bias, grad_output)]
        a, w, b, g = tensors
        scale = 2.0 ** -np.frexp(np.abs(x).max())[1]
        factors = []
        for mode in range(4):
            vectors, values, _ = torch.linalg.svd(
                (a * scale).movedim(mode, 0).reshape(a.shape[mode], -1), full_matrices=False
            )
            factors.append(vectors[:, : leading(values.numpy() ** 2, explained_variance)])
        core = torch.einsum("abcd,ap,bq,cr,ds->pqrs", a, *factors)
        rebuilt = torch.einsum("pqrs,ap,bq,cr,ds->abcd", core, *factors)
        pads = [*padding[1], *padding[0]]

        def conv(image, kernel, offset):
            padded = torch.nn.functional.pad(image, pads)
            return torch.nn.functional.conv2d(padded, kernel, offset, stride, 0, dilation, groups)

        image, kernel = a.clone().requires_grad_(), w.clone().requires_grad_()
        output = conv(image, w, b)
        output.backward(g)
        conv(rebuilt, kernel, b).backward(g)
        return {
            "output": output.detach().numpy(),
            "grad_input": image.grad.numpy(),
            "grad_bias": g.sum(dim=(0, 2, 3)).numpy(),
            "grad_weight": kernel.grad.numpy(),
            "core": core.numpy(),
            "factors": [factor.numpy() for factor in factors],
            "reconstruction": rebuilt.numpy(),
        }

    return implementation


VARIANTS = {
    "LAPACK gesdd": layer(),
    "LAPACK gesvd": layer(left_gesvd, order="F"),
    "full SVD": layer(left_full, weight_gradient=by_projecting),
    "QR, then SVD": layer(left_qr, weight_gradient=by_theorem_14),
    "Gram": layer(left_gram),
    "Gram, signs turned round": layer(left_gram, signs, by_theorem_14),
    "signs turned round": layer(turn=signs, weight_gradient=by_projecting),
    "columns rotated": layer(turn=rotations),
    "columns rotated, contracted": layer(left_gesvd, rotations, by_theorem_14),
    "THEORY T14": layer(weight_gradient=by_theorem_14),
    "gradient projected": layer(weight_gradient=by_projecting),
    "one sum over everything": layer(weight_gradient=all_at_once),
    "float64 inside": layer(accumulator=np.float64, weight_gradient=by_theorem_14),
    "longdouble inside": layer(
        left_svd_of_long := lambda matrix: left_svd(matrix.astype(np.float64)), accumulator=np.longdouble
    ),
    "no factors": layer(keys=("output", "grad_input", "grad_bias", "grad_weight", "reconstruction", "ranks")),
    "gradients only": layer(left_gram, keys=("output", "grad_input", "grad_bias", "grad_weight", "stored_numbers")),
}
