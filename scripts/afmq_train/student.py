"""One adapter in training: its values as pkg/recovery saves them, and the matrices of the products."""

import math

import torch

from .model import KINDS

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # of AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101)


class Part:
    """The adapter of one module. Of the values, A·L [in, rank] and then B [out, rank] are its share;
    L is the Cholesky factor of the second moments of the module's input, of which the job has the
    inverse [in, in] or, where only the diagonal was kept, L itself [in]."""

    def __init__(self, described: dict, student, factor: torch.Tensor):
        rank, rows, columns = described["rank"], described["rows"], described["columns"]
        self.layer, self.kind, self.factor = described["layer"], KINDS.index(described["kind"]), factor
        self.share = slice(student.size, student.size + rank * (rows + columns))
        self.split, self.rank = rank * columns, rank
        student.size = self.share.stop
        self.shape_a, self.shape_b, self.scale = (rank, columns), (rows, rank), described["scale"]

    def halves(self, flat: torch.Tensor):
        own = flat[self.share]
        return own[: self.split], own[self.split :]

    def unwhiten(self, values: torch.Tensor) -> torch.Tensor:
        """A [rank, in] of A·L [in, rank]."""
        white = values.view(-1, self.rank).T
        return white / self.factor if self.factor.dim() == 1 else white @ self.factor

    def whiten(self, grad: torch.Tensor) -> torch.Tensor:
        """The gradient in A·L [in, rank] of that in A [rank, in]."""
        grad = grad.view(self.shape_a)
        return (grad / self.factor if self.factor.dim() == 1 else grad @ self.factor.T).T


class Student:
    def __init__(self, described: dict, inputs, layers: int, device):
        self.rank, self.size, factors = described["rank"], 0, {}
        self.parts = []
        for p in described["parts"]:
            name = p["factor"]
            if name not in factors:
                factors[name] = inputs["factors." + name].to(device)
            self.parts.append(Part(p, self, factors[name]))
        # The matrices of the products and their gradients are views of two tensors, so that one
        # reduction combines all gradients.
        self.flat = torch.zeros(self.size, device=device)
        self.grads = torch.zeros(self.size, device=device)
        self.adapter = [[None] * len(KINDS) for _ in range(layers)]
        self.leaves = []
        for p in self.parts:
            leaves = []
            for value, grad, shape in zip(p.halves(self.flat), p.halves(self.grads), (p.shape_a, p.shape_b), strict=True):
                leaf = value.view(shape).requires_grad_()
                leaf.grad = grad.view(shape)
                leaves.append(leaf)
            self.leaves.append(leaves)
            self.adapter[p.layer][p.kind] = (*leaves, p.scale)

    def load(self, state, device) -> None:
        self.weights, self.m, self.v, self.best = (
            state.values[f"rank-{self.rank}.{what}"].to(device) for what in ("weights", "m", "v", "best")
        )

    def store(self, state) -> None:
        for what, value in (("weights", self.weights), ("m", self.m), ("v", self.v), ("best", self.best)):
            state.values[f"rank-{self.rank}.{what}"].copy_(value)

    @torch.no_grad()
    def refresh(self, stored: torch.dtype = torch.float32) -> None:
        """Computes the matrices of the products from the values, rounded to a type."""
        values = []
        for p in self.parts:
            a, b = p.halves(self.weights)
            values.append((p.unwhiten(a), b.view(p.shape_b)))
        if stored == torch.float8_e4m3fn:
            values = float8(values)
        for leaves, pair in zip(self.leaves, values, strict=True):
            for leaf, value in zip(leaves, pair, strict=True):
                leaf.copy_(value.to(stored) if stored.itemsize > 1 else value)

    @torch.no_grad()
    def gradient(self) -> torch.Tensor:
        """The gradient in the values."""
        out = torch.empty_like(self.grads)
        for p in self.parts:
            (a, b), (to_a, to_b) = p.halves(self.grads), p.halves(out)
            to_a.view(-1, p.rank).copy_(p.whiten(a))
            to_b.copy_(b)
        return out

    @torch.no_grad()
    def adamw(self, step: int, rate: float, decay: float, grad: torch.Tensor) -> None:
        self.m.mul_(BETA1).add_(grad, alpha=1 - BETA1)
        self.v.mul_(BETA2).addcmul_(grad, grad, value=1 - BETA2)
        size = self.v.sqrt().div_(math.sqrt(1 - BETA2**step)).add_(EPSILON)
        self.weights.mul_(1 - rate * decay).addcdiv_(self.m, size, value=-rate / (1 - BETA1**step))


def float8(values: list) -> list:
    """Pairs of A [rank, in] and B [out, rank] as an adapter in F8_E4M3 has them, as in pkg/adapter: the row
    of A and the column of B of a component get about the same magnitude, and all values the largest
    power of two as a factor with which they fit."""
    balanced, largest = [], 0.0
    for a, b in values:
        of_a, of_b = a.abs().amax(1), b.abs().amax(0)
        shift = (torch.frexp(of_b).exponent - torch.frexp(of_a).exponent) >> 1
        shift = torch.where((of_a > 0) & (of_b > 0), shift, 0)
        pair = torch.ldexp(a, shift[:, None]), torch.ldexp(b, -shift)
        balanced.append(pair)
        largest = max(largest, *(m.abs().max().item() for m in pair))
    exponent = 0
    if 0 < largest < math.inf:
        fraction, power = math.frexp(largest)
        exponent = min(max(9 - power - (fraction > 0.875), -7), 12)
    up, down = 2.0**exponent, 2.0**-exponent
    return [tuple((m * up).to(torch.float8_e4m3fn).to(m.dtype) * down for m in pair) for pair in balanced]


def learning_rate(t: int, steps: int, peak: float, warmup: float) -> float:
    """The rate of step t of steps, from 1: a linear rise, then half a cosine, as in pkg/recovery."""
    rise = math.ceil(max(warmup, 0) * steps)
    if t <= rise:
        return peak * t / rise
    return peak * 0.5 * (1 + math.cos(math.pi * (t - rise) / (steps - rise + 1)))
