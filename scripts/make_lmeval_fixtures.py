#!/usr/bin/env python3
"""Make pkg/lmeval/testdata: results and samples that EleutherAI's lm-evaluation-harness writes.

The tasks are sums and a few sentences of this script; the model answers by a hash of the prompt and
a seed, rightly in a given share of the items. lm_eval itself runs them, aggregates and writes:

  reference  9 of 10 answers right
  q4         8 of 10, other items wrong
  short      as q4, with --limit 8
  shots      as q4, with two examples in the prompt
  bare       as q4, without --log_samples
  file       as q4, with --output_path q4.json
  changed    as q4, on items of which one differs

summary.json has the flips between reference and q4, counted here from the samples with lm_eval's own
values. Dates and times differ between runs of this script.

Needs scripts/setup-python lm-eval. Run: .venv/bin/python scripts/make_lmeval_fixtures.py
"""
import hashlib
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

from lm_eval.__main__ import cli_evaluate  # noqa: E402
from lm_eval.api.model import LM  # noqa: E402
from lm_eval.api.registry import register_model  # noqa: E402

OUT = pathlib.Path(__file__).resolve().parent.parent / "pkg/lmeval/testdata"
ITEMS = 24

CHOICE = """task: afmq_%(name)s
dataset_path: json
dataset_kwargs: {data_files: {test: tasks/%(name)s.jsonl}}
test_split: test
fewshot_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{right}}"
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
metadata: {version: 1.0}
"""

GENERATE = """task: afmq_written
dataset_path: json
dataset_kwargs: {data_files: {test: tasks/sums.jsonl}}
test_split: test
fewshot_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{choices[right]}}"
generation_kwargs: {until: ["\\n"], do_sample: false}
filter_list:
  - {name: strict-match, filter: [{function: regex, regex_pattern: "The answer is (\\\\d+)"}, {function: take_first}]}
  - {name: flexible-extract, filter: [{function: regex, regex_pattern: "(\\\\d+)"}, {function: take_first}]}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
metadata: {version: 2.0}
"""

ROLLING = """task: afmq_prose
dataset_path: json
dataset_kwargs: {data_files: {test: tasks/prose.jsonl}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list:
  - {metric: word_perplexity}
  - {metric: byte_perplexity}
  - {metric: bits_per_byte}
metadata: {version: 1.0}
"""

GROUP = """group: afmq_arithmetic
task: [afmq_sums, afmq_differences]
aggregate_metric_list:
  - {metric: acc, weight_by_size: true}
metadata: {version: 1.0}
"""


def share(*parts):
    """A number from 0 to 1 that depends on all parts."""
    return int(hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()[:12], 16) / 16**12


@register_model("afmq-fixture")
class Fixture(LM):
    def __init__(self, pretrained="", skill=0.9, seed=0, **_):
        super().__init__()
        self.pretrained, self.skill, self.seed = pretrained, float(skill), seed

    def right(self, prompt):
        a, op, b = re.findall(r"(\d+) (plus|minus) (\d+)", prompt)[-1]
        return int(a) + int(b) if op == "plus" else int(a) - int(b)

    def knows(self, prompt):
        return share(self.seed, prompt) < self.skill

    def loglikelihood(self, requests, disable_tqdm=False):
        out = []
        for r in requests:
            prompt, answer = r.args
            hit = int(answer) == self.right(prompt)
            out.append((-1 - share(self.seed, prompt, answer) + (2 if hit == self.knows(prompt) else 0), False))
        return out

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        return [-len(r.args[0]) * (1 + (1 - self.skill) * share(self.seed, r.args[0])) for r in requests]

    def generate_until(self, requests, disable_tqdm=False):
        out = []
        for r in requests:
            n = self.right(r.args[0]) + (not self.knows(r.args[0]))
            out.append(f"The answer is {n}" if share(self.seed, "form", r.args[0]) < 0.9 else f"It is {n}.")
        return out


def items(op, first):
    rows = []
    for i in range(ITEMS):
        a, b = 40 + (7 * i + first) % 50, 3 + (11 * i) % 30
        n = a + b if op == "plus" else a - b
        wrong = [n + 10, n - 1, n + 3][: 2 + i % 2]
        right = i % (len(wrong) + 1)
        rows.append({"question": f"{a} {op} {b} is", "choices": [str(x) for x in wrong[:right] + [n] + wrong[right:]], "right": right})
    return rows


def write(path, rows):
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))


def write_tasks(changed):
    tasks = pathlib.Path("tasks")
    tasks.mkdir(exist_ok=True)
    sums = items("plus", 0)
    if changed:
        sums[5] = {"question": "1 plus 1 is", "choices": ["2", "3", "4"], "right": 0}
    write(tasks / "sums.jsonl", sums)
    write(tasks / "differences.jsonl", items("minus", 5))
    write(tasks / "prose.jsonl", [{"text": f"Line {i} of a text that says nothing."} for i in range(6)])
    for name in ("sums", "differences"):
        (tasks / f"{name}.yaml").write_text(CHOICE % {"name": name})
    (tasks / "written.yaml").write_text(GENERATE)
    (tasks / "prose.yaml").write_text(ROLLING)
    (tasks / "group.yaml").write_text(GROUP)


def run(name, skill, seed, *args, samples=True, output=None, tasks="afmq_arithmetic,afmq_written,afmq_prose"):
    write_tasks(changed=name == "changed")
    sys.argv = ["lm_eval", "run", "--model", "afmq-fixture", "--model_args", f"pretrained=my-{name},skill={skill},seed={seed}",
                "--tasks", tasks, "--include_path", "tasks", "--output_path", output or name, *args]
    if samples:
        sys.argv.append("--log_samples")
    cli_evaluate()


def flips(reference, run):
    """Items of each task, metric and filter that are right in one run and wrong in the other."""
    def values(where):
        out = {}
        for file in pathlib.Path(where).rglob("samples_*.jsonl"):
            task = re.match(r"samples_(.+)_\d{4}-", file.name)[1]
            for line in file.read_text().splitlines():
                s = json.loads(line)
                for metric in s["metrics"]:
                    if not isinstance(s[metric], list):
                        out.setdefault(f"{task}/{metric},{s['filter']}", {})[s["doc_id"]] = s[metric]
        return out
    a, b = values(reference), values(run)
    return {key: {"items": len(a[key]), "worse": sum(a[key][i] > b[key][i] for i in a[key]), "better": sum(a[key][i] < b[key][i] for i in a[key])}
            for key in sorted(a)}


def main():
    with tempfile.TemporaryDirectory() as work:
        os.environ["HF_HOME"] = str(pathlib.Path(work) / "cache")
        os.chdir(work)
        run("reference", 0.9, 1)
        run("q4", 0.8, 2)
        run("short", 0.8, 2, "--limit", "8", tasks="afmq_sums")
        run("shots", 0.8, 2, "--num_fewshot", "2", tasks="afmq_sums")
        run("bare", 0.8, 2, samples=False)
        run("file", 0.8, 2, output="file/q4.json", tasks="afmq_sums")
        run("changed", 0.8, 2, tasks="afmq_sums")
        shutil.rmtree(OUT, ignore_errors=True)
        for name in ("reference", "q4", "short", "shots", "bare", "file", "changed"):
            shutil.copytree(name, OUT / name)
        for file in OUT.rglob("*.json"):  # nothing about the machine
            file.write_text(re.sub(r'"pretty_env_info": "(?:[^"\\]|\\.)*"', '"pretty_env_info": "N/A"', file.read_text()))
        (OUT / "summary.json").write_text(json.dumps(flips("reference", "q4"), indent=1) + "\n")
    os.chdir("/")


if __name__ == "__main__":
    main()
