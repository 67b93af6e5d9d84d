"""Compares what --dry-run predicts with what the command takes.

    .venv/bin/python scripts/measure_estimates.py MODEL CALIB [--tokens N] [--data FILE] [--afmq FILE] [--only COMMAND,...]

Runs sensitivity, stats, quantize --bits 4, quantize --bpw 3.5, eval-perplexity and recover, each first
with --dry-run, and prints the ratios of prediction to reality for time, memory and the size of the
result. Nothing else should run on the machine.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile
import time


def peak(command):
    """Runs a command and returns its seconds and peak resident bytes."""
    began = time.time()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    most = 0
    status = pathlib.Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        try:
            for line in status.read_text().splitlines():
                if line.startswith("VmHWM:"):
                    most = max(most, int(line.split()[1]) << 10)
        except OSError:
            pass
        time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: exit code {process.returncode}")
    return time.time() - began, most


def written(path):
    if path.is_dir():
        return sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
    return path.stat().st_size if path.exists() else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("calib", type=pathlib.Path)
    parser.add_argument("--tokens", default="16384", help="calibration tokens (default 16384)")
    parser.add_argument("--train-tokens", default="50k", help="tokens that recover trains on (default 50k)")
    parser.add_argument("--data", type=pathlib.Path, help="text to evaluate (default: CALIB)")
    parser.add_argument("--afmq", default="afmq")
    parser.add_argument("--only", help="some of the names in the first column")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        text = ["--calib", args.calib, "--tokens", args.tokens]
        artifact = work / "artifact"
        jobs = {
            "sensitivity": ["sensitivity", args.model, *text],
            "stats": ["stats", args.model, *text],
            "quantize --bits 4": ["quantize", args.model, "--bits", "4", *text],
            "quantize --bpw 3.5": ["quantize", args.model, "--bpw", "3.5", *text],
            "eval-perplexity": ["eval-perplexity", artifact, "--reference", args.model, "--data", args.data or args.calib, "--allow-overlap"],
            "recover": ["recover", artifact, "--teacher", args.model, "--data", args.calib, "--tokens", args.train_tokens],
        }
        only = args.only.split(",") if args.only else jobs
        if set(only) & {"eval-perplexity", "recover"}:
            subprocess.run([args.afmq, "quantize", args.model, "--out", artifact, "--quiet"], check=True, stdout=subprocess.DEVNULL)
        print("| command | seconds | predicted | memory | predicted | result | predicted |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for i, (name, job) in enumerate(jobs.items()):
            if name not in only:
                continue
            out = work / f"out{i}"
            job = [args.afmq, *job, "--quiet"] + ([] if name == "eval-perplexity" else ["--out", out])
            e = json.loads(subprocess.run([*job, "--dry-run", "--json"], check=True, stdout=subprocess.PIPE).stdout)
            seconds, memory = peak(job)
            size = written(out)
            row = [f"{seconds:.1f}", f"{e['seconds'] / seconds:.2f}", f"{memory / 2**20:.0f} MiB", f"{e['peak_bytes'] / memory:.2f}"]
            row += [f"{size / 2**20:.2f} MiB", f"{e['output_bytes'] / size:.2f}"] if size else ["", ""]
            print("| " + " | ".join([f"`{name}`", *row]) + " |", flush=True)


if __name__ == "__main__":
    main()
