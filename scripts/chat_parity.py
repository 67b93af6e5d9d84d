#!/usr/bin/env python3
"""Compares afmq's chat templates with transformers' apply_chat_template.

    .venv/bin/python scripts/chat_parity.py PATH...

A PATH is a template (.jinja), a directory of them, or a checkpoint's directory with
tokenizer_config.json. Every conversation of scripts/chat_tools.py is rendered by both. They
agree if the texts are equal, if the template refuses the conversation in both with the same
message, or if both fail. What afmq refuses by name is counted apart. Exit status 1 if any
differ.
"""

import argparse
import collections
import json
import pathlib
import subprocess
import sys
import tempfile

import jinja2
import transformers

import chat_expressions
import chat_random
import chat_tools

RANDOM = ([chat_tools.HELLO], chat_expressions.VARIABLES)


def judge(t, messages, options, got):
    """agree, refused or differ, and what transformers has."""
    want, error = chat_tools.expected(t, messages, options)
    if got["class"] == "refused":
        return "refused", want, error
    if error is None and want == got["text"] and not got["class"]:
        return "agree", want, error
    if error and error[0] == got["class"]:
        # A message of the template is the same; one of Python is in other words.
        if error[0] == "failed" or got["error"].endswith(": " + one_line(error[1])):
            return "agree", want, error
    if error and error[0] == "failed" and got["class"] == "raised" and options.get("continue_final_message"):
        return "agree", want, error
    if any(isinstance(m.get("content"), list) for m in messages):
        verdict, joined, joined_error = judge(t, chat_tools.plain(messages), options, got)
        if verdict == "agree" and (error or unread(messages, want)):
            return "agree", joined, joined_error
    return "differ", want, error


def unread(messages, text):
    """Whether a text shows that a template did not read the parts of lists: it has the list
    itself, or lacks a part."""
    parts = [p["text"] for m in messages if isinstance(m["content"], list) for p in m["content"]]
    return "'type': 'text'" in text or '"type": "text"' in text or "[]" in text or any(p not in text for p in parts)


def one_line(s):
    """A message on one line, as package fault escapes it."""
    return "".join(json.dumps(c)[1:-1] if ord(c) < 32 or 127 <= ord(c) < 160 else c for c in s)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", metavar="PATH")
    parser.add_argument("--random", type=int, default=0, metavar="N", help="compare also N random templates, of chat_random.py")
    parser.add_argument("--seed", type=int, default=1, help="of the random templates")
    parser.add_argument("--verbose", action="store_true", help="print also what is refused by name")
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    templates = [s for p in args.paths for s in chat_tools.sources(p)]
    lines = [chat_tools.request(m, o, **where) for _, where, _ in templates for m, o in chat_tools.CASES.values()]
    randoms = [maker.template() for maker in [chat_random.Maker(args.seed)] for _ in range(args.random)]
    lines += [chat_tools.request(RANDOM[0], RANDOM[1], source=source, special={}) for source in randoms]
    with tempfile.TemporaryDirectory() as tmp:
        program = str(pathlib.Path(tmp, "chatrender"))
        root = pathlib.Path(__file__).resolve().parent.parent
        subprocess.run(["go", "build", "-o", program, "./scripts/chatrender"], cwd=root, check=True)
        out = subprocess.run([program], input="\n".join(lines), stdout=subprocess.PIPE, text=True, check=True).stdout
    replies = iter(map(json.loads, out.split("\n")[:-1]))
    total, files = collections.Counter(), collections.Counter()
    for name, _, t in templates:
        count = collections.Counter()
        for case, (messages, options) in chat_tools.CASES.items():
            got = next(replies)
            verdict, want, error = judge(t, messages, options, got)
            count[verdict] += 1
            if verdict == "differ" or args.verbose and verdict == "refused":
                print(f"{verdict.upper()} {name}: {case}\n  transformers: {error or want!r}\n  afmq:         {got['error'] or got['text']!r}")
        print(f"{name}: {count['agree']} agree, {count['refused']} refused by name, {count['differ']} differ")
        total.update(count)
        files["differ" if count["differ"] else "refused" if count["refused"] else "agree"] += 1
    if randoms:
        count = collections.Counter()
        for source, got in zip(randoms, replies):
            t = chat_tools.tokenizer(source)
            verdict, want, error = judge(t, *RANDOM, got)
            count[verdict if error is None else verdict + ", error"] += 1
            total["differ"] += verdict == "differ"
            if verdict == "differ":
                print(f"DIFFER {source!r}\n  transformers: {error or want!r}\n  afmq:         {got['error'] or got['text']!r}")
        print(f"{args.random} random templates, seed {args.seed}: {dict(count)}")
        if not templates:
            sys.exit(total["differ"] > 0)
    print(f"transformers {transformers.__version__}, jinja2 {jinja2.__version__}: {len(templates)} templates, "
          f"{sum(total.values())} renderings: {total['agree']} agree, {total['refused']} refused by name, {total['differ']} differ; "
          f"templates that agree on all: {files['agree']}, refused in some: {files['refused']}, that differ: {files['differ']}")
    sys.exit(total["differ"] > 0)


if __name__ == "__main__":
    main()
