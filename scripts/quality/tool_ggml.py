"""Blocks of llama.cpp by ggml's own quantizer, with an importance matrix: a TYPE such as Q3_K.

What llama-quantize does with --pure --imatrix, for matrices of any width: where 256 does not
divide the rows, the fewest consecutive rows that it divides are joined.
"""

import math
import pathlib
import sys

import numpy
import torch
from checkpoints import is_projection, load, projections, sequences
from job import serve

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))
import bench
import gguf
from make_ggml_fixtures import GGML


@torch.no_grad()
def importance(job):
    """Returns the mean square of every input of the projections over the calibration text."""
    file = job.work / "importance.pt"
    if file.exists():
        return torch.load(file)
    model, sums = load(job.model), {}

    def observe(name):
        def add(_, inputs):
            sums[name] = sums.get(name, 0) + inputs[0].double().square().sum((0, 1))

        return add

    for name, module in model.named_modules():
        if is_projection(name + ".weight"):
            module.register_forward_pre_hook(observe(name + ".weight"))
    text = sequences(job.model, job.calib, job.length)
    for ids in text:
        model(ids)
    means = {name: (s / (len(text) * job.length)).float() for name, s in sums.items()}
    torch.save(means, file)
    return means


def quantize(job):
    ggml = GGML(job.work.parents[2])  # the directory of all models: built once
    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[job.setting]]
    means, weights, bits = importance(job), {}, 0
    for name, w in projections(job.model).items():
        rows = math.lcm(block, w.shape[1]) // w.shape[1]
        if w.shape[0] % rows:
            rows = w.shape[0]  # block divides the matrix, or ggml refuses it
        x = w.numpy().reshape(-1, rows * w.shape[1])
        data = ggml.quantize(job.setting, x, numpy.tile(means[name].numpy(), rows))
        weights[name] = torch.from_numpy(ggml.dequantize(job.setting, data, w.numel())).reshape(w.shape)
        bits += 8 * len(data)
    return weights, bits


serve(quantize, version=bench.SDIST.replace("==", " "))
