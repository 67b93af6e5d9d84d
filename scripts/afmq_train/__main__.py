"""torchrun … -m afmq_train job.json"""

import argparse
import json
import os
import sys
import traceback

import torch

from . import SCHEMA
from .errors import Fault, Quiet, Reporter
from .processes import Processes, Stop, lock
from .train import Trainer


def read_job(path: str) -> dict:
    try:
        with open(path, encoding="utf-8") as file:
            job = json.load(file)
    except (OSError, ValueError) as e:
        raise Fault("input", f"cannot be read: {e}", path) from e
    schema = job.get("schema") if isinstance(job, dict) else None
    if schema != SCHEMA:
        raise Fault("input", f"has schema {schema!r}; this version of afmq_train reads {SCHEMA!r}", path)
    return job


def train(args, report: Reporter) -> None:
    job, folder = read_job(args.job), os.path.dirname(os.path.abspath(args.job))
    processes = Processes()
    processes.join()
    try:
        # afmq may be on another machine than the first process.
        led = processes.any(args.afmq)
        held = lock(os.path.join(folder, job["lock"])) if processes.rank == 0 and not led else None
        reports = args.afmq and processes.first_here if led else processes.rank == 0
        stop = Stop(watch=led and reports)
        Trainer(job, folder, processes, report if reports else Quiet()).run(stop)
        if held:
            held.close()
    finally:
        processes.leave()


def main() -> int:
    parser = argparse.ArgumentParser(prog="torchrun … -m afmq_train", description="Makes the training steps of a job that afmq recover wrote.")
    parser.add_argument("job", help="job.json")
    parser.add_argument("--afmq", action="store_true", help="started by afmq, which holds the lock and reads events on standard output")
    args = parser.parse_args()
    report = Reporter(args.afmq)
    try:
        train(args, report)
    except Fault as e:
        report.fault(e)
        return 1
    except Exception as e:
        traceback.print_exc()
        text = str(e).strip().split("\n")[0]
        memory = isinstance(e, torch.cuda.OutOfMemoryError)
        report.fault(Fault("memory" if memory else "unexpected", f"{type(e).__name__}: {text}"))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
