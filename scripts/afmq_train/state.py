"""The saved state of a run, which is that of pkg/recovery: recovery.safetensors with the values of
every adapter and the training state, and the journal with the metrics of all steps.

Both programs compute a digest of what they save, from JSON as Go's encoding/json writes it.
"""

import errno
import hashlib
import json
import os
import re
import secrets

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .errors import Fault

VALUES = ("weights", "m", "v", "best")  # what is saved of every adapter
_F32 = 2  # the number of the type in pkg/safetensors
METRIC = ("step", "tokens", "rank", "loss", "rate", "gradient_norm", "validation_kl", "validation_perplexity")


def go_number(x: float) -> str:
    """A number as Go's encoding/json writes it: the shortest digits, an exponent below 1e-6 and
    from 1e21 on."""
    if isinstance(x, int):
        return str(x)
    digits, _, exponent = repr(x).partition("e")
    sign, digits = ("-", digits[1:]) if digits[0] == "-" else ("", digits)
    whole, _, part = digits.partition(".")
    part = "" if part == "0" else part
    point = len(whole) + int(exponent or 0)  # the place of the decimal point in the digits
    digits = (whole + part).lstrip("0")
    point -= len(whole + part) - len(digits)
    digits = digits.rstrip("0")
    if not digits:
        return sign + "0"
    if point <= -6 or point > 21:
        mantissa = digits[0] + ("." + digits[1:] if digits[1:] else "")
        return f"{sign}{mantissa}e{'+' if point > 0 else '-'}{abs(point - 1):02d}".replace("e-0", "e-")
    if point <= 0:
        return sign + "0." + "0" * -point + digits
    return sign + digits[:point].ljust(point, "0") + ("." + digits[point:] if digits[point:] else "")


def go_metric(metric: dict) -> str:
    """A line of metrics as Go writes it."""
    present = [k for k in METRIC if metric.get(k) is not None and not (k in ("rate", "gradient_norm") and metric[k] == 0)]
    return "{" + ",".join(f'"{k}":{go_number(metric[k])}' for k in present) + "}"


def go_string(text: str) -> str:
    quoted = json.dumps(text, ensure_ascii=False)
    for c in "<>&":
        quoted = quoted.replace(c, f"\\u{ord(c):04x}")
    return quoted


def as_bytes(tensor: torch.Tensor) -> memoryview:
    return memoryview(tensor.contiguous().numpy()).cast("B")


def writing(path: str, error: OSError) -> Fault:
    return Fault("output", os.strerror(error.errno) if error.errno else str(error), path, errno=error.errno or errno.EIO)


class State:
    """What a run continues from. training is the training state, metrics its lines of metrics, and
    values["rank-R.NAME"] the values of an adapter, on the CPU."""

    def __init__(self, path: str, journal: str, ranks: list[int], sizes: list[int]):
        self.path, self.journal = path, journal
        self.names = {f"rank-{rank}.{what}": n for rank, n in zip(ranks, sizes, strict=True) for what in VALUES}
        self._load()
        self._read_journal()
        if self.digest(self.text) != self.saved_digest:
            raise Fault("input", "the state or the journal beside it was changed after the run saved it", path)

    @property
    def step(self) -> int:
        return self.training["step"]

    def _load(self) -> None:
        try:
            with safe_open(self.path, "pt") as file:
                meta = file.metadata() or {}
                # Copies: the file is replaced by the next one.
                self.values = {name: file.get_tensor(name).clone() for name in self.names}
        except (OSError, SafetensorError) as e:
            raise Fault("input", f"cannot be read: {e}", self.path) from e
        for name, n in self.names.items():
            if self.values[name].dtype != torch.float32 or list(self.values[name].shape) != [n]:
                raise Fault("input", f"tensor {name!r} has another type or shape than the job's", self.path)
        self.text, self.saved_digest = meta.get("training_state", ""), meta.get("digest", "")
        try:
            self.training = json.loads(self.text)
        except ValueError as e:
            raise Fault("input", f"its metadata cannot be read: {e}", self.path) from e

    def _read_journal(self) -> None:
        """Collects the metrics up to the saved step, as journalMetrics in pkg/recovery does, and cuts
        off a line that a crash left incomplete."""
        with open(self.journal, "rb") as file:
            data = file.read()
        self.metrics, whole, reached = [], 0, 0
        for line in data.splitlines(keepends=True):
            try:
                entry = json.loads(line)
            except ValueError:
                break
            if not line.endswith(b"\n"):
                break
            whole += len(line)
            if entry["to"] > self.step or entry["from"] > entry["to"]:
                continue
            kept = next((i for i, m in enumerate(self.metrics) if m["step"] > entry["from"]), len(self.metrics))
            self.metrics = self.metrics[:kept] + (entry["metrics"] or [])
            reached = entry["to"]
        if reached != self.step:
            raise Fault("input", f"is of step {self.step}, and the journal beside it ends at {reached}", self.path)
        self.whole = whole
        self.metrics = [go_metric(m) for m in self.metrics]
        self.saved, self.kept = self.step, len(self.metrics)

    def add(self, **metric) -> None:
        self.metrics.append(go_metric(metric))

    def digest(self, text: str) -> str:
        h = hashlib.sha256()
        h.update((go_string(text) + "\n").encode())
        h.update(("[" + ",".join(self.metrics) + "]\n").encode())
        for name, n in self.names.items():
            h.update(f'{{"Name":"{name}","DType":{_F32},"Shape":[{n}]}}\n'.encode())
            h.update(as_bytes(self.values[name]))
        return h.hexdigest()

    def save(self) -> None:
        """Writes the journal and then the state, which replaces its predecessor as a whole, and
        returns once both would survive a crash."""
        try:
            self._append()
            self._write()
        except OSError as e:
            raise writing(self.path, e) from e
        except SafetensorError as e:  # its message names the error of the system
            number = re.search(r"os error (\d+)", str(e))
            raise writing(self.path, OSError(int(number[1]) if number else errno.EIO, str(e))) from e
        self.saved, self.kept = self.step, len(self.metrics)

    def _append(self) -> None:
        line = f'{{"from":{self.saved},"to":{self.step},"metrics":[{",".join(self.metrics[self.kept :])}]}}\n'.encode()
        with open(self.journal, "r+b", buffering=0) as file:
            file.truncate(self.whole)
            file.seek(self.whole)
            if file.write(line) != len(line):
                raise OSError(errno.ENOSPC, "")
            os.fsync(file.fileno())
        self.whole += len(line)

    def _write(self) -> None:
        text = json.dumps(self.training, ensure_ascii=False)
        folder, name = os.path.split(self.path)
        temporary = os.path.join(folder, f".{name}.afmq-{secrets.token_hex(8)}")
        try:
            save_file(self.values, temporary, {"training_state": text, "digest": self.digest(text)})
            for path, after in ((temporary, lambda: os.replace(temporary, self.path)), (folder, lambda: None)):
                fd = os.open(path, os.O_RDONLY)
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)
                after()
        finally:
            if os.path.exists(temporary):
                os.unlink(temporary)
