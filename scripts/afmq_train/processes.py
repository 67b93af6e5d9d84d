"""The processes that torchrun started, and how they are told to stop."""

import fcntl
import os
import signal
import sys
import threading

import torch
import torch.distributed as dist

from .errors import Fault


class Processes:
    def __init__(self):
        self.rank, self.world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        local = int(os.environ.get("LOCAL_RANK", 0))
        self.first_here, self.node = local == 0, int(os.environ.get("GROUP_RANK", 0))
        cuda = torch.cuda.is_available()
        if cuda and local >= torch.cuda.device_count():
            raise Fault("usage", f"process {local} of this machine has no GPU: there are {torch.cuda.device_count()}")
        self.device = torch.device("cuda", local) if cuda else torch.device("cpu")
        if cuda:
            torch.cuda.set_device(self.device)
        self.name = torch.cuda.get_device_name(self.device) if cuda else "cpu"
        self.backend = "nccl" if cuda else "gloo"

    def join(self) -> None:
        if "RANK" in os.environ:
            dist.init_process_group(self.backend, device_id=self.device if self.backend == "nccl" else None)

    def leave(self) -> None:
        if dist.is_initialized():
            dist.destroy_process_group()

    def sum(self, *tensors: torch.Tensor) -> None:
        """Replaces tensors by their sums over all processes."""
        if self.world > 1:
            for t in tensors:
                dist.all_reduce(t)

    def any(self, value: bool) -> bool:
        """Whether a value is true in any process."""
        told = torch.tensor([float(value)], device=self.device)
        self.sum(told)
        return told.item() > 0

    def wait(self) -> None:
        if self.world > 1:
            dist.barrier()

    def share(self, n: int) -> range:
        """The numbers below n that this process has: a run of them, as even as can be."""
        return range(self.rank * n // self.world, (self.rank + 1) * n // self.world)


class Stop:
    """Whether the run is to save its state and end: after SIGTERM or SIGINT and, with watch, once the
    program at the other end of standard input is gone."""

    def __init__(self, watch: bool):
        self.asked = False
        for s in (signal.SIGTERM, signal.SIGINT):
            signal.signal(s, self._ask)
        if watch:
            threading.Thread(target=self._watch, daemon=True).start()

    def _ask(self, *_) -> None:
        self.asked = True

    def _watch(self) -> None:
        while os.read(sys.stdin.fileno(), 1 << 12):
            pass
        self.asked = True


def lock(path: str):
    """Locks the saved state until the process ends. afmq has the same lock while it runs."""
    file = open(path, "a+b")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
        raise Fault("output", "is in use by another process", path) from e
    except OSError:
        pass  # a file system without locks
    return file
