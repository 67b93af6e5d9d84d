"""The forward pass of the models that afmq reads, in the stored forms of its artifacts.

A job describes a model by its sizes and the frequencies of its rotary embedding, which afmq
computes. Weights are frozen parameters; an adapter is passed to the forward pass.
"""

import hashlib
import os

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import nn
from torch.utils.checkpoint import checkpoint

from .errors import Fault

KINDS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
ATTENTION = KINDS[:4]


class Files:
    """The tensors of several safetensors files, on a device; on the CPU they are mapped."""

    def __init__(self, paths, device="cpu"):
        self.of, self.device = {}, device
        for path in paths:
            try:
                file = safe_open(path, "pt")
            except (OSError, SafetensorError) as e:
                raise Fault("input", f"cannot be read: {e}", path) from e
            for name in file.keys():
                self.of[name] = file

    def __contains__(self, name: str) -> bool:
        return name in self.of

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.of[name].get_tensor(name).to(self.device)


def check_files(files) -> None:
    """Checks that files have the content that the job names."""
    for f in files:
        try:
            if os.path.getsize(f["path"]) == f["bytes"]:
                with open(f["path"], "rb") as data:
                    if hashlib.file_digest(data, "sha256").hexdigest() == f["sha256"]:
                        continue
        except OSError as e:
            raise Fault("input", f"cannot be read: {e.strerror}", f["path"]) from e
        raise Fault("input", "was changed after the job was written", f["path"])


def frozen(tensor: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)


def unpack(packed: torch.Tensor, bits: int, columns: int) -> torch.Tensor:
    """Indices [rows, columns] from rows of bytes, lowest bit first."""
    if 8 % bits == 0:
        shifts = torch.arange(0, 8, bits, device=packed.device, dtype=torch.uint8)
        indices = (packed.unsqueeze(-1) >> shifts).bitwise_and_((1 << bits) - 1)
        return indices.flatten(1)[:, :columns]
    pairs = packed.int()
    pairs = pairs | F.pad(pairs[:, 1:], (0, 1)) << 8
    first = torch.arange(columns, device=packed.device) * bits
    return (pairs[:, first // 8] >> (first % 8).int()).bitwise_and_((1 << bits) - 1)


def palette(indices, lut, scale, columns: int, group: int, dtype: torch.dtype) -> torch.Tensor:
    """The weights [rows, columns] of a palette. Products of table and scale are exact in float32."""
    bits = lut.shape[1].bit_length() - 1
    table = lut.float().repeat_interleave(group, 0)[: len(indices)]
    if scale is not None:
        table = table * scale.float().unsqueeze(1)
    return table.to(dtype).gather(1, unpack(indices, bits, columns).long())


class PackedProduct(torch.autograd.Function):
    """x·Wᵀ of a palette that is dequantized in the forward and again in the backward pass, so that
    no dense W outlives the product."""

    @staticmethod
    def forward(ctx, x, indices, lut, scale, group):
        ctx.save_for_backward(indices, lut, scale)
        ctx.group, ctx.columns = group, x.shape[-1]
        return x @ palette(indices, lut, scale, x.shape[-1], group, x.dtype).T

    @staticmethod
    def backward(ctx, grad):
        return grad @ palette(*ctx.saved_tensors, ctx.columns, ctx.group, grad.dtype), None, None, None, None


class Matrix(nn.Module):
    """A stored matrix: a palette that stays packed, or dense."""

    def __init__(self, model, name: str, dtype: torch.dtype):
        super().__init__()
        files, shape = model.files, model.shapes[name]
        self.group, self.dtype = model.group_rows, dtype
        stored = model.stored_name(name)
        parts = [stored + suffix for suffix in (".indices", ".lut", ".row_scale")]
        self.packed = parts[0] in files and model.packed
        if parts[0] in files:
            indices, lut, scale = (files[p] if p in files else None for p in parts)
            if self.packed:
                self.indices, self.lut = frozen(indices), frozen(lut)
                self.scale = None if scale is None else frozen(scale)
                return
            weight = palette(indices, lut, scale, shape[1], self.group, dtype)
        elif stored + ".q" in files:
            weight = files[stored + ".q"].float() * files[stored + ".scale"].unsqueeze(1)
        else:
            weight = model.tensor(name)
        if list(weight.shape) != shape:
            raise Fault("input", f"tensor {name!r} has shape {list(weight.shape)}; expected {shape}", model.path)
        self.weight = frozen(weight.to(dtype))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.packed:
            return PackedProduct.apply(x.to(self.dtype), self.indices, self.lut, self.scale, self.group)
        return F.linear(x.to(self.dtype), self.weight)


class Embedding(nn.Module):
    """The embedding as it is stored, so that its rows are exact in every arithmetic."""

    def __init__(self, model, name: str):
        super().__init__()
        files, stored = model.files, model.stored_name(name)
        self.group, self.columns = model.group_rows, model.shapes[name][1]
        values, lut, scale = next(
            (parts for parts in ((".q", None, ".scale"), (".indices", ".lut", ".row_scale")) if stored + parts[0] in files),
            (None, None, None),
        )

        def part(suffix):
            return frozen(files[stored + suffix]) if suffix and stored + suffix in files else None

        self.weight = part(values) if values else frozen(model.tensor(name))
        self.lut, self.scale = part(lut), part(scale)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        if self.lut is not None:
            return self.palettized(ids.flatten()).unflatten(0, ids.shape)
        x = self.weight[ids].float()
        return x if self.scale is None else x * self.scale[ids].unsqueeze(-1)

    def palettized(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows of a palette. Products of table and scale are exact in float32."""
        table = self.lut[rows // self.group].float()
        if self.scale is not None:
            table = table * self.scale[rows].float().unsqueeze(1)
        bits = self.lut.shape[1].bit_length() - 1
        return table.gather(1, unpack(self.weight[rows], bits, self.columns).long())


class Linear(nn.Module):
    """A projection with its bias and, where it is adapted, scale · B·(A·x)."""

    def __init__(self, model, module: str):
        super().__init__()
        self.matrix = Matrix(model, module + ".weight", model.dtype)
        bias = module + ".bias"
        self.bias = frozen(model.tensor(bias).to(model.dtype)) if bias in model.shapes else None

    def forward(self, x, lora):
        x = x.to(self.matrix.dtype)
        y = self.matrix(x)
        if self.bias is not None:
            y = y + self.bias
        if lora is not None:
            a, b, scale = lora
            y = y + F.linear(F.linear(x, a.to(x.dtype)), b.to(x.dtype)) * scale
        return y


class Block(nn.Module):
    def __init__(self, model, layer: int):
        super().__init__()
        self.heads, self.kv_heads, self.head_dim, self.eps = model.heads, model.kv_heads, model.head_dim, model.eps
        self.window = model.windows[layer]
        prefix = f"model.layers.{layer}."
        self.linears = nn.ModuleList(
            Linear(model, prefix + ("self_attn." if kind in ATTENTION else "mlp.") + kind) for kind in KINDS
        )

        def norm(name):
            name = prefix + name + ".weight"
            return frozen(model.tensor(name).float()) if name in model.shapes else None

        self.norm_in, self.norm_out = norm("input_layernorm"), norm("post_attention_layernorm")
        self.norm_q, self.norm_k = norm("self_attn.q_norm"), norm("self_attn.k_norm")

    def forward(self, x, cos, sin, lora):
        q_proj, k_proj, v_proj, o_proj, gate, up, down = self.linears
        h = rms_norm(x, self.norm_in, self.eps)
        q = self.rotated(q_proj(h, lora[0]), self.norm_q, cos, sin)
        k = self.rotated(k_proj(h, lora[1]), self.norm_k, cos, sin)
        v = self.split(v_proj(h, lora[2]))
        h = self.attend(q, k, v).transpose(1, 2).flatten(2)
        x = x + o_proj(h, lora[3])
        h = rms_norm(x, self.norm_out, self.eps)
        return x + down(F.silu(gate(h, lora[4])) * up(h, lora[5]), lora[6])

    def split(self, x):
        """[batch, tokens, heads · head_dim] to [batch, heads, tokens, head_dim]."""
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def rotated(self, x, norm, cos, sin):
        dtype, x = x.dtype, self.split(x).float()
        if norm is not None:
            x = rms_norm(x, norm, self.eps)
        a, b = x.chunk(2, -1)
        return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(dtype)

    def attend(self, q, k, v):
        n, mask = q.shape[2], None
        if 0 < self.window < n:  # position i sees j where i - window < j <= i
            ones = torch.ones(n, n, dtype=torch.bool, device=q.device)
            mask = ones.tril().triu(1 - self.window)
        grouped = self.heads != self.kv_heads
        return F.scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None, enable_gqa=grouped)


def rms_norm(x, weight, eps):
    return F.rms_norm(x.float(), weight.shape, weight, eps)


class Body(nn.Module):
    """The layers, from embedded tokens to the input of the final norm."""

    def __init__(self, model):
        super().__init__()
        self.recompute = model.recompute
        self.blocks = nn.ModuleList(Block(model, layer) for layer in range(model.layers))

    def forward(self, x, cos, sin, lora):
        for block, adapters in zip(self.blocks, lora, strict=True):
            if self.recompute and torch.is_grad_enabled():
                x = checkpoint(block, x, cos, sin, adapters, use_reentrant=False)
            else:
                x = block(x, cos, sin, adapters)
        return x


class Model(nn.Module):
    """A model of a job. Embedding, final norm and head are outside the body, which FSDP divides."""

    def __init__(self, described: dict, inputs: Files, name: str, dtype, device, packed=False, recompute=False):
        super().__init__()
        self.path = described["path"]
        self.files = Files((f["path"] for f in described["files"]), device)
        self.inputs, self.input_prefix = inputs, f"weights.{name}."
        self.layers, self.heads, self.kv_heads = described["layers"], described["heads"], described["kv_heads"]
        self.head_dim, self.eps, self.windows = described["head_dim"], described["rms_norm_eps"], described["windows"]
        self.group_rows, self.vocab = described["group_rows"], described["vocab_size"]
        self.shapes = {t["name"]: t["shape"] for t in described["tensors"]}
        self.dtype, self.packed, self.recompute, self.rope = dtype, packed, recompute, described["rope"]
        self.device, self.tables = device, {}
        self.tied = "lm_head.weight" not in self.shapes
        self.embedding = Embedding(self, "model.embed_tokens.weight")
        self.packed = False  # losses need the head dense
        self.head = Matrix(self, "model.embed_tokens.weight" if self.tied else "lm_head.weight", dtype)
        self.packed = packed
        self.norm = frozen(self.tensor("model.norm.weight").float())
        self.body = Body(self)
        self.none = [(None,) * len(KINDS)] * self.layers
        self.to(device)

    def stored_name(self, name: str) -> str:
        """The name under which the files store a tensor: a tied embedding may be stored as the head."""
        there = any(name + suffix in self.files for suffix in ("", ".q", ".indices"))
        alias = self.tied and not there and self.input_prefix + name not in self.inputs
        return "lm_head.weight" if alias and name == "model.embed_tokens.weight" else name

    def tensor(self, name: str) -> torch.Tensor:
        """A tensor that is stored as it is, or that afmq dequantized for the job."""
        given = self.input_prefix + name
        if given in self.inputs:
            return self.inputs[given].to(self.device)
        stored = self.stored_name(name)
        if stored not in self.files:
            raise Fault("input", f"tensor {name!r} is missing", self.path)
        return self.files[stored]

    def angles(self, n: int):
        """Cosines and sines [n, head_dim / 2] of a sequence of n tokens."""
        if n not in self.tables:
            rope = next(r for r in self.rope if n <= r["positions"])
            inverse = torch.tensor(rope["frequencies"], dtype=torch.float64).float()
            # The angle is rounded to float32, as in pkg/infer.
            angle = (torch.arange(n, dtype=torch.float32).unsqueeze(1) * inverse).double()
            self.tables[n] = [(f(angle) * rope["factor"]).float().to(self.device) for f in (torch.cos, torch.sin)]
        return self.tables[n]

    def forward(self, ids: torch.Tensor, lora=None) -> torch.Tensor:
        """The hidden states [batch, tokens, hidden] after the final norm. lora has the adapters of
        each layer, (A, B, scale) or None in the order of KINDS."""
        x = self.embedding(ids)
        x = self.body(x, *self.angles(ids.shape[1]), lora or self.none)
        return rms_norm(x, self.norm, self.eps)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.head(hidden).float()

    def block_rows(self) -> int:
        """How many rows of logits are computed at once."""
        return max(1, (1 << 25) // self.vocab)
