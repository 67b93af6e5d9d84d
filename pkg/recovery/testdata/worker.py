"""What the tests of afmq_train ask it, with the package's own modules.

    python worker.py forward JOB...     logits of job["base"] for the ids in its inputs
    python worker.py gradients JOB...   losses and gradients of the adapter in its inputs
    python worker.py float8 JOB...      the adapter in its inputs as F8_E4M3 has it
    python worker.py order JOB COUNT    the first sequences of the run
    python worker.py numbers            numbers on standard input, one a line, as Go writes them
"""

import json
import os
import sys

import torch
from afmq_train import student
from afmq_train.losses import Objective
from afmq_train.model import KINDS, Files, Model
from afmq_train.order import Order
from afmq_train.state import go_number
from safetensors.torch import save_file

CPU = torch.device("cpu")


def load(path):
    with open(path) as file:
        job = json.load(file)
    folder = os.path.dirname(path)
    return job, Files([os.path.join(folder, job["inputs"])]), os.path.join(folder, "out.safetensors")


def forward(path):
    job, inputs, out = load(path)
    results = {}
    for packed in (False, True):
        model = Model(job["base"], inputs, "base", torch.float32, CPU, packed=packed)
        with torch.no_grad():
            results[f"packed-{packed}"] = model.logits(model(inputs["ids"].long())[0])
    save_file(results, out)


def gradients(path):
    job, inputs, out = load(path)
    ids, results = inputs["ids"].long(), {}
    read, targets = ids[:, :-1], ids[:, 1:].flatten()
    for packed in (False, True):
        model = Model(job["base"], inputs, "base", torch.float32, CPU, packed=packed, recompute=packed)
        with torch.no_grad():
            teacher = model(read).flatten(0, 1)
        adapter = [[None] * len(KINDS) for _ in range(model.layers)]
        leaves = {}
        for p in job["students"][0]["parts"]:
            a, b = (inputs[f"{p['factor']}.{s}"].clone().requires_grad_() for s in "AB")
            leaves[p["factor"]] = (a, b)
            adapter[p["layer"]][KINDS.index(p["kind"])] = (a, b, p["scale"])
        for name, o in {"kl": (1, 0, 1), "kl_temperature": (1, 0, 2), "ce": (0, 1, 1), "mix": (0.3, 0.7, 2)}.items():
            hidden = model(read, adapter)
            flat = hidden.detach().flatten(0, 1)
            loss, grad = Objective(*o).gradient(model, flat, targets, lambda at, n: model.logits(teacher[at : at + n]))
            hidden.backward(grad.view_as(hidden))
            results[f"{packed}.loss.{name}"] = loss.reshape(1).float()
            for module, pair in leaves.items():
                for side, leaf in zip("AB", pair, strict=True):
                    results[f"{packed}.{name}.{module}.{side}"] = leaf.grad
                    leaf.grad = None
    save_file(results, out)


def float8(path):
    job, inputs, out = load(path)
    names = [p["factor"] for p in job["students"][0]["parts"]]
    pairs = student.float8([(inputs[f"{n}.A"], inputs[f"{n}.B"]) for n in names])
    save_file({f"{n}.{side}": m.contiguous() for n, pair in zip(names, pairs, strict=True) for side, m in zip("AB", pair, strict=True)}, out)


def order(path, count):
    job, inputs, out = load(path)
    o = Order(inputs["tokens"], inputs["starts"], job["separator"], job["seq_len"], job["seed"])
    save_file({"sequences": torch.stack([o.sequence(i) for i in range(int(count))])}, out)


def numbers():
    for line in sys.stdin:
        print(go_number(float(line)))


if __name__ == "__main__":
    if sys.argv[1] in ("forward", "gradients", "float8"):
        for path in sys.argv[2:]:
            {"forward": forward, "gradients": gradients, "float8": float8}[sys.argv[1]](path)
    else:
        {"order": order, "numbers": numbers}[sys.argv[1]](*sys.argv[2:])
