"""The program for hosts with dynamic shapes (macOS): one function per adapter.

main(input_ids int32 [1, q], position_ids int32 [1, n]) with the states keyCache and
valueCache [layers, 1, kv_heads, s, head_dim] returns logits [1, q, vocab]. position_ids is
0, 1, … n-1: the last q of them belong to input_ids, the n-q before are in the caches.
"""

from __future__ import annotations

import numpy as np
from builder import DYNAMIC, Builder, Constants, Dim, Function, Tensor

MASKED = -30000.0  # large against any score, and well within the range of fp16


def build(job: dict, constants: Constants, dtype: type) -> list[str]:
    """Appends the functions of the job to the active module and returns their names."""
    names = []
    for function in job["functions"]:
        Decoder(job, constants, dtype, function).build()
        names.append(function["name"])
    return names


class Decoder(Builder):
    """Builds one function."""

    def __init__(self, job: dict, constants: Constants, dtype: type, function: dict) -> None:
        super().__init__(constants, dtype)
        self.model = job["model"]
        self.adapter = function["adapter"]  # "" for the base alone
        self.inputs = function.get("adapter_inputs") or []  # low-rank factors as inputs
        self.name = function["name"]

    def build(self) -> None:
        m = self.model
        cache = (m["layers"], 1, m["kv_heads"], DYNAMIC, m["head_dim"])
        inputs = {"input_ids": ((1, DYNAMIC), np.int32), "position_ids": ((1, DYNAMIC), np.int32)}
        inputs |= {i["name"]: (tuple(i["shape"]), self.dtype) for i in self.inputs}
        states = {n: (cache, self.dtype) for n in ("keyCache", "valueCache")}
        f = Function(self.name, inputs, states)
        with f.body():
            self.values = f.values
            logits = self.forward(f.values["input_ids"], f.values["position_ids"])
        f.finish({"logits": logits}, {n: self.values[n] for n in states})

    def forward(self, ids: Tensor, positions: Tensor) -> Tensor:
        m = self.model
        self.q, self.n = self.size(ids, 1), self.size(positions, 1)
        self.first = Dim(self.sub_dims(self.n, self.q))
        own = self.slice(positions, (0, self.first), (1, self.n))
        rows = self.reshape(own, -1, 1)
        self.cos, self.sin = self.gather(self.stored("rope.cos"), rows), self.gather(self.stored("rope.sin"), rows)
        self.keys, self.own = self.reshape(positions, 1, -1), rows
        self.masks: dict[int, Tensor] = {}
        x = self.embedded(m["embedding"], self.reshape(ids, -1, 1), m["embedding_exponent"])
        x = self.reshape(x, 1, self.q, m["hidden"])
        for layer in range(m["layers"]):
            x = self.layer(x, layer)
        x = self.norm(x, "model.norm.weight")
        logits = self.matmul(x, self.transpose(self.matrix(m["head"]), 1, 0))
        return self.scaled(logits, 2.0 ** -m["head_exponent"])

    def sub_dims(self, x: Dim, y: Dim):
        return self.sub(Tensor(x.value, (1,)), Tensor(y.value, (1,))).value

    def norm(self, x: Tensor, name: str) -> Tensor:
        """RMSNorm over the last dimension, in float32, as squares overflow fp16."""
        wide = self.cast(x, np.float32)
        mean = self.reduce("reduce_mean", self.mul(wide, wide), len(x.shape) - 1)
        r = self.unary("rsqrt", self.add(mean, self.literal(self.model["rms_norm_eps"], np.float32)))
        return self.mul(self.cast(self.mul(wide, r), self.dtype), self.stored(name))

    def projection(self, x: Tensor, module: str) -> Tensor:
        """W·x + bias of a module, with B·A·x of the adapter added."""
        y = self.matmul(x, self.transpose(self.matrix(module + ".weight"), 1, 0))
        if module + ".bias" in self.constants:
            y = self.add(y, self.stored(module + ".bias"))
        factors = self.low_rank(module)
        if factors is None:
            return y
        a, b = factors
        return self.add(y, self.matmul(self.matmul(x, self.transpose(a, 1, 0)), self.transpose(b, 1, 0)))

    def low_rank(self, module: str) -> tuple[Tensor, Tensor] | None:
        """The factors A [rank, in] and B [out, rank] of a module; the scale is in B."""
        if self.inputs:
            _, _, layer, part = module.split(".", 3)
            found = []
            for side in "AB":
                x = self.values[f"lora_{side}_{part.split('.')[-1]}"]
                own = self.slice(x, (int(layer), 0, 0), (int(layer) + 1, *x.shape[1:]))
                found.append(self.reshape(own, *x.shape[1:]))
            return found[0], found[1]
        prefix = f"adapter:{self.adapter}:{module}"
        if not self.adapter or prefix + ".lora_A" not in self.constants:
            return None
        return self.stored(prefix + ".lora_A"), self.stored(prefix + ".lora_B")

    def layer(self, x: Tensor, layer: int) -> Tensor:
        p = f"model.layers.{layer}."
        x = self.add(x, self.attention(self.norm(x, p + "input_layernorm.weight"), layer, p + "self_attn."))
        h = self.norm(x, p + "post_attention_layernorm.weight")
        gate = self.unary("silu", self.projection(h, p + "mlp.gate_proj"))
        return self.add(x, self.projection(self.mul(gate, self.projection(h, p + "mlp.up_proj")), p + "mlp.down_proj"))

    def attention(self, x: Tensor, layer: int, p: str) -> Tensor:
        """Grouped-query attention; the query heads that share a key head are rows of one product."""
        m = self.model
        heads, kv, d = m["heads"], m["kv_heads"], m["head_dim"]
        query = self.heads(x, p + "q_proj", heads, p + "q_norm.weight")
        query = self.reshape(self.scaled(query, d**-0.5), 1, kv, -1, d)
        key = self.cached("keyCache", self.heads(x, p + "k_proj", kv, p + "k_norm.weight"), layer)
        value = self.cached("valueCache", self.heads(x, p + "v_proj", kv, None), layer)
        scores = self.matmul(query, self.transpose(key, 0, 1, 3, 2))
        scores = self.add(self.reshape(scores, 1, kv, heads // kv, self.q, self.n), self.mask(m["windows"][layer]))
        weights = self.reshape(self.softmax(scores, 4), 1, kv, -1, self.n)
        y = self.reshape(self.matmul(weights, value), 1, heads, self.q, d)
        return self.projection(self.reshape(self.transpose(y, 0, 2, 1, 3), 1, self.q, heads * d), p + "o_proj")

    def heads(self, x: Tensor, module: str, n: int, norm: str | None) -> Tensor:
        """A projection as heads [1, n, q, head_dim]; queries and keys (norm) are rotated."""
        y = self.reshape(self.projection(x, module), 1, self.q, n, self.model["head_dim"])
        y = self.transpose(y, 0, 2, 1, 3)
        if norm is None:
            return y
        if norm in self.constants:
            y = self.norm(y, norm)
        return self.rotate(y)

    def rotate(self, x: Tensor) -> Tensor:
        """Rotary position embedding: the halves of a head are real and imaginary parts."""
        n, d = x.shape[1], x.shape[3]
        sizes = (1, n, self.q, d)
        re, im = self.part(x, 3, 0, d // 2, sizes), self.part(x, 3, d // 2, d, sizes)
        return self.concat(
            3,
            self.sub(self.mul(re, self.cos), self.mul(im, self.sin)),
            self.add(self.mul(im, self.cos), self.mul(re, self.sin)),
        )

    def cached(self, state: str, x: Tensor, layer: int) -> Tensor:
        """Writes [1, kv, q, d] to a layer of a cache and returns all of it, [1, kv, n, d]."""
        kv, d = x.shape[1], x.shape[3]
        end = (layer + 1, 1, kv, self.n, d)
        cache = self.update(
            self.values[state], (layer, 0, 0, self.first, 0), end, self.reshape(x, 1, 1, kv, self.q, d)
        )
        self.values[state] = cache
        return self.reshape(self.slice(cache, (layer, 0, 0, 0, 0), end), 1, kv, self.n, d)

    def mask(self, window: int) -> Tensor:
        """What is added to the scores [q, n] of a layer that sees window positions, 0 for all."""
        if window not in self.masks:
            hidden = self.binary("greater", self.keys, self.own)
            hidden = self.cast(hidden, self.dtype)
            if window:
                first = self.sub(self.own, self.literal([window - 1], np.int32))
                hidden = self.add(hidden, self.cast(self.binary("greater", first, self.keys), self.dtype))
            self.masks[window] = self.scaled(hidden, MASKED)
        return self.masks[window]
