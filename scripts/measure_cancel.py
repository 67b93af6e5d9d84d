#!/usr/bin/env python3
"""Measures how soon each command ends after SIGINT, and with which exit code.

    scripts/measure_cancel.py AFMQ MODEL TEXT [--delays 2,10,30]

AFMQ is the program, MODEL a checkpoint, TEXT a file of text. Each command is started, sent
SIGINT after each delay, and waited for. The table has the wall-clock time and the CPU time of
the process from the signal to its end; on a machine with other load the CPU time divided by
the threads is the better figure. Exit code 130 is that of an interrupted command; 0 says that
it had ended before the signal. The script fails if a command ends otherwise.
"""

import argparse
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time


def cpu(pid):
    """CPU seconds that a process has used."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def interrupt(command, delay):
    """Returns wall-clock and CPU seconds after the signal, the exit code, and the last line of stderr."""
    with tempfile.TemporaryFile() as stderr:
        p = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr)
        end = time.monotonic() + delay
        while time.monotonic() < end and p.poll() is None:
            time.sleep(0.05)
        if p.returncode is not None:
            return 0, 0, p.returncode, "ended before the signal"
        before, sent = cpu(p.pid), time.monotonic()
        p.send_signal(signal.SIGINT)
        _, status, usage = os.wait4(p.pid, 0)
        took = time.monotonic() - sent
        p.returncode = os.waitstatus_to_exitcode(status)
        stderr.seek(0)
        lines = stderr.read().decode(errors="replace").strip().splitlines()
        return took, usage.ru_utime + usage.ru_stime - before, p.returncode, lines[-1] if lines else ""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("afmq")
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("--delays", default="2,10,30", help="seconds, comma-separated")
    parser.add_argument("--only", default="", help="commands that begin so")
    args = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as work:
        art, other = work + "/art", work + "/other"
        for out, bits in (art, "4"), (other, "2"):
            subprocess.run([args.afmq, "quantize", args.model, "--out", out, "--bits", bits, "--quiet"], check=True, stdout=subprocess.DEVNULL)
        calib = ["--calib", args.text]
        commands = [
            ["quantize", args.model, "--out", "OUT"],
            ["quantize", args.model, "--out", "OUT", "--bits", "8", "--row-scale=false"],
            ["quantize", args.model, "--out", "OUT", *calib],
            ["quantize", args.model, "--out", "OUT", "--bpw", "3.5", *calib],
            ["sensitivity", args.model, "--out", "OUT", "--method", "fisher", *calib],
            ["sensitivity", args.model, "--out", "OUT", "--method", "kl", *calib],
            ["sensitivity", args.model, "--out", "OUT", "--method", "hessian", *calib],
            ["sensitivity", args.model, "--out", "OUT", "--method", "weight"],
            ["recover", other, "--teacher", args.model, "--data", args.text, "--out", "OUT"],
            ["eval-perplexity", art, "--data", args.text, "--reference", args.model],
            ["gate", art, "--baseline", "OUT", "--data", args.text, "--update"],
            ["verify", art],
            ["diff", art, other],
            ["dequantize", art, "--out", "OUT"],
            ["generate", art, "--prompt", "word " * 2000, "--max-tokens", "1000"],
        ]
        print("| command | signal after | ended after | CPU | exit code | says |\n| --- | --- | --- | --- | --- | --- |")
        for command in commands:
            if not " ".join(command).startswith(args.only):
                continue
            for delay in map(float, args.delays.split(",")):
                with tempfile.TemporaryDirectory() as parent:
                    line = [args.afmq] + [parent + "/out" if a == "OUT" else a for a in command]
                    took, used, code, says = interrupt(line, delay)
                name = " ".join(a for a in command if a.startswith("--") or a in ("fisher", "kl", "hessian", "weight", "8", command[0]))
                print(f"| {name} | {delay:.0f} s | {took:.2f} s | {used:.2f} s | {code} | {says.replace(parent, '')[:90]} |", flush=True)
                bad += code not in (0, 130)
                if says == "ended before the signal":
                    break
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
