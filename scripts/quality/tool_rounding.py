"""Round to nearest: BITS/GROUP, with the range of every group in a 16-bit scale and a zero point."""

import torch
from checkpoints import projections
from job import groups_bits, serve


def rounded(weight, bits, group):
    """Returns weight [out, in] rounded to 2^bits equal steps from the least to the largest of a group."""
    parts = []
    for part in weight.split(group, dim=1):
        low, high = part.amin(1, keepdim=True).clamp(max=0), part.amax(1, keepdim=True).clamp(min=0)
        scale = ((high - low) / (2**bits - 1)).half().float().clamp(min=2**-24)
        zero = torch.round(-low / scale)
        code = (torch.round(part / scale) + zero).clamp(0, 2**bits - 1)
        parts.append((code - zero) * scale)
    return torch.cat(parts, dim=1)


def quantize(job):
    bits, group = job.bits_and_group()
    weights = {name: rounded(w, bits, group) for name, w in projections(job.model).items()}
    return weights, groups_bits(weights, bits, group, 16 + bits)


serve(quantize, "torch")
