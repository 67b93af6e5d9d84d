"""The steps of a run: every process reads its share of the sequences of a step, the gradients of all
are summed, and every process makes the same update."""

import math
import os
import time

import torch

from . import topk
from .errors import Fault
from .losses import Objective, measure
from .model import Files, Model, check_files
from .order import Order
from .processes import Processes, Stop
from .state import State
from .student import Student, learning_rate


class Trainer:
    def __init__(self, job: dict, folder: str, processes: Processes, report):
        self.job, self.processes, self.report = job, processes, report
        self.device, self.fsdp = processes.device, job["parallel"] == "fsdp"
        if processes.world > job["sequences"]:
            raise Fault(
                "usage",
                f"WORLD_SIZE is {processes.world}, and a step has {job['sequences']} sequences, at least one for each process; "
                "raise --batch-tokens, or start fewer processes",
            )

        def path(name):
            return os.path.normpath(os.path.join(folder, job[name]))

        if processes.first_here:
            check_files(job["base"]["files"] + (job["teacher"]["files"] if job["teacher"] else []))
        inputs = Files([path("inputs")])
        dtype = torch.bfloat16 if job["compute"] == "bf16" else torch.float32
        recompute = job["recompute"]
        self.base = self.model("base", inputs, dtype, recompute)
        self.teacher = self.model("teacher", inputs, dtype, False) if job["teacher"] else None
        self.objective = Objective(job["kl"], job["ce"], job["temperature"])
        self.asks = self.teacher is not None and job["kl"] > 0
        top_k, length = job["teacher_top_k"], job["seq_len"]
        self.order = Order(inputs["tokens"], inputs["starts"], job["separator"], length, job["seed"], same_cut=top_k > 0)
        stream, starts = inputs["validation"].long(), inputs["validation_starts"].tolist()
        self.validation = [stream[a:b] for a, b in zip(starts, starts[1:], strict=False)]
        self.students = [Student(s, inputs, self.base.layers, self.device) for s in job["students"]]
        self.state = State(path("state"), path("journal"), [s.rank for s in self.students], [s.size for s in self.students])
        for s in self.students:
            s.load(self.state, self.device)
        self.stored = {"F32": torch.float32, "F16": torch.float16, "F8_E4M3": torch.float8_e4m3fn}[job["stored"]]
        self.cache = None
        if top_k > 0:
            name = os.path.join(folder, f"teacher-{processes.node}.cache")
            self.cache = topk.TopK(name, self.order.per_epoch, length, top_k, job["temperature"])
        self.made = {
            "from": self.state.step, "to": self.state.step, "by": "torchrun", "compute": job["compute"],
            "processes": processes.world, "device": processes.name, "torch": torch.__version__,
        }  # fmt: skip
        self.reported = self.saved_at = time.monotonic()

    def model(self, name: str, inputs: Files, dtype, recompute: bool) -> Model:
        job = self.job
        # With FSDP a model is divided before it goes to the device, which may not hold it whole.
        at = torch.device("cpu") if self.fsdp else self.device
        model = Model(job[name], inputs, name, dtype, at, packed=job["packed"], recompute=recompute)
        if job["compile"]:
            for block in model.body.blocks:
                block.compile()
        if self.fsdp:
            from torch.distributed.device_mesh import init_device_mesh
            from torch.distributed.fsdp import fully_shard

            mesh = init_device_mesh(self.device.type, (self.processes.world,))
            for block in (*model.body.blocks, model.body):
                fully_shard(block, mesh=mesh)
            model.to(self.device)
            model.device = self.device
        return model

    def run(self, stop: Stop) -> None:
        """Makes the remaining steps. Every process ends after the same one."""
        state, job = self.state, self.job
        self.report.event({"event": "began", "step": state.step}, f"begins at step {state.step} of {job['steps']}")
        for s in self.students:
            s.refresh()
        while state.step < job["steps"]:
            stopping = self.step(stop)
            last = state.step == job["steps"]
            if state.step % job["eval_every"] == 0 or last:
                self.evaluate()
            due = state.step - state.saved >= job["save_every"] or time.monotonic() - self.saved_at >= job["save_seconds"]
            if due or last or stopping:
                self.save()
            if stopping:
                break
        self.processes.wait()
        done = state.step == job["steps"]
        self.report.event({"event": "done" if done else "stopped"}, "done" if done else "stopped")

    def micro_batches(self, first: int):
        """The numbers of this process's sequences of a step, in parts of one forward pass. With FSDP
        all processes have as many parts; the rest are empty."""
        n, size = self.job["sequences"], self.job["micro_batch"]
        own = self.processes.share(n)
        for at in range(own.start, own.stop, size):
            yield range(first + at, first + min(at + size, own.stop))
        if self.fsdp:
            longest = -(-n // self.processes.world)
            for _ in range(-(-len(own) // size), -(-longest // size)):
                yield range(0)

    def step(self, stop: Stop) -> bool:
        """Makes one step of every adapter on the same sequences, and returns whether to end."""
        job, state = self.job, self.state
        losses = torch.zeros(len(self.students) + 1, dtype=torch.float64, device=self.device)
        for s in self.students:
            s.grads.zero_()
        for numbers in self.micro_batches(state.step * job["sequences"]):
            self.gradients(numbers, losses)
        losses[-1] = stop.asked
        self.processes.sum(losses, *(s.grads for s in self.students))
        self.update(losses.tolist())
        return losses[-1].item() > 0

    def gradients(self, numbers: range, losses) -> None:
        """Adds the losses and gradients of some sequences."""
        ids = [self.order.sequence(i) for i in numbers] or [torch.zeros(self.job["seq_len"] + 1, dtype=torch.int32)]
        ids = torch.stack(ids).long().to(self.device)
        read, targets = ids[:, :-1], ids[:, 1:].flatten()
        asked = self.ask(numbers, read) if self.asks else None
        for k, s in enumerate(self.students):
            hidden = self.base(read, s.adapter)
            flat = hidden.detach().flatten(0, 1)
            if len(numbers):
                loss, grad = self.objective.gradient(self.base, flat, targets, asked)
                losses[k] += loss
            else:
                grad = torch.zeros_like(flat)
            hidden.backward(grad.view_as(hidden))

    @torch.no_grad()
    def ask(self, numbers: range, read):
        """What the teacher says of sequences, as Objective.gradient takes it."""
        cache = self.cache
        places = [self.order.place(i) for i in numbers] if cache else []
        known = [cache.get(p) for p in places] if cache else [None]
        missing = any(k is None for k in known)
        if self.processes.any(missing) if self.fsdp else missing:  # a pass of a divided model takes all processes
            hidden = self.teacher(read)
            if not cache:
                flat = hidden.flatten(0, 1)
                return lambda at, n: self.teacher.logits(flat[at : at + n])
            for j, place in enumerate(places):
                if known[j] is None:
                    cache.put(place, self.teacher.logits(hidden[j]))
                    known[j] = cache.get(place)
        if not known:
            return None
        ids, p = (torch.cat(x).to(self.device) for x in zip(*known, strict=True))
        return lambda at, n: (ids[at : at + n].long(), p[at : at + n])

    def update(self, losses: list[float]) -> None:
        job, state = self.job, self.state
        n, step = job["sequences"] * job["seq_len"], state.step + 1
        rate = learning_rate(step, job["steps"], job["rate"], job["warmup"])
        for s, loss in zip(self.students, losses, strict=False):
            grad, loss = s.gradient(), loss / n
            norm = grad.norm(dtype=torch.float64).item() / n
            if not (math.isfinite(loss) and math.isfinite(norm)):
                self.diverged(step, s, f"the loss is {loss} and its gradient's norm {norm}")
            factor = job["clip"] / norm if 0 < job["clip"] < norm else 1.0
            s.adamw(step, rate, job["weight_decay"], grad.mul_(factor / n))
            s.refresh()
            state.add(step=step, tokens=step * n, rank=s.rank, loss=loss, rate=rate, gradient_norm=norm)
        state.training["step"] = step
        if time.monotonic() - self.reported >= 0.2 or step == job["steps"]:
            self.reported = time.monotonic()
            text = f"step {step} of {job['steps']}, loss {loss:.5f}"
            self.report.event({"event": "step", "step": step, "loss": loss}, text)

    def diverged(self, step: int, student: Student, what: str) -> None:
        raise Fault("diverged", what, step=step, rank=student.rank)

    @torch.no_grad()
    def evaluate(self) -> None:
        """Scores every adapter on the validation text, in the type that it will be stored in, and
        keeps the best values."""
        length, device = self.job["seq_len"] + 1, self.device
        whole = [s for s in self.validation if len(s) == length]
        short = [s for s in self.validation if len(s) < length]  # the last one
        own, size = self.processes.share(len(whole)), self.job["micro_batch"]
        calls = -(-(-(-len(whole) // self.processes.world)) // size)
        batches = [[whole[i] for i in own[at * size : (at + 1) * size]] for at in range(calls)]
        sums = torch.zeros(len(self.students), 2, dtype=torch.float64, device=device)
        for s in self.students:
            s.refresh(self.stored)
        for batch, counts in [(b, bool(b)) for b in batches] + [([s], self.processes.rank == 0) for s in short]:
            if not (counts or self.fsdp):
                continue
            ids = torch.stack(batch or whole[:1]).to(device)
            read, targets = ids[:, :-1], ids[:, 1:].flatten()
            of_teacher = None
            if self.teacher:
                flat = self.teacher(read).flatten(0, 1)
                of_teacher = lambda at, n, flat=flat: self.teacher.logits(flat[at : at + n])  # noqa: E731
            for k, s in enumerate(self.students):
                scores = measure(self.base, self.base(read, s.adapter).flatten(0, 1), targets, of_teacher)
                if counts:
                    sums[k] += scores
        for s in self.students:
            s.refresh()
        self.processes.sum(sums)
        tokens = sum(len(s) - 1 for s in self.validation)
        for s, best, (kl, nats) in zip(self.students, self.state.training["best"], (sums / tokens).tolist(), strict=True):
            self.score(s, best, kl, nats, tokens)

    def score(self, student: Student, best: dict, kl: float, nats: float, tokens: int) -> None:
        state, value = self.state, self.objective.value
        if not math.isfinite(value(kl, nats)):
            self.diverged(state.step, student, f"the loss on the validation text is {value(kl, nats)}")
        metric = {"step": state.step, "tokens": state.step * self.job["sequences"] * self.job["seq_len"], "rank": student.rank}
        if self.teacher:
            metric["validation_kl"] = max(kl, 0.0)
        state.add(**metric, validation_perplexity=math.exp(nats))
        self.report.event({"event": "evaluated", "value": value(kl, nats)}, f"validation {value(kl, nats):.5f}")
        if value(kl, nats) < value(best["score"]["kl"], best["score"]["nats"]):
            best.update(step=state.step, score={"kl": kl, "nats": nats, "tokens": tokens})
            student.best = student.weights.clone()

    def save(self) -> None:
        """Saves the state, which all processes have, in the first."""
        self.saved_at = time.monotonic()
        self.made["to"] = self.state.step
        if self.processes.rank == 0:
            for s in self.students:
                s.store(self.state)
            made = self.state.training.setdefault("made", [])
            if made and {**made[-1], "to": 0} == {**self.made, "from": made[-1]["from"], "to": 0} and made[-1]["to"] >= self.made["from"]:
                made[-1]["to"] = self.made["to"]
            else:
                made.append(dict(self.made))
            self.state.save()
        else:
            self.state.saved = self.state.step
        self.report.event({"event": "saved", "step": self.state.step}, "")
