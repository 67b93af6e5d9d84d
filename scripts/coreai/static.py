"""The program for hosts with static shapes (iOS), in the functions that Apple's runner calls.

load_embeddings() returns embedding_table, which the host keeps.
gather_embeddings_Q(in_new_token_ids int32 [1, Q], embedding_table) returns their embeddings
[1, Q, 1, hidden].
extend_C_Q and prompt_opt_C_Q(transformer_input [1, Q, 1, hidden], position_ids uint16 [1, Q],
in_step int32 [1], causal_mask [1, C, 1, Q], embedding_table) with the states key_cache and
value_cache [layers, 1, kv_heads · head_dim, 1, C] return out_logits: extend [1, 1, Q, vocab],
prompt_opt, which only fills the caches, one number. embedding_table is an input of extend only
where the head is tied to it.

Channels come second, projections are 1x1 convolutions and each head is multiplied on its own,
the form that the Neural Engine takes. An adapter NAME adds adapter_NAME_extend_C_Q and
adapter_NAME_prompt_opt_C_Q.
"""

from __future__ import annotations

import numpy as np
from builder import Builder, Constants, Dim, Function, HardwareConstraints, Tensor
from coreai import authoring
from coreai.authoring import AllocationType
from dynamic import MASKED

QUERIES = (8, 16, 64)  # tokens in a call; a host calls at positions that are multiples of them
SHORTEST = 256  # the first context; the following ones double up to the job's
INTERLEAVE = 8  # channels that are stored together


def contexts(longest: int) -> list[int]:
    out, n = [], SHORTEST
    while n < longest:
        out.append(n)
        n *= 2
    return [*out, longest]


def queries(longest: int) -> list[int]:
    """The numbers of tokens whose calls fill a context exactly."""
    return [q for q in QUERIES if longest % q == 0]


def build(job: dict, constants: Constants, dtype: type) -> list[str]:
    """Appends the functions to the active module and returns their names."""
    names = ["load_embeddings"]
    Embeddings(job, constants, dtype).load()
    for q in queries(job["model"]["context"]):
        names.append(Embeddings(job, constants, dtype).gather_tokens(q))
    for function in job["functions"]:
        for c in contexts(job["model"]["context"]):
            for q in queries(job["model"]["context"]):
                for kind in ("extend", "prompt_opt"):
                    name = f"{function['name']}{kind}_{c}_{q}"
                    Transformer(job, constants, dtype, name, function["adapter"], c, q, kind).build()
                    names.append(name)
    return names


def constrain(job: dict, program, names: list[str]) -> None:
    """Sets the layouts of the buffers that the host shares with the functions."""
    longest = job["model"]["context"]
    table = HardwareConstraints(AllocationType.IOSurface, interleave=[INTERLEAVE, 1, 1], alignments=[1] * 4)
    cache = HardwareConstraints(
        AllocationType.IOSurface,
        interleave=[1, 1, INTERLEAVE, 1, 1],
        alignments=[1, 1, 1, 1, INTERLEAVE * longest, 1],
    )
    caches = {n: cache for n in ("key_cache", "value_cache", "new_key_cache", "new_value_cache")}
    for name in names:
        plain = name == "load_embeddings" or name.startswith("gather_embeddings")
        program.set_hardware_constraints(name, {"embedding_table": table} | ({} if plain else caches))


class Embeddings(Builder):
    """Builds load_embeddings and gather_embeddings."""

    def __init__(self, job: dict, constants: Constants, dtype: type) -> None:
        super().__init__(constants, dtype)
        self.model = job["model"]
        self.name = self.model["embedding"]
        self.quantized = self.name + ".q" in constants

    def table(self) -> tuple[tuple, type]:
        """Shape and type of embedding_table."""
        return (self.model["vocab"], 1, self.model["hidden"]), np.int8 if self.quantized else self.dtype

    def load(self) -> None:
        f = Function("load_embeddings", {}, {})
        with f.body():
            if self.quantized:
                table = self.stored(self.name + ".q", self.table()[0])
            else:
                table = self.reshape(self.matrix(self.name), *self.table()[0])
        f.finish({"embedding_table": table}, {})

    def gather_tokens(self, q: int) -> str:
        name = f"gather_embeddings_{q}"
        f = Function(name, {"in_new_token_ids": ((1, q), np.int32), "embedding_table": self.table()}, {})
        with f.body():
            rows = self.reshape(f.values["in_new_token_ids"], q, 1)
            x = self.reshape(self.gather(f.values["embedding_table"], rows), q, self.model["hidden"])
            if self.quantized:
                scale = self.stored(self.name + ".scale", (self.model["vocab"], 1))
                x = self.mul(self.cast(x, self.dtype), self.gather(scale, rows))
                x = self.scaled(x, 2.0 ** -self.model["embedding_exponent"])
            x = self.reshape(x, 1, q, 1, self.model["hidden"])
        f.finish({"gathered_embeddings": x}, {})
        return name


class Transformer(Builder):
    """Builds extend or prompt_opt for one length of the context and one number of tokens."""

    def __init__(
        self, job: dict, constants: Constants, dtype: type, name: str, adapter: str, context: int, q: int, kind: str
    ) -> None:
        super().__init__(constants, dtype)
        self.model, self.name, self.adapter = job["model"], name, adapter
        self.context, self.q, self.kind = context, q, kind
        self.embeddings = Embeddings(job, constants, dtype)

    def build(self) -> None:
        m, q, c = self.model, self.q, self.context
        tied = m["head"] == m["embedding"]
        cache = (m["layers"], 1, m["kv_heads"] * m["head_dim"], 1, c)
        inputs = {
            "transformer_input": ((1, q, 1, m["hidden"]), self.dtype),
            "position_ids": ((1, q), np.uint16),
            "in_step": ((1,), np.int32),
            "causal_mask": ((1, c, 1, q), self.dtype),
        }
        if tied:
            inputs["embedding_table"] = self.embeddings.table()
        f = Function(self.name, inputs, {n: (cache, self.dtype) for n in ("key_cache", "value_cache")})
        with f.body():
            self.values = f.values
            x = self.forward()
            if self.kind == "prompt_opt":
                out = self.filled()
            else:
                out = self.head(x, f.values["embedding_table"] if tied else None)
        f.finish({"out_logits": out}, {n: self.values[n] for n in ("key_cache", "value_cache")})

    def forward(self) -> Tensor:
        """The hidden states [1, hidden, 1, q]."""
        v = self.values
        rows = self.reshape(self.cast(v["position_ids"], np.int32), self.q, 1)
        self.rows = rows
        half = self.model["head_dim"] // 2
        self.cos, self.sin = (
            self.reshape(self.transpose(self.gather(self.stored(n), rows), 1, 0), 1, 1, half, self.q)
            for n in ("rope.cos", "rope.sin")
        )
        self.first = Dim(v["in_step"].value)
        after = self.add(v["in_step"], self.literal([self.q], np.int32))
        self.after = Dim(after.value)
        self.masks = {0: v["causal_mask"]}
        x = self.transpose(v["transformer_input"], 0, 3, 2, 1)
        for layer in range(self.model["layers"]):
            x = self.layer(x, layer)
        return self.norm(x, "model.norm.weight", 1)

    def layer(self, x: Tensor, layer: int) -> Tensor:
        p = f"model.layers.{layer}."
        x = self.add(x, self.attention(self.norm(x, p + "input_layernorm.weight", 1), layer, p + "self_attn."))
        h = self.norm(x, p + "post_attention_layernorm.weight", 1)
        gate = self.unary("silu", self.projection(h, p + "mlp.gate_proj"))
        return self.add(x, self.projection(self.mul(gate, self.projection(h, p + "mlp.up_proj")), p + "mlp.down_proj"))

    def norm(self, x: Tensor, name: str, axis: int) -> Tensor:
        """RMSNorm over an axis in fp16, whose squares overflow above 255.

        With u = x/m, m the largest magnitude but at least √eps, it is u/√(mean(u²) + eps/m²).
        """
        root = self.literal(self.model["rms_norm_eps"] ** 0.5)
        m = self.binary("maximum", self.reduce("reduce_max", self.unary("abs_", x), axis), root)
        u, e = self.binary("divide", x, m), self.binary("divide", root, m)
        mean = self.reduce("reduce_mean", self.mul(u, u), axis)
        r = self.unary("rsqrt", self.add(mean, self.mul(e, e)))
        n = len(x.shape)
        weight = self.stored(name, tuple(x.shape[axis] if i == axis else 1 for i in range(n)))
        return self.mul(self.mul(u, r), weight)

    def convolution(self, x: Tensor, weight: Tensor) -> Tensor:
        y = authoring.conv2d(x.value, weight.value, np.ones(2, np.uint32), np.ones(2, np.uint32), np.array(1, np.uint32))
        return Tensor(y, (1, weight.shape[0]) + x.shape[2:])

    def projection(self, x: Tensor, module: str) -> Tensor:
        """W·x + bias of a module, with B·A·x of the adapter added; channels are axis 1."""
        y = self.convolution(x, self.matrix(module + ".weight", 2))
        if module + ".bias" in self.constants:
            y = self.add(y, self.stored(module + ".bias", (1, y.shape[1], 1, 1)))
        prefix = f"adapter:{self.adapter}:{module}"
        if not self.adapter or prefix + ".lora_A" not in self.constants:
            return y
        for side in ".lora_A", ".lora_B":
            x = self.convolution(x, self.stored(prefix + side, (*self.constants.shape(prefix + side), 1, 1)))
        return self.add(y, x)

    def attention(self, x: Tensor, layer: int, p: str) -> Tensor:
        """Attention head by head: the scores [1, context, heads, q] are normalized over axis 1."""
        m, c, q = self.model, self.context, self.q
        heads, kv, d = m["heads"], m["kv_heads"], m["head_dim"]
        query = self.heads(x, p + "q_proj", heads, p + "q_norm.weight")
        query = self.scaled(query, d**-0.5)
        key = self.cached("key_cache", self.heads(x, p + "k_proj", kv, p + "k_norm.weight"), layer)
        value = self.cached("value_cache", self.projection(x, p + "v_proj"), layer)
        scores = []
        for h in range(heads):
            own = self.transpose(self.head_of(query, h, q), 0, 2, 1)  # [1, q, d]
            s = self.matmul(own, self.head_of(key, h // (heads // kv), c))
            scores.append(self.reshape(self.transpose(s, 0, 2, 1), 1, c, 1, q))
        weights = self.softmax(self.add(self.concat(2, *scores), self.mask(m["windows"][layer])), 1)
        out = []
        for h in range(heads):
            w = self.reshape(self.slice(weights, (0, 0, h, 0), (1, c, h + 1, q)), 1, c, q)
            out.append(self.reshape(self.matmul(self.head_of(value, h // (heads // kv), c), w), 1, d, 1, q))
        return self.projection(self.concat(1, *out), p + "o_proj")

    def head_of(self, x: Tensor, h: int, length: int) -> Tensor:
        """The channels of one head of [1, heads · d, 1, length]: [1, d, length]."""
        d = self.model["head_dim"]
        return self.reshape(self.slice(x, (0, h * d, 0, 0), (1, (h + 1) * d, 1, length)), 1, d, length)

    def heads(self, x: Tensor, module: str, n: int, norm: str) -> Tensor:
        """A projection, normalized and rotated per head: [1, n · head_dim, 1, q]."""
        d, q = self.model["head_dim"], self.q
        y = self.reshape(self.projection(x, module), 1, n, d, q)
        if norm in self.constants:
            y = self.norm(y, norm, 2)
        re, im = self.slice(y, (0, 0, 0, 0), (1, n, d // 2, q)), self.slice(y, (0, 0, d // 2, 0), (1, n, d, q))
        y = self.concat(
            2,
            self.sub(self.mul(re, self.cos), self.mul(im, self.sin)),
            self.add(self.mul(im, self.cos), self.mul(re, self.sin)),
        )
        return self.reshape(y, 1, n * d, 1, q)

    def cached(self, state: str, x: Tensor, layer: int) -> Tensor:
        """Writes [1, channels, 1, q] to a layer of a cache and returns it, [1, channels, 1, context]."""
        channels = x.shape[1]
        update = self.reshape(x, 1, 1, channels, 1, self.q)
        cache = self.update(
            self.values[state], (layer, 0, 0, 0, self.first), (layer + 1, 1, channels, 1, self.after), update
        )
        self.values[state] = cache
        whole = self.slice(cache, (layer, 0, 0, 0, 0), (layer + 1, 1, channels, 1, self.context))
        return self.reshape(whole, 1, channels, 1, self.context)

    def mask(self, window: int) -> Tensor:
        """What is added to the scores: the host's mask, and that of a window of the layer."""
        if window >= self.context:
            window = 0
        if window not in self.masks:
            keys = self.literal(np.arange(self.context).reshape(1, self.context, 1, 1), np.int32)
            own = self.sub(self.rows, self.literal([window - 1], np.int32))
            hidden = self.binary("greater", self.reshape(own, 1, 1, 1, self.q), keys)
            hidden = self.scaled(self.cast(hidden, self.dtype), MASKED)
            self.masks[window] = self.add(hidden, self.values["causal_mask"])
        return self.masks[window]

    def head(self, x: Tensor, table: Tensor | None) -> Tensor:
        """Logits [1, 1, q, vocab]."""
        m = self.model
        vocab, hidden = m["vocab"], m["hidden"]
        if table is None:
            weight = self.matrix(m["head"])
        else:
            weight = self.reshape(table, vocab, hidden)
            if self.embeddings.quantized:
                weight = self.rows_scaled(weight, m["head"] + ".scale", np.int8, ())
        x = self.reshape(self.transpose(x, 0, 2, 3, 1), 1, 1, self.q, hidden)
        return self.scaled(self.matmul(x, self.transpose(weight, 1, 0)), 2.0 ** -m["head_exponent"])

    def filled(self) -> Tensor:
        """One number that depends on both caches, the result of a call that fills them."""
        first = [self.slice(self.values[n], (0,) * 5, (1,) * 5) for n in ("key_cache", "value_cache")]
        return self.reshape(self.add(*first), 1)
