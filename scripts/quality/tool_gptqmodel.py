"""GPTQModel: BITS/GROUP by GPTQ, symmetric codes with a 16-bit scale for every group, its own default."""

import os
import shutil

# On two cores its pool of threads has one, and asks for two.
os.environ.setdefault("GPTQMODEL_CPU_WORKERS", str(max(2, os.cpu_count() // 2)))

import torch
from checkpoints import projections, sequences
from gptqmodel import BACKEND, GPTQModel, QuantizeConfig
from job import groups_bits, serve


def quantize(job):
    bits, group = job.bits_and_group()
    text = [{"input_ids": ids, "attention_mask": torch.ones_like(ids)} for ids in sequences(job.model, job.calib, job.length)]
    model = GPTQModel.load(str(job.model), QuantizeConfig(bits=bits, group_size=group), device="cpu", dtype=torch.float32)
    model.quantize(text, batch_size=1)
    saved = job.work / "saved"
    shutil.rmtree(saved, ignore_errors=True)
    model.save(str(saved))
    # In memory the zero points are those of the file's format, in which they are one less.
    loaded = GPTQModel.load(str(saved), device="cpu", backend=BACKEND.GPTQ_TORCH)
    packed = dict(loaded.model.named_modules())
    weights = {}
    for name, original in projections(job.model).items():
        w = packed[name.removesuffix(".weight")].dequantize_weight().T.float()
        weights[name] = w[: original.shape[0], : original.shape[1]]
    return weights, groups_bits(weights, bits, group, 16)


serve(quantize, "gptqmodel")
