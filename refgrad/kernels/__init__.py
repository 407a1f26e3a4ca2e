"""Compiled inner loops, for what neither NumPy nor BLAS does well.

In: arrays that the caller allocated, C-contiguous, of one dtype; a kernel allocates nothing, so that what a computation
needs is seen by a memory tracer. Out: one of these arrays, filled. Only this package imports numba; `convolution` and
`multilinear` import it, inside the functions that need it.
"""
