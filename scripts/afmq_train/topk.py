"""The cache of the teacher's largest logits: for every training sequence the ids and logarithms of
probabilities of the K likeliest tokens at every position. The teacher runs once over each.

Each machine has a cache of its own, which its processes share as a mapped file. A sequence counts
once its checksum is there, so that one that a crash tore is computed again.
"""

import os
import zlib

import numpy as np
import torch

from .state import writing


class TopK:
    def __init__(self, path: str, sequences: int, seq_len: int, k: int, temperature: float):
        self.k, self.temperature, self.path = k, temperature, path
        row = np.dtype([("check", "<u4"), ("ids", "<i4", (seq_len, k)), ("p", "<f4", (seq_len, k))])
        size = sequences * row.itemsize
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                if os.fstat(fd).st_size != size:
                    # All of it now, where the system can, not by a fault of the mapping.
                    getattr(os, "posix_fallocate", lambda fd, _, n: os.truncate(fd, n))(fd, 0, size)
            finally:
                os.close(fd)
            self.rows = np.memmap(path, row, "r+", shape=(sequences,))
        except OSError as e:
            raise writing(path, e) from e

    @staticmethod
    def _check(ids, p) -> int:
        return zlib.crc32(p, zlib.crc32(ids)) or 1

    def get(self, place: int):
        """The ids and logarithms [seq_len, K] of a sequence, or None."""
        row = self.rows[place]
        ids, p = row["ids"].copy(), row["p"].copy()
        if row["check"] != self._check(ids, p):
            return None
        return torch.from_numpy(ids), torch.from_numpy(p)

    def put(self, place: int, logits: torch.Tensor) -> None:
        """Stores the teacher's logits [seq_len, vocab] of a sequence."""
        p, ids = torch.log_softmax(logits / self.temperature, -1).topk(self.k, -1)
        ids, p = ids.int().cpu().numpy(), p.float().cpu().numpy()
        self.rows[place] = (self._check(ids, p), ids, p)
