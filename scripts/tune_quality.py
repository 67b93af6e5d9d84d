#!/usr/bin/env python3
"""Measures what `afmq tune` gains: the divergence of artifacts before and after, at equal size.

    python3 scripts/tune_quality.py MODEL --calib FILE --train FILE.jsonl --data FILE [--tokens 2M]
        [--calib-tokens 65536] [--ctx 256] [--settings 2bit,...] [--numbers a,b+c] [--rank 16 --rank-tokens 4M]
        [--work DIR] [--update PAGE]

Each setting is quantized with --calib, tuned on --train against MODEL, and scored on --data, which
neither reads; sequences have --ctx tokens. With --rank, an adapter is trained on the tuned artifact and
scored with it. --update writes the table between the markers of a page.

Needs Go. What is made is kept in --work DIR for the next run.
"""

import argparse
import json
import pathlib
import tempfile

from bench import ROOT, call

BEGIN, END = "<!-- begin table: made by scripts/tune_quality.py -->", "<!-- end table -->"
SETTINGS = {
    "2bit": ("2 bits", ["--bits", "2"]),
    "3.5-24": ("3.5 {2,4}", ["--bpw", "3.5", "--bits", "2,4"]),
    "3.5-234": ("3.5 {2,3,4}", ["--bpw", "3.5", "--bits", "2,3,4"]),
    "4bit": ("4 bits", ["--bits", "4"]),
}


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", type=pathlib.Path)
    p.add_argument("--calib", type=pathlib.Path, required=True)
    p.add_argument("--train", type=pathlib.Path, required=True)
    p.add_argument("--data", type=pathlib.Path, required=True)
    p.add_argument("--calib-tokens", default="65536")
    p.add_argument("--tokens", default="2M", help="of each tuning")
    p.add_argument("--ctx", default="256")
    p.add_argument("--compute", default="f32")
    p.add_argument("--settings", default=",".join(SETTINGS))
    p.add_argument("--numbers", default="", help="kinds joined by +, several separated by commas; the command's default")
    p.add_argument("--rank", default="")
    p.add_argument("--rank-tokens", default="4M")
    p.add_argument("--work", type=pathlib.Path)
    p.add_argument("--update", type=pathlib.Path)
    o = p.parse_args()
    if o.update and not all(m in o.update.read_text() for m in (BEGIN, END)):
        p.error(f"{o.update} has no table of this script")
    return o


class Measurement:
    def __init__(self, o, work):
        self.o, self.work, self.afmq = o, work, work / "afmq"
        call("go", "build", "-o", self.afmq, "./cmd/afmq", cwd=ROOT)

    def made(self, out, *command):
        """Runs a command that writes out, unless it is there, and returns the object that it printed."""
        saved = out.with_name(out.name + ".json")
        if not saved.exists():
            text = call(self.afmq, *command, "--out", out, "--json", "--quiet")
            saved.write_text(text)
        return json.loads(saved.read_text())

    def score(self, path, *more):
        """Returns the figures of an artifact on the text, or of the adapter in more."""
        text = call(self.afmq, "eval-perplexity", path, "--reference", self.o.model, "--data", self.o.data,
                    "--ctx", self.o.ctx, "--json", "--quiet", *more)
        e = json.loads(text)
        return e["adapters"][0] if more else e

    def rows(self):
        """Yields the rows of the table, each when it is measured."""
        o = self.o
        train = ["--teacher", o.model, "--data", o.train, "--seq-len", o.ctx, "--compute", o.compute]
        for key in o.settings.split(","):
            title, flags = SETTINGS[key]
            base = self.work / key
            q = self.made(base, "quantize", o.model, *flags, "--calib", o.calib, "--tokens", o.calib_tokens)
            before = self.score(base)
            yield row(title, "-", q["bpw"]["model"], before, before)
            for numbers in o.numbers.split(","):
                tuned = self.work / f"{key}-tuned-{numbers or 'default'}-{o.tokens}"
                what = ["--what", numbers.replace("+", ",")] if numbers else []
                r = self.made(tuned, "tune", base, *train, *what, "--tokens", o.tokens)
                yield row(title, f"{', '.join(r['numbers'])}, {o.tokens} tokens", r["bpw"]["model"], self.score(tuned), before)
                if o.rank:
                    adapters = tuned.with_name(f"{tuned.name}-rank-{o.rank}-{o.rank_tokens}")
                    r = self.made(adapters, "recover", tuned, *train, "--rank", o.rank, "--tokens", o.rank_tokens)
                    after = self.score(tuned, "--adapter", adapters / f"rank-{o.rank}")
                    yield row(title, f"and rank {o.rank}, {o.rank_tokens} tokens", r["adapters"][0]["bpw_with_adapter"], after, before)


def row(title, trained, bpw, e, before):
    kl = e["kl"]["mean"]
    return [title, trained, f"{bpw:.3f}", f"{kl:.5f}", f"{e['perplexity_ratio']:.4f}", f"{100 * e['same_top1']:.1f} %",
            f"{100 * (1 - kl / before['kl']['mean']):.0f} %"]


def table(rows):
    head = ["artifact", "trained on", "bits per weight, model", "mean KL, nats", "perplexity ratio", "same top token", "KL removed"]
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def update(page, text):
    content = page.read_text()
    first, last = content.index(BEGIN) + len(BEGIN), content.index(END, content.index(BEGIN))
    page.write_text(content[:first] + "\n" + text + "\n" + content[last:])


def main():
    o = options()
    with tempfile.TemporaryDirectory() as temporary:
        work = o.work or pathlib.Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        rows = []
        for r in Measurement(o, work.resolve()).rows():
            print(" | ".join(r), flush=True)
            rows.append(r)
    if o.update:
        update(o.update, table(rows))


if __name__ == "__main__":
    main()
