"""Runs an asset in Core AI's reference runtime."""

from __future__ import annotations

import asyncio

import numpy as np
from coreai.authoring import AIModelAsset
from coreai.runtime import NDArray


class Session:
    """An asset that is loaded and the caches of one text. dtype is the arithmetic's type."""

    def __init__(self, job: dict, asset: str, dtype: type) -> None:
        self.model, self.dtype = job["model"], dtype
        self.loop = asyncio.new_event_loop()
        self.context = AIModelAsset.load(asset).executable()
        self.program = self.loop.run_until_complete(self.context.__aenter__())
        self.functions: dict = {}

    def close(self) -> None:
        self.loop.run_until_complete(self.context.__aexit__(None, None, None))
        self.loop.close()

    def call(self, name: str, inputs: dict, state: dict) -> np.ndarray:
        """Runs a function and returns its first result."""
        if name not in self.functions:
            self.functions[name] = self.program.load_function(name)
        arrays = {n: NDArray(np.ascontiguousarray(x)) for n, x in inputs.items()}
        out = self.loop.run_until_complete(self.functions[name](arrays, state=state))
        return next(iter(out.values())).numpy()


class Dynamic(Session):
    """Calls the functions as a host does. "context" of a request is the length of the caches."""

    def reset(self, request: dict) -> None:
        m = self.model
        shape = (m["layers"], 1, m["kv_heads"], request["context"], m["head_dim"])
        self.caches = {n: NDArray(np.zeros(shape, self.dtype)) for n in ("keyCache", "valueCache")}

    def run(self, request: dict, ids: np.ndarray, extra: dict) -> np.ndarray:
        """Logits [tokens, vocab] of tokens that follow those of earlier calls."""
        positions = np.arange(request["position"] + len(ids), dtype=np.int32)[None]
        inputs = {"input_ids": ids.astype(np.int32)[None], "position_ids": positions}
        inputs |= {n: x.astype(self.dtype) for n, x in extra.items()}
        return self.call(request["function"], inputs, self.caches)[0].astype(np.float32)


class Static(Session):
    """Calls the functions as a host does; only an asset without constraints on its buffers.

    "context" and "queries" of a request choose the functions: the longest context and 8 tokens
    if they are absent. With "prefill" those are called that return no logits.
    """

    def reset(self, request: dict) -> None:
        m = self.model
        self.length = request.get("context") or m["context"]
        shape = (m["layers"], 1, m["kv_heads"] * m["head_dim"], 1, self.length)
        self.caches = {n: NDArray(np.zeros(shape, self.dtype)) for n in ("key_cache", "value_cache")}
        self.table = self.call("load_embeddings", {}, {})

    def run(self, request: dict, ids: np.ndarray, extra: dict) -> np.ndarray:
        """Logits [tokens, vocab]; position must be a multiple of the tokens of a call."""
        m, q, out = self.model, request.get("queries") or 8, []
        kind = "prompt_opt" if request.get("prefill") else "extend"
        tied = {"embedding_table": self.table} if m["head"] == m["embedding"] else {}
        for at in range(0, len(ids), q):
            own = ids[at : at + q]
            tokens = np.zeros((1, q), np.int32)
            tokens[0, : len(own)] = own
            x = self.call(f"gather_embeddings_{q}", {"in_new_token_ids": tokens, "embedding_table": self.table}, {})
            step = request["position"] + at
            mask = np.full((1, self.length, 1, q), -40000, self.dtype)
            for i in range(len(own)):  # a host hides everything from the tokens that fill up a call
                mask[0, : step + i + 1, 0, i] = 0
            inputs = {
                "transformer_input": x,
                "position_ids": np.arange(step, step + q, dtype=np.uint16)[None],
                "in_step": np.array([step], np.int32),
                "causal_mask": mask,
            } | tied
            logits = self.call(f"{request['function']}{kind}_{self.length}_{q}", inputs, self.caches)
            if kind == "extend":
                out.append(logits.reshape(q, m["vocab"])[: len(own)].astype(np.float32))
        return np.concatenate(out) if out else np.zeros((0, m["vocab"]), np.float32)
