"""What `linchpin compress` writes into compressed-tensors, by a second program: NumPy and the documents
(compressed-tensors' own definition, docs/adr/0018, the head of server/quantize/scale_search.h).

Everything is float32 and sums run over a group from its first element on, so that codes and scales are the
product's to the last bit: where two candidates are equally good, too.  Numbers so small that a quotient is no
ordinary number any more are left to tests of their own.
"""

import numpy
import torch

from support.decoded_outputs import Decoded

STORED = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
EPSILON = {kind: torch.finfo(dtype).eps for kind, dtype in STORED.items()}
# Of the largest element: min-max puts it at `full`, between two codes; `exact` is itself a code.
FULL = {"pack4": 7.5, "pack8": 127.5, "int8": 127.5, "float8": 448}
EXACT = {"pack4": 8, "pack8": 128, "int8": 128, "float8": 256}
FACTORS = (1, 0.95, 0.9, 0.85, 0.8, 1.05)  # of the signed scale
CLIPS = (1, 0.95, 0.9, 0.85, 0.8)          # of either end, with zero points


def error_weights(mean_squares):
    """To the power of 1.25."""
    return mean_squares * numpy.sqrt(numpy.sqrt(mean_squares))


def narrowed(values, kind):
    """As a tensor of the kind has it."""
    return torch.from_numpy(numpy.ascontiguousarray(values)).to(STORED[kind]).float().numpy()


def nearest(places, grid):
    """The code of every place, ties to even."""
    if grid == "float8":
        places = numpy.clip(places, -448, 448).astype("f4")
        # Three bits behind the first, of which none is below 2^-6.
        steps = numpy.ldexp(numpy.float32(1), numpy.maximum(numpy.frexp(places)[1] - 1, -6) - 3)
        return numpy.round(places / steps) * steps
    exact = EXACT[grid]
    return numpy.round(numpy.clip(places, -exact, exact - 1)).astype("f4")


def total(values):
    """[groups, elements] to [groups, 1], one after the other."""
    return numpy.cumsum(values, axis=1, dtype="f4")[:, -1:]


class Groups:
    """The groups of a weight, one a row, and what is found for each."""

    def __init__(self, groups, importance, grid, kind):
        self.w, self.importance, self.grid, self.kind = groups, importance, grid, kind
        self.low = numpy.minimum(groups.min(1, keepdims=True), 0)
        self.high = numpy.maximum(groups.max(1, keepdims=True), 0)
        self.largest = numpy.where(-self.low >= self.high, self.low, self.high)
        self.zeros = numpy.zeros_like(self.largest)
        self.scales = self.zeros
        self.errors = numpy.full_like(self.largest, numpy.inf)

    def stored(self, scales):
        return narrowed(scales, self.kind)

    def whole(self, scales):
        """What has no scale gets the smallest step from one."""
        return numpy.where(scales == 0, numpy.float32(EPSILON[self.kind]), scales)

    def signed(self):
        self.scales = self.whole(self.stored(self.largest / numpy.float32(-EXACT[self.grid])))

    def minmax(self):
        self.scales = self.whole(self.stored(numpy.abs(self.largest) / numpy.float32(FULL[self.grid])))

    def affine(self):
        exact = (self.high - self.low) / numpy.float32(2 * FULL[self.grid])
        self.scales = self.whole(self.stored(exact))
        zeros = nearest(numpy.float32(-EXACT[self.grid]) - self.low / self.scales, self.grid)
        self.zeros = numpy.where(exact == 0, numpy.float32(0), zeros)

    def search(self, asymmetric):
        """What no candidate is better for than none, as zeros, is left to a rule."""
        self.search_asymmetric() if asymmetric else self.search_symmetric()
        found = self.scales, self.zeros, (self.scales != 0) & numpy.isfinite(self.scales)
        self.zeros = numpy.zeros_like(self.largest)
        self.affine() if asymmetric else self.signed()
        self.scales = numpy.where(found[2], found[0], self.scales)
        self.zeros = numpy.where(found[2], found[1], self.zeros)

    def steps(self, scales, zeros):
        inverse = numpy.float32(1) / scales
        return nearest(self.w * inverse + zeros, self.grid) - zeros

    def solved(self, steps):
        """The scale of the least squares for these codes."""
        weighted = steps * self.importance
        return total(weighted * self.w) / total(weighted * steps)

    def judge(self, scales, zeros, steps=None):
        """Takes a candidate where it is better than the best so far."""
        steps = self.steps(scales, zeros) if steps is None else steps
        off = self.w - steps * scales
        errors = total(self.importance * (off * off))
        better = errors < self.errors
        self.errors = numpy.where(better, errors, self.errors)
        self.scales = numpy.where(better, scales, self.scales)
        self.zeros = numpy.where(better, zeros, self.zeros)

    def search_symmetric(self):
        zero = numpy.zeros_like(self.largest)
        exact = self.largest / numpy.float32(-EXACT[self.grid])
        self.judge(self.stored(exact), zero)
        rough = [exact * numpy.float32(factor) for factor in FACTORS]
        for scales in [*rough, numpy.abs(self.largest) / numpy.float32(FULL[self.grid])]:
            self.judge(self.stored(self.solved(self.steps(scales, zero))), zero)

    def search_asymmetric(self):
        for low in CLIPS:
            for high in CLIPS:
                least = self.low * numpy.float32(low)
                greatest = self.high * numpy.float32(high)
                scales = self.stored((greatest - least) / numpy.float32(2 * FULL[self.grid]))
                inverse = numpy.float32(1) / scales
                zeros = nearest(numpy.float32(-EXACT[self.grid]) - least * inverse, self.grid)
                steps = self.steps(scales, zeros)
                self.judge(scales, zeros, steps)
                self.judge(self.stored(self.solved(steps)), zeros)

    def codes(self):
        return nearest(self.w / self.scales + self.zeros, self.grid)


def encoded(weight, *, grid, kind, group, rule, asymmetric=False, importance=None):
    """The Decoded of a weight in float32, its scales stored as `kind`."""
    rows, columns = weight.shape
    if rule == "importance":
        per_column = error_weights(importance)
    else:
        per_column = numpy.ones(columns, "f4")
    per_group = numpy.tile(per_column.reshape(-1, group), (rows, 1))
    groups = Groups(weight.reshape(-1, group), per_group, grid, kind)
    with numpy.errstate(divide="ignore", invalid="ignore"):
        if rule in ("importance", "mse"):
            groups.search(asymmetric)
        elif asymmetric:
            groups.affine()
        else:
            getattr(groups, rule)()
    shape = rows, columns // group
    return Decoded(grid, groups.codes().reshape(weight.shape), groups.scales.reshape(shape),
                   groups.zeros.reshape(shape))


def clipped(block, bits, z):
    """One block of the paper's scheme, of any shape: clipped to the mean size and z deviations, then rounded to
    the codes between both ends.  M. Yu et al., 2024, https://arxiv.org/abs/2411.07191, section 5.2"""
    low, high = block.min(), block.max()
    sizes = numpy.abs(block.astype("f8")).ravel()
    if z > 0 and len(sizes) > 1:
        mean = numpy.cumsum(sizes)[-1] / len(sizes)
        squares = numpy.cumsum(sizes * sizes)[-1]
        deviation = numpy.sqrt(max(0, (squares - len(sizes) * mean * mean) / (len(sizes) - 1)))
        bound = numpy.float32(mean + z * deviation)
        low, high = max(low, -bound), min(high, bound)
    step = (high - low) / numpy.float32(2 ** bits - 1)
    codes = numpy.round((numpy.clip(block, low, high) - low) / step) if step > 0 else 0 * block
    return codes * step + low


def clipped_blocks(weight, bits=4, run=16384, tile=0, z=0):
    """Of runs of elements in row order, or of square tiles; the last are smaller."""
    rounded = numpy.empty_like(weight)
    if tile:
        for row in range(0, weight.shape[0], tile):
            for column in range(0, weight.shape[1], tile):
                place = slice(row, row + tile), slice(column, column + tile)
                rounded[place] = clipped(weight[place], bits, z)
        return rounded
    for first in range(0, weight.size, run):
        rounded.reshape(-1)[first:first + run] = clipped(weight.reshape(-1)[first:first + run], bits, z)
    return rounded
