"""tacops on tally arrays."""

from itertools import product

import tally

from tacops.backends import Backend


class TallyBackend(Backend):
    """The five things every backend must say, and two that make it more pleasant."""

    name = "tally"

    def owns(self, array):
        """Whether this is one of our arrays."""
        return isinstance(array, tally.Array)

    def namespace(self, array):
        """The library's functions, under the names of the Array API standard."""
        return tally

    def conv(self, x, weight, bias, window, *, exact):
        """One matrix product for each position in the kernel and each group."""
        space = window.output_shape(x.shape[1:-1], weight.shape[1:-1])
        for axis, (low, high) in enumerate(window.padding, start=1):
            sides = [tally.zeros((*x.shape[:axis], n, *x.shape[axis + 1 :]), dtype=x.dtype) for n in (low, high)]
            x = tally.concat([sides[0], x, sides[1]], axis=axis)
        inner, outer = weight.shape[-1], weight.shape[0] // window.groups
        groups = []
        for g in range(window.groups):
            total = 0.0
            for tap in product(*map(range, weight.shape[1:-1])):
                axes = zip(tap, window.dilation, window.stride, space, strict=True)
                seen = x[(slice(None), *(slice(t * d, t * d + s * (n - 1) + 1, s) for t, d, s, n in axes), ...)]
                matrix = weight[(slice(g * outer, (g + 1) * outer), *tap, ...)]
                mine = seen[..., g * inner : (g + 1) * inner]
                total = tally.matmul(mine, tally.matrix_transpose(matrix)) + total
            groups.append(total)
        out = tally.concat(groups, axis=-1)
        return out if bias is None else out + bias

    def from_numpy(self, array):
        """A copy of a NumPy array."""
        return tally.Array(array)

    def to_numpy(self, array):
        """A NumPy copy."""
        return array.to_host()

    def read(self, array):
        """Values of a small array, for error messages."""
        return [float(value) for value in tally.reshape(array, (-1,)).tolist()]

    def describe(self):
        """For `python -m tacops info` and benchmarks."""
        return {"version": tally.__version__, "device": "cpu", "precision": "full float32"}


BACKEND = TallyBackend()
