#!/usr/bin/env python3
"""Compares pkg/tokenizer with the official `tokenizers` package.

    python scripts/check_tokenizer.py [FILE.json | MODEL_DIR]... [--text FILE]... [--random N]

Every tokenizer encodes every text whole and line by line, and N random strings, and
decodes random ids. Without a tokenizer on the command line it uses the pipelines of
make_tokenizer_fixtures.py. Large texts are timed in both, with one thread each.
"""

import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"

from make_tokenizer_fixtures import ODD, SENTENCES, assemble, pipelines, random_strings, vocabularies
from tokenizers import Tokenizer

ROOT = pathlib.Path(__file__).resolve().parent.parent
TIMED = 500_000  # bytes


def best_of(n, f):
    """The result of f and the least seconds of n runs."""
    least = None
    for _ in range(n):
        start = time.perf_counter()
        result = f()
        took = time.perf_counter() - start
        least = took if least is None else min(least, took)
    return result, least


def cases(tok, texts, count, seed):
    """Yields the cases for one tokenizer."""
    tok.no_truncation()
    tok.no_padding()
    extra = [t.content for t in tok.get_added_tokens_decoder().values()][:64]
    strings = ODD + SENTENCES + random_strings(seed, count, extra)
    for text in texts:
        if len(text) > TIMED:
            # The library's fastest way: no offsets, no words.
            ids, seconds = best_of(3, lambda: tok.encode_batch_fast([text], add_special_tokens=False)[0].ids)
            yield {"text": text, "ids": ids, "seconds": seconds}
            yield {"text": text, "ids": ids, "seconds": seconds}  # the second time is the one to read
        else:
            yield {"text": text, "ids": tok.encode(text, add_special_tokens=False).ids}
        strings += text.splitlines(keepends=True)
    for text in strings:
        ids, full = tok.encode(text, add_special_tokens=False).ids, tok.encode(text).ids
        yield {"text": text, "ids": ids} | ({} if ids == full else {"full": full})
    rng = random.Random(seed)
    known = sorted(tok.get_vocab(with_added_tokens=True).values())
    special = sorted(tok.get_added_tokens_decoder())
    codes = [i for t, i in tok.get_vocab().items() if t.startswith("<0x")]
    for _ in range(count // 4):
        ids = []
        for _ in range(rng.randrange(1, 16)):
            k = rng.random()
            pick = special if k < 0.1 and special else codes if k < 0.4 and codes else known
            ids.append(rng.choice(pick) if rng.random() < 0.98 else known[-1] + rng.randrange(1, 9))
        skip = rng.random() < 0.5
        try:
            yield {"decode": ids, "skip": skip, "want": tok.decode(ids, skip_special_tokens=skip)}
        except BaseException as e:  # some decoders panic on short tokens
            if "Panic" not in type(e).__name__:
                raise


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizer", nargs="*", type=pathlib.Path)
    parser.add_argument("--text", action="append", default=[], type=pathlib.Path, help="a file; .jsonl is one {\"text\"} a line")
    parser.add_argument("--random", type=int, default=20_000, help="random strings for each tokenizer")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    texts = []
    for path in args.text:
        data = path.read_text(encoding="utf-8", errors="replace")
        if path.suffix == ".jsonl":
            texts += [json.loads(line)["text"] for line in data.splitlines()]
        else:
            texts.append(data)
    tokenizers = []
    for path in args.tokenizer:
        path = (path / "tokenizer.json" if path.is_dir() else path).resolve()
        tokenizers.append((str(path), None, Tokenizer.from_file(str(path))))
    if not tokenizers:
        vocab = vocabularies()
        for name, kind, options, parts in pipelines(vocab):
            data = assemble(vocab[kind], options, parts)
            tokenizers.append((name, data, Tokenizer.from_str(json.dumps(data))))

    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", delete=False) as f:
        for name, data, tok in tokenizers:
            print(json.dumps({"tokenizer": name} | ({"data": data} if data else {})), file=f)
            for case in cases(tok, texts, args.random, args.seed):
                print(json.dumps(case), file=f)
    try:
        command = ["go", "test", "-count=1", "-run", "^TestDifferential$", "-v", "./pkg/tokenizer/"]
        sys.exit(subprocess.run(command, cwd=ROOT, env={**os.environ, "AFMQ_TOKENIZER_CASES": f.name}).returncode)
    finally:
        os.unlink(f.name)


if __name__ == "__main__":
    main()
