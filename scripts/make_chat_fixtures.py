#!/usr/bin/env python3
"""Makes pkg/chat/testdata from transformers' apply_chat_template.

    .venv/bin/python scripts/make_chat_fixtures.py

The templates in pkg/chat/testdata/*.jinja are written by hand. Written here are cases.json, the
conversations of chat_tools.py; NAME.golden.json, what a template makes of each; and
expressions.json, the small templates of chat_expressions.py with what they make.
"""

import json
import pathlib

import jinja2
import transformers

import chat_expressions
import chat_tools

TESTDATA = pathlib.Path(__file__).resolve().parent.parent / "pkg" / "chat" / "testdata"
VERSIONS = f"transformers {transformers.__version__}, jinja2 {jinja2.__version__}"


def write(name, lines, **head):
    """A JSON object whose "list" has one element a line."""
    dump = lambda v: json.dumps(v, ensure_ascii=False)
    body = ",\n".join(dump(line) for line in lines)
    fields = "".join(f"{dump(k)}: {dump(v)},\n" for k, v in head.items())
    (TESTDATA / name).write_text("{" + fields + f'"list": [\n{body}\n]}}\n', encoding="utf-8")


def outcome(result):
    """A text, or the class of the error, with the message if it is the template's."""
    text, error = result
    if error is None:
        return {"text": text}
    return {"class": error[0], "error": error[1]} if error[0] == "raised" else {"class": error[0]}


def main():
    transformers.logging.set_verbosity_error()
    cases = [{"name": n, **json.loads(chat_tools.request(m, o))} for n, (m, o) in chat_tools.CASES.items()]
    write("cases.json", cases, special=chat_tools.SPECIAL)
    for path in sorted(TESTDATA.glob("*.jinja")):
        t = chat_tools.tokenizer(path.read_text(encoding="utf-8"))
        results = []
        for name, (messages, options) in chat_tools.CASES.items():
            results.append({"case": name, **outcome(chat_tools.expected(t, messages, options))})
            if any(isinstance(m.get("content"), list) for m in messages):
                results[-1]["joined"] = outcome(chat_tools.expected(t, chat_tools.plain(messages), options))
        write(path.stem + ".golden.json", results, by=VERSIONS)
    results = []
    messages = [{"role": "user", "content": "x"}]
    for source in dict.fromkeys(chat_expressions.templates()):
        result = outcome(chat_tools.expected(chat_tools.tokenizer(source), messages, chat_expressions.VARIABLES))
        if " at 0x" in result.get("text", "") or "random" in source or "lipsum" in source:
            result = {"class": "unsteady"}  # another text in every process
        results.append({"template": source, **result})
    variables = json.loads(chat_tools.request(messages, chat_expressions.VARIABLES))["options"]["variables"]
    write("expressions.json", results, by=VERSIONS, variables=variables, now=chat_tools.NOW.isoformat() + "Z")


if __name__ == "__main__":
    main()
