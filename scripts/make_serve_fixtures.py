#!/usr/bin/env python3
"""Make pkg/serve/testdata/lm_eval.json: what lm-evaluation-harness's backend of transformers answers.

The harness (HFLM, float32) scores choices of a few questions of this script and generates texts up to a
stop, with the embedded model. The file has, for every request, the token ids as the harness divides
them into context and continuation, the log-likelihood, whether the continuation is greedy, and the
generated texts. The test sends the requests of the harness's client local-completions for the same
tokens and reads the answers as that client does.

Needs scripts/setup-python lm-eval. Run: .venv/bin/python scripts/make_serve_fixtures.py
"""

import json
import os
import pathlib

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

from lm_eval.api.instance import Instance  # noqa: E402
from lm_eval.models.huggingface import HFLM  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = ROOT / "pkg/serve/testdata/lm_eval.json"

QUESTIONS = [
    ("The old man sat down on a stone and looked at the", [" sea", " door", " price of corn", " — “señor”"]),
    ("Question: Which of these is a colour?\nAnswer:", [" red", " seven", " quickly", " the river"]),
    ("She opened the window because it was", [" warm", " warm and the birds sang", " a number", "\n\n"]),
    ("One, two, three,", [" four", " five", " old", " and the"]),
    ("", ["The", " old man", "It was a cold night"]),
    ("The old man", [",", ",\nAnd the old man", ",\nAnd an old man"]),
    ("He said: “I will come to-morrow,” and", [" went", " he went away", " 🏛", " came"]),
]
TEXTS = [("The old man", ["\n"]), ("It was a cold", [".", " the"]), ("Question: Who came?\nAnswer:", ["Question:", "\n\n"]), ("Chapter", [])]

TOKENS = 40  # of a generated text


def main():
    model = ROOT / "internal/demo/model"
    lm = HFLM(pretrained=str(model), dtype="float32", device="cpu", batch_size=4, max_length=1022)
    lm.model.generation_config.max_new_tokens = None  # it would take precedence over what the harness asks for
    pairs = [(c, e) for c, endings in QUESTIONS for e in endings]
    # The client of a server needs a context; the harness gives an empty one the prefix token.
    requests = [Instance("loglikelihood", {}, p, i) for i, p in enumerate(pairs)]
    answers = lm.loglikelihood(requests, disable_tqdm=True)
    scored = []
    for (context, continuation), (value, greedy) in zip(pairs, answers):
        ids = lm._encode_pair(context, continuation) if context else ([lm.prefix_token_id], lm.tok_encode(continuation))
        scored.append({"context": ids[0], "continuation": ids[1], "log_likelihood": float(value), "greedy": bool(greedy)})
    gen = [Instance("generate_until", {}, (c, {"until": u, "max_gen_toks": TOKENS, "do_sample": False, "temperature": 0.0}), i) for i, (c, u) in enumerate(TEXTS)]
    texts = lm.generate_until(gen, disable_tqdm=True)
    generated = [{"prompt": lm.tok_encode(c), "until": u, "max_tokens": TOKENS, "text": t} for (c, u), t in zip(TEXTS, texts)]
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps({"scored": scored, "generated": generated}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{len(scored)} choices and {len(generated)} texts in {OUT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
