"""The program of one tool: what it is asked, and what it answers."""

import argparse
import importlib.metadata
import json
import pathlib
import time
import traceback
from dataclasses import dataclass

from safetensors.torch import save_file


@dataclass
class Job:
    """One quantization of the projections of a model."""

    model: pathlib.Path  # checkpoint
    calib: pathlib.Path  # .jsonl; all its whole sequences are to be used
    length: int  # tokens of a sequence
    work: pathlib.Path  # directory for what several settings have in common
    setting: str  # in the words of the tool

    def bits_and_group(self):
        """Returns the numbers of a setting such as 3/64."""
        bits, group = self.setting.split("/")
        return int(bits), int(group)


def serve(quantize, package=None, version=None):
    """Answers the jobs of the command line, one for each setting, in files FOLDER/SETTING.

    quantize takes a Job and returns the dequantized weights, by name, and the bits that all of
    them take, with scales, tables and zero points. The version is that of the package. An answer
    says what it took in seconds of CPU time; the first includes what all share. A setting that fails
    has no answer.
    """
    p = argparse.ArgumentParser()
    p.add_argument("model", type=pathlib.Path)
    p.add_argument("calib", type=pathlib.Path)
    p.add_argument("length", type=int)
    p.add_argument("work", type=pathlib.Path)
    p.add_argument("out", type=pathlib.Path)
    p.add_argument("settings", nargs="+")
    args = p.parse_args()
    version = version or f"{package} {importlib.metadata.version(package)}"
    for setting in args.settings:
        begin = time.process_time()
        try:
            weights, bits = quantize(Job(args.model, args.calib, args.length, args.work, setting))
        except Exception:  # of a library; another setting may do
            traceback.print_exc()
            continue
        answer = {"bits": bits, "version": version, "seconds": time.process_time() - begin}
        file = args.out / (setting.replace("/", "-") + ".safetensors")
        save_file({name: w.contiguous() for name, w in weights.items()}, file, {"answer": json.dumps(answer)})


def groups_bits(weights, bits, group, per_group):
    """Returns the bits of codes and of what every group of a row has; the last may be shorter."""
    return sum(bits * w.numel() + per_group * w.shape[0] * -(-w.shape[1] // group) for w in weights.values())
