"""Compares the speed of `afmq recover` with PyTorch and PEFT doing the same work.

    .venv/bin/python scripts/bench_recover.py ARTIFACT --teacher MODEL --data FILE

Both train an adapter on all projections with AdamW and KL to the 16-bit teacher, in fp32, or with
--compute bf16 under automatic mixed precision, on the same sequences per step with the same number of threads: forward of the teacher,
forward and backward of the student. PyTorch runs the dequantized checkpoint of ARTIFACT,
so its products read dense weights. The programs alternate for --rounds rounds, and the median
of the ratios is printed. The time of afmq includes saving its state after every step and
several evaluations on a few held-out tokens.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import torch
import transformers
from peft import LoraConfig, get_peft_model

ROOT = pathlib.Path(__file__).resolve().parent.parent
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Torch:
    def __init__(self, args, plain):
        load = transformers.AutoModelForCausalLM.from_pretrained
        self.teacher = load(args.teacher, dtype=torch.float32).eval()
        self.student = get_peft_model(load(plain, dtype=torch.float32), LoraConfig(task_type="CAUSAL_LM", r=args.rank, lora_alpha=args.rank, target_modules=ALL))
        self.optimizer = torch.optim.AdamW([p for p in self.student.parameters() if p.requires_grad], lr=1e-3)
        self.args = args

    def step(self):
        a = self.args
        total = a.batch // a.seq_len
        for at in range(0, total, a.part):
            ids = torch.randint(3, self.teacher.config.vocab_size, (min(a.part, total - at), a.seq_len))
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=a.compute == "bf16"):
                with torch.no_grad():
                    p = torch.log_softmax(self.teacher(ids).logits.float(), -1)
                q = torch.log_softmax(self.student(ids).logits.float(), -1)
            loss = torch.nn.functional.kl_div(q, p, log_target=True, reduction="sum") / a.batch
            loss.backward()
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def run(self):
        self.step()
        begun = time.perf_counter()
        for _ in range(self.args.steps):
            self.step()
        return self.args.steps * self.args.batch / (time.perf_counter() - begun)


def run_afmq(args, temp, tool, n):
    command = [tool, "recover", args.artifact, "--teacher", args.teacher, "--data", args.data, "--out", f"{temp}/out-{n}", "--rank", args.rank]
    command += ["--tokens", args.steps * args.batch, "--seq-len", args.seq_len, "--batch-tokens", args.batch, "--init", "zero", "--validation-tokens", 16]
    command += ["--compute", args.compute, "--threads", args.threads, "--json", "--quiet"]
    out = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, text=True)
    answer = json.loads(out.stdout)
    if out.returncode:
        sys.exit(f"afmq recover: {answer}")
    return answer["tokens_per_second"], answer["peak_rss_bytes"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact")
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--seq-len", type=int, default=256)
    parser.add_argument("--batch", type=int, default=1024, help="tokens a step")
    parser.add_argument("--part", type=int, default=4, help="sequences that PyTorch runs at once")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compute", default="f32", choices=["f32", "bf16"])
    parser.add_argument("--tool", type=pathlib.Path, help="a built afmq, for machines without Go")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    tool = args.tool or ROOT / ".venv" / "bin" / "afmq-parity"
    if not args.tool:
        subprocess.run(["go", "build", "-o", tool, "./cmd/afmq"], cwd=ROOT, check=True)
    ratios = []
    with tempfile.TemporaryDirectory() as temp:
        plain = f"{temp}/plain"
        subprocess.run([tool, "dequantize", args.artifact, "--out", plain, "--quiet"], check=True, stdout=subprocess.DEVNULL)
        torch_run = Torch(args, plain)
        for n in range(args.rounds):
            ours, memory = run_afmq(args, temp, tool, n)
            theirs = torch_run.run()
            ratios.append(ours / theirs)
            print(f"round {n + 1}: afmq {ours:.0f} tokens/s (peak {memory / 2**20:.0f} MiB), PyTorch and PEFT {theirs:.0f}, ratio {ours / theirs:.2f}", flush=True)
    print(f"{args.threads} threads, rank {args.rank}, {args.seq_len} tokens a sequence, {args.batch} a step, {args.compute}: median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
