"""Tolerances by running error analysis: a number carries a bound on how far any evaluation of its formula can be off.

Higham, Accuracy and Stability of Numerical Algorithms, section 3.3. The values are computed in extended precision; next
to them goes what rounding in the precision under test can do at each operation (THEORY T15).
"""

import numpy as np

from refgrad.rounding import gamma, unit_roundoff

ELEMENTARY = 8  # NumPy holds exp, log and tanh to 4 units in the last place, which is 8 roundoffs


class Running:
    """An array and an entrywise bound on the error of its evaluation in `dtype`."""

    def __init__(self, value, error, dtype):
        self.value = np.asarray(value, dtype=np.longdouble)
        self.error = np.broadcast_to(np.asarray(error, dtype=np.longdouble), self.value.shape)
        self.dtype = np.dtype(dtype)

    @classmethod
    def exact(cls, array):
        """An input: it is what it is."""
        return cls(array, 0.0, array.dtype)

    def constant(self, number):
        """A number that the dtype may not hold."""
        return Running(number, abs(number) * unit_roundoff(self.dtype), self.dtype)

    def _rounded(self, value, error, roundoffs=1):
        u = unit_roundoff(self.dtype) + unit_roundoff(np.longdouble)
        tiny = float(np.finfo(self.dtype).tiny)
        return Running(value, error + roundoffs * u * (np.abs(value) + error) + tiny, self.dtype)

    def _other(self, other):
        return other if isinstance(other, Running) else Running(other, 0.0, self.dtype)

    def __add__(self, other):
        other = self._other(other)
        return self._rounded(self.value + other.value, self.error + other.error)

    def __sub__(self, other):
        return self + -self._other(other)

    def __rsub__(self, other):
        return -self + other

    def __neg__(self):
        return Running(-self.value, self.error, self.dtype)

    def __mul__(self, other):
        a, b = self, self._other(other)
        error = np.abs(a.value) * b.error + np.abs(b.value) * a.error + a.error * b.error
        return self._rounded(a.value * b.value, error)

    def __truediv__(self, other):
        a, b = self, self._other(other)
        assert np.all(np.abs(b.value) > 2 * b.error), "a divisor that may be zero has no bound"
        quotient = a.value / b.value
        return self._rounded(quotient, (a.error + np.abs(quotient) * b.error) / (np.abs(b.value) - b.error))

    __radd__, __rmul__ = __add__, __mul__

    def __rtruediv__(self, other):
        return self._other(other) / self

    def __getitem__(self, key):
        return Running(self.value[key], self.error[key], self.dtype)

    def reshape(self, *shape):
        return Running(self.value.reshape(*shape), self.error.reshape(*shape), self.dtype)

    def exp(self):
        value = np.exp(self.value)
        return self._rounded(value, value * np.expm1(self.error), ELEMENTARY)

    def log(self):
        return self._rounded(np.log(self.value), -np.log1p(-self.error / self.value), ELEMENTARY)

    def tanh(self):
        return self._rounded(np.tanh(self.value), self.error, ELEMENTARY)

    def sqrt(self):
        value = np.sqrt(self.value)
        return self._rounded(value, value - np.sqrt(np.maximum(self.value - self.error, 0)))

    def maximum(self, axis):
        value = np.max(self.value, axis=axis, keepdims=True)
        return Running(value, np.max(self.error, axis=axis, keepdims=True), self.dtype)

    def sum(self, axis, keepdims=True):
        """In any order (T15)."""
        value = np.sum(self.value, axis=axis, keepdims=keepdims)
        error = np.sum(self.error, axis=axis, keepdims=keepdims)
        length = self.value.size // max(value.size, 1)
        majorant = np.sum(np.abs(self.value), axis=axis, keepdims=keepdims) + error
        return Running(value, error + gamma(length, self.dtype) * majorant, self.dtype)

    def mean(self, axis, keepdims=True):
        total = self.sum(axis, keepdims)
        return total / (self.value.size // max(total.value.size, 1))
