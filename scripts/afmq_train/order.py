"""The order in which a run reads its training text: that of pkg/recovery, which draws it with
PCG and Shuffle of Go's math/rand/v2."""

import torch

_64 = (1 << 64) - 1
_128 = (1 << 128) - 1


class PCG:
    """rand.NewPCG(seed1, seed2): PCG-DXSM with 128 bits of state (O'Neill 2014)."""

    def __init__(self, seed1: int, seed2: int):
        self.state = (seed1 & _64) << 64 | seed2 & _64

    def uint64(self) -> int:
        self.state = (self.state * 0x2360ED051FC65DA44385DF649FCCF645 + 0x5851F42D4C957F2D14057B7EF767814F) & _128
        hi, lo = self.state >> 64, self.state & _64
        hi ^= hi >> 32
        hi = hi * 0xDA942042E4DD58B5 & _64
        hi ^= hi >> 48
        return hi * (lo | 1) & _64

    def below(self, n: int) -> int:
        """Rand.Uint64N: a uniform number in [0, n), by Lemire's method (arXiv:1805.10941)."""
        if n & (n - 1) == 0:
            return self.uint64() & (n - 1)
        product = self.uint64() * n
        if product & _64 < n:
            threshold = (1 << 64) % n
            while product & _64 < threshold:
                product = self.uint64() * n
        return product >> 64

    def shuffle(self, values: list) -> None:
        """Rand.Shuffle."""
        for i in range(len(values) - 1, 0, -1):
            j = self.below(i + 1)
            values[i], values[j] = values[j], values[i]


class Order:
    """The training sequences of a run, as corpus.sequence in pkg/recovery returns them.

    Each epoch shuffles the documents, joins them with separators, cuts sequences of seq_len tokens
    and one more, and shuffles those. Nothing but the two permutations of an epoch is in memory:
    tokens, [total] int32, may be mapped, and document i is tokens[starts[i]:starts[i+1]].

    With same_cut every epoch has the sequences of the first, in another order.
    """

    def __init__(self, tokens, starts, separator: int, seq_len: int, seed: int, same_cut: bool = False):
        self.tokens, self.starts, self.separator, self.seq_len = tokens, starts, separator, seq_len
        self.seed, self.same_cut = seed, same_cut
        self.lengths = starts[1:] - starts[:-1]
        self.gap = 1 if separator >= 0 else 0
        joined = len(tokens) + self.gap * (len(self.lengths) - 1)
        self.per_epoch = (joined - 1) // seq_len
        self.epoch = -1

    def _begin(self, epoch: int) -> None:
        cut = PCG(self.seed, 2) if self.same_cut else PCG(self.seed, 2 + epoch)
        documents = list(range(len(self.lengths)))
        cut.shuffle(documents)
        self.documents = torch.tensor(documents)
        self.ends = (self.lengths[self.documents] + self.gap).cumsum(0)  # in the joined text, separators included
        places = list(range(self.per_epoch))
        (PCG(self.seed, 2 + epoch) if self.same_cut and epoch > 0 else cut).shuffle(places)
        self.places, self.epoch = torch.tensor(places), epoch

    def place(self, i: int) -> int:
        """The place of the i-th sequence of the run in the joined text of its epoch, in sequences."""
        epoch, k = divmod(i, self.per_epoch)
        if epoch != self.epoch:
            self._begin(epoch)
        return int(self.places[k])

    def sequence(self, i: int) -> torch.Tensor:
        """The i-th sequence of the run, [seq_len + 1] int32."""
        out = torch.empty(self.seq_len + 1, dtype=torch.int32)
        at, done = self.place(i) * self.seq_len, 0
        k = int(torch.searchsorted(self.ends, at, right=True))
        while done < len(out):
            document = int(self.documents[k])
            length = int(self.lengths[document])
            offset = at + done - (int(self.ends[k]) - length - self.gap)
            if offset < length:
                n = min(length - offset, len(out) - done)
                begin = int(self.starts[document]) + offset
                out[done : done + n] = self.tokens[begin : begin + n]
                done += n
            elif self.gap:
                out[done] = self.separator
                done += 1
                k += 1
            else:
                k += 1
        return out
