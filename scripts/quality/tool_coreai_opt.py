"""coreai-opt, Apple's compression library for Core AI: sensitive k-means of 4, 3 or 2 bits, or a mixture.

Palettes for groups of 16 rows with row scales, k-means weighted by squared gradients: the best
of the settings that scripts/coreai_opt_compare.py compares. A setting such as mix3.5 is a number of bits per
weight, from 2, 3 and 4 bits by the greedy allocation of its guide, with the PSNR of 2,048 tokens.
"""

import pathlib
import sys

import torch
from checkpoints import sequences
from job import serve

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))
from coreai_opt_compare import BEST, WIDTHS, mix, palettize, sensitivities

PSNR_TOKENS = 2048
made = {}  # palettes of one width, by bits


def palettes(job, text, bits):
    if bits not in made:
        file = job.work / "sensitivities.pt"
        if not file.exists():
            sensitivities(job.model, text, file)
        made[bits] = palettize(job.model, BEST, bits, text, str(file))
    return made[bits]


def quantize(job):
    text = sequences(job.model, job.calib, job.length)
    if job.setting.startswith("mix"):
        candidates = {bits: palettes(job, text, bits) for bits in WIDTHS}
        compressed = mix(job.model, candidates, float(job.setting.removeprefix("mix")), text[: PSNR_TOKENS // job.length])
    else:
        compressed = palettes(job, text, int(job.setting))
    return {name + ".weight": w for name, w in compressed.weights.items()}, sum(compressed.bits.values())


torch.manual_seed(0)
serve(quantize, "coreai-opt")
