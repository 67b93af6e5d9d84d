"""MLX's affine quantization: BITS/GROUP, with a scale and a bias in 16 bits for every group."""

import mlx.core as mx
import numpy
import torch
from checkpoints import projections
from job import groups_bits, serve


def through(weight, bits, group):
    """Returns weight [out, in] after mx.quantize, of 16 bits as mlx-lm converts checkpoints, and back."""
    w = mx.array(weight.numpy().astype(numpy.float16))
    codes, scales, biases = mx.quantize(w, group_size=group, bits=bits)
    w = mx.dequantize(codes, scales, biases, group_size=group, bits=bits)
    return torch.from_numpy(numpy.array(w.astype(mx.float32)))


def quantize(job):
    bits, group = job.bits_and_group()
    weights = {name: through(w, bits, group) for name, w in projections(job.model).items()}
    return weights, groups_bits(weights, bits, group, 32)


serve(quantize, "mlx")
