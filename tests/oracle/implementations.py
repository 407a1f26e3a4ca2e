"""PyTorch's own layer as one more right implementation, beside refgrad's library of variants."""

import numpy as np

from refgrad.oracle.variants.decompositions import leading


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
