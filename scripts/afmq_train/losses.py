"""Losses of tokens and their gradients, a block of rows of logits at a time, so that the logits
of a whole batch are never in memory."""

import math

import torch
import torch.nn.functional as F


def divergence(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """KL(p ‖ q) of logarithms of probabilities [rows, vocab], for each row."""
    return (p.exp() * (p - q)).sum(-1)


def top_k_divergence(ids, p, z, q):
    """KL of the teacher's K largest probabilities and the rest as one event, and its gradient in the
    logits z, whose logarithms of probabilities are q. ids and the logarithms p are [rows, K]."""
    least = 1e-12  # where the rest is nothing
    rest = (1 - p.exp().sum(-1)).clamp(min=least).log()
    q_rest = (z.scatter(1, ids, float("-inf")).logsumexp(-1) - z.logsumexp(-1)).clamp(min=math.log(least))
    loss = (p.exp() * (p - q.gather(1, ids))).sum(-1) + rest.exp() * (rest - q_rest)
    softmax = q.exp()
    grad = softmax * (1 - (rest - q_rest).exp()).unsqueeze(1)
    grad.scatter_(1, ids, softmax.gather(1, ids) - p.exp())
    return loss, grad


class Objective:
    """kl · divergence + ce · cross-entropy of a token. The divergence is that of both models' logits
    over the temperature, times its square, so that its gradient keeps its size (Hinton et al. 2015,
    arXiv:1503.02531)."""

    def __init__(self, kl: float, ce: float, temperature: float):
        self.kl, self.ce, self.temperature = kl, ce, temperature

    def value(self, kl: float, nats: float) -> float:
        return self.kl * kl + self.ce * nats

    @torch.no_grad()
    def gradient(self, model, hidden, targets, teacher):
        """The loss summed over tokens, float64, and its gradient in hidden [tokens, hidden].

        teacher(at, n) returns the teacher's logits of a block, [n, vocab], or its ids and logarithms
        of probabilities at the temperature, [n, K] each; None where the loss has no divergence.
        """
        total = torch.zeros((), dtype=torch.float64, device=hidden.device)
        grad = torch.empty_like(hidden)
        t, head = self.temperature, model.head
        for at in range(0, len(hidden), model.block_rows()):
            block = slice(at, at + model.block_rows())
            z, rows = model.logits(hidden[block]), len(targets[block])
            step = 0
            if self.ce > 0:
                target = targets[block].unsqueeze(1)
                q = F.log_softmax(z, -1)
                total -= self.ce * q.gather(1, target).sum(dtype=torch.float64)
                step = q.exp_().scatter_add_(1, target, torch.full_like(target, -1, dtype=q.dtype)).mul_(self.ce)
            if self.kl > 0:
                z = z / t
                q, asked = F.log_softmax(z, -1), teacher(at, rows)
                if isinstance(asked, tuple):
                    loss, g = top_k_divergence(*asked, z, q)
                else:
                    p = F.log_softmax(asked / t, -1)
                    loss = divergence(p, q)
                    g = q.exp_().sub_(p.exp_())
                total += self.kl * t * t * loss.sum(dtype=torch.float64)
                step = step + g.mul_(self.kl * t)
            grad[block] = (step.to(head.dtype) @ head.weight).float()
        return total, grad


@torch.no_grad()
def measure(model, hidden, targets, teacher):
    """Sums over tokens, float64: KL(teacher ‖ model), −log p of the text. teacher(at, n) returns the
    teacher's logits, or is None."""
    kl = torch.zeros((), dtype=torch.float64, device=hidden.device)
    nats = torch.zeros_like(kl)
    for at in range(0, len(hidden), model.block_rows()):
        block = slice(at, at + model.block_rows())
        q = F.log_softmax(model.logits(hidden[block]), -1)
        nats -= q.gather(1, targets[block].unsqueeze(1)).sum(dtype=torch.float64)
        if teacher is not None:
            kl += divergence(F.log_softmax(teacher(at, len(q)), -1), q).sum(dtype=torch.float64)
    return torch.stack((kl, nats))
