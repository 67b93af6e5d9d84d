"""AutoRound: BITS/GROUP, symmetric codes with a 16-bit scale for every group, its own default.

Rounding and ranges are trained block by block, in 200 steps of 8 sequences.
"""

from auto_round import AutoRound
from checkpoints import load, sequences, weights_of
from job import groups_bits, serve
from transformers import AutoTokenizer


def quantize(job):
    bits, group = job.bits_and_group()
    model, text = load(job.model), sequences(job.model, job.calib, job.length)
    rounder = AutoRound(
        model, AutoTokenizer.from_pretrained(job.model), bits=bits, group_size=group, sym=True,
        dataset=text, nsamples=len(text), seqlen=job.length, device_map="cpu", enable_torch_compile=False,
    )
    model, _ = rounder.quantize()
    weights = weights_of(model)
    return weights, groups_bits(weights, bits, group, 16)


serve(quantize, "auto-round")
