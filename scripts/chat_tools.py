"""Conversations for chat templates, and what transformers renders of them."""

import datetime
import json
import pathlib

import tokenizers
import transformers
from transformers.utils import chat_template_utils

NOW = datetime.datetime(2026, 3, 5, 7, 8, 9)
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


class FixedTime(datetime.datetime):
    """datetime whose now() is NOW, for strftime_now."""

    @classmethod
    def now(cls, tz=None):
        return NOW


chat_template_utils.datetime = FixedTime

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Gets the weather & <b>forecast</b> of a \"city\".",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Name, e.g. Zürich or 東京"},
                "days": {"type": "integer", "minimum": 1, "maximum": 14, "default": 3},
                "units": {"type": "string", "enum": ["metric", "imperial"]},
                "exact": {"type": "boolean", "default": False},
                "at": {"type": "object", "properties": {"lat": {"type": "number", "default": 47.5}, "lon": {"type": "number"}}, "required": ["lat"]},
                "tags": {"type": "array", "items": {"type": "string"}},
                "note": {"type": ["string", "null"], "default": None},
            },
            "required": ["city"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock", "description": "", "parameters": {"type": "object", "properties": {}}}}

SYSTEM = {"role": "system", "content": "You are terse.\nAnswer in <em>one</em> line."}
HELLO = {"role": "user", "content": "Hello, who are you?"}
REPLY = {"role": "assistant", "content": "I am a model."}
MORE = {"role": "user", "content": "And 2 < 3 && \"x\" != 'y'?"}


def call(name, arguments, id="call00001"):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def calls(*tool_calls, **other):
    return {"role": "assistant", **other, "tool_calls": list(tool_calls)}


def result(content, name="get_weather", id="call00001"):
    return {"role": "tool", "tool_call_id": id, "name": name, "content": content}


ARGUMENTS = {"city": "Zürich", "days": 2, "exact": True, "at": {"lat": 47.37, "lon": 8.0}, "note": None}


def text(*parts):
    return [{"type": "text", "text": p} for p in parts]


# Each case: messages, then options: tools, add_generation_prompt, continue_final_message,
# parse_arguments and the variables of the template.
CASES = {
    "user": ([HELLO], {}),
    "user, prompt": ([HELLO], {"add_generation_prompt": True}),
    "system": ([SYSTEM, HELLO], {"add_generation_prompt": True}),
    "turns": ([HELLO, REPLY, MORE], {"add_generation_prompt": True}),
    "turns with system": ([SYSTEM, HELLO, REPLY, MORE, REPLY], {}),
    "many turns": ([SYSTEM] + [HELLO, REPLY] * 5 + [MORE], {"add_generation_prompt": True}),
    "empty user": ([{"role": "user", "content": ""}], {"add_generation_prompt": True}),
    "empty system": ([{"role": "system", "content": ""}, HELLO], {"add_generation_prompt": True}),
    "empty reply": ([HELLO, {"role": "assistant", "content": ""}, MORE], {"add_generation_prompt": True}),
    "spaces": ([{"role": "system", "content": "  a \n"}, {"role": "user", "content": "\n\n b\t\n "}, {"role": "assistant", "content": " c \n\n"}, {"role": "user", "content": " d "}], {"add_generation_prompt": True}),
    "unicode": ([{"role": "user", "content": "Grüße 東京 👩‍👩‍👧 \u2028 \u00a0é"}], {"add_generation_prompt": True}),
    "special characters": ([{"role": "user", "content": "<|im_end|> {{ x }} {% if %} \\n 'a' \"b\" &amp; </s>\r\nend\x0b"}], {"add_generation_prompt": True}),
    "system later": ([HELLO, REPLY, SYSTEM, MORE], {"add_generation_prompt": True}),
    "assistant first": ([REPLY, HELLO], {"add_generation_prompt": True}),
    "two users": ([HELLO, MORE], {"add_generation_prompt": True}),
    "two replies": ([HELLO, REPLY, REPLY], {}),
    "assistant alone": ([SYSTEM, REPLY], {}),
    "unknown role": ([HELLO, {"role": "critic", "content": "Hm."}], {"add_generation_prompt": True}),
    "developer": ([{"role": "developer", "content": "Be kind."}, HELLO], {"add_generation_prompt": True}),
    "null content": ([HELLO, {"role": "assistant", "content": None}, MORE], {"add_generation_prompt": True}),
    "names": ([{"role": "user", "name": "Ann", "content": "Hi"}, {"role": "assistant", "name": "Bot", "content": "Ho"}], {}),
    "extra keys": ([{"role": "user", "content": "Hi", "weight": 0.5, "meta": {"z": 1, "a": [True, None, 1.0, "x"]}}], {"add_generation_prompt": True}),
    "tools": ([HELLO], {"tools": [WEATHER], "add_generation_prompt": True}),
    "tools and system": ([SYSTEM, HELLO], {"tools": [WEATHER, CLOCK], "add_generation_prompt": True}),
    "tools later": ([SYSTEM, HELLO, REPLY, MORE], {"tools": [CLOCK, WEATHER], "add_generation_prompt": True}),
    "no tools": ([SYSTEM, HELLO], {"tools": [], "add_generation_prompt": True}),
    "bare tool": ([HELLO], {"tools": [WEATHER["function"]], "add_generation_prompt": True}),
    "call": ([HELLO, calls(call("get_weather", ARGUMENTS))], {"tools": [WEATHER]}),
    "call with text": ([HELLO, calls(call("get_weather", ARGUMENTS), content="Let me see.")], {"tools": [WEATHER]}),
    "call with null": ([HELLO, calls(call("get_weather", ARGUMENTS), content=None)], {"tools": [WEATHER]}),
    "call with empty text": ([HELLO, calls(call("get_weather", ARGUMENTS), content="")], {"tools": [WEATHER]}),
    "call as text": ([HELLO, calls(call("get_weather", json.dumps(ARGUMENTS)), content="")], {"tools": [WEATHER]}),
    "call, parsed": ([HELLO, calls(call("get_weather", json.dumps(ARGUMENTS, ensure_ascii=False)), content="")], {"tools": [WEATHER], "parse_arguments": True}),
    "call without arguments": ([HELLO, calls(call("clock", {}), content="")], {"tools": [CLOCK]}),
    "result": ([HELLO, calls(call("get_weather", ARGUMENTS), content=""), result('{"temp": 21.5, "sky": "clear"}')], {"tools": [WEATHER], "add_generation_prompt": True}),
    "result, no tools": ([HELLO, calls(call("get_weather", ARGUMENTS), content=""), result("21")], {"add_generation_prompt": True}),
    "result and reply": ([SYSTEM, HELLO, calls(call("get_weather", ARGUMENTS), content=""), result("warm"), REPLY, MORE], {"tools": [WEATHER], "add_generation_prompt": True}),
    "two calls": ([HELLO, calls(call("get_weather", {"city": "Bern"}), call("clock", {}, "call00002"), content=""), result("warm"), result("12:00", "clock", "call00002")], {"tools": [WEATHER, CLOCK], "add_generation_prompt": True}),
    "two rounds": ([SYSTEM, HELLO, calls(call("clock", {}), content="a"), result("12:00", "clock"), calls(call("get_weather", {"city": "a\n<b>"}), content="b"), result("x\ny"), REPLY, MORE], {"tools": [WEATHER, CLOCK], "add_generation_prompt": True}),
    "reasoning": ([HELLO, {"role": "assistant", "reasoning_content": "I think.\n", "content": "I am."}, MORE], {"add_generation_prompt": True}),
    "last reasoning": ([HELLO, {"role": "assistant", "reasoning_content": "I think.", "content": "I am."}], {}),
    "reasoning, other name": ([HELLO, {"role": "assistant", "reasoning": "Hm.", "content": "I am."}], {}),
    "thinking": ([HELLO, {"role": "assistant", "thinking": "Hm.", "content": "I am."}, MORE], {}),
    "reasoning in text": ([HELLO, {"role": "assistant", "content": "<think>\nHm.\n</think>\n\nI am."}, MORE, {"role": "assistant", "content": "<think>x</think>y"}], {}),
    "reasoning and call": ([HELLO, calls(call("clock", {}), content="", reasoning_content="Which time?"), result("12:00", "clock")], {"tools": [CLOCK], "add_generation_prompt": True}),
    "no thinking": ([SYSTEM, HELLO], {"enable_thinking": False, "add_generation_prompt": True}),
    "with thinking": ([SYSTEM, HELLO], {"enable_thinking": True, "add_generation_prompt": True}),
    "variables": ([SYSTEM, HELLO, REPLY], {"date_string": "5 March 2026", "thinking": True, "reasoning_effort": "high", "preserve_thinking": True, "number": 3, "builtin_tools": ["python"]}),
    "documents": ([HELLO], {"documents": [{"title": "T", "text": "Some text."}], "add_generation_prompt": True}),
    "continued": ([HELLO, {"role": "assistant", "content": "I am a"}], {"continue_final_message": True}),
    "continued, space": ([HELLO, {"role": "assistant", "content": " I am \n"}], {"continue_final_message": True}),
    "list": ([{"role": "user", "content": text("One part")}], {"add_generation_prompt": True}),
    "list of two": ([{"role": "system", "content": text("Be terse.")}, {"role": "user", "content": text("One", "two & <3>")}, {"role": "assistant", "content": text("Three")}, HELLO], {"add_generation_prompt": True}),
    "empty list": ([{"role": "user", "content": []}], {"add_generation_prompt": True}),
}


def tokenizer(source, special=None):
    """A tokenizer with a template; its vocabulary does not matter."""
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
    t = transformers.PreTrainedTokenizerFast(tokenizer_object=model, **(SPECIAL if special is None else special))
    t.chat_template = source
    return t


def plain(messages):
    """Messages as afmq passes them to a template that does not read lists."""
    def one(m):
        if isinstance(m.get("content"), list):
            return {**m, "content": "\n".join(p["text"] for p in m["content"])}
        return m
    return [one(m) for m in messages]


def parsed(messages):
    """Messages whose calls have objects as arguments, not strings of JSON."""
    messages = json.loads(json.dumps(messages))
    for m in messages:
        for c in m.get("tool_calls", []):
            if isinstance(c["function"]["arguments"], str):
                c["function"]["arguments"] = json.loads(c["function"]["arguments"])
    return messages


def expected(t, messages, options):
    """What transformers renders: a text and no error, or None and an error: its class and text."""
    options = dict(options)
    if options.pop("parse_arguments", False):
        messages = parsed(messages)
    try:
        return t.apply_chat_template(messages, tokenize=False, **options), None
    except Exception as e:
        raised = type(e).__name__ == "TemplateError"
        return None, ("raised" if raised else "failed", str(e))


def request(messages, options, **template):
    """The line for scripts/chatrender."""
    own = ("tools", "add_generation_prompt", "continue_final_message", "parse_arguments")
    o = {k: v for k, v in options.items() if k in own}
    o["variables"] = {k: v for k, v in options.items() if k not in own}
    o["now"] = NOW.isoformat() + "Z"
    return json.dumps({**template, "messages": messages, "options": o})


def sources(path):
    """The templates of a path: (name, arguments for chatrender, tokenizer)."""
    path = pathlib.Path(path)
    if path.suffix == ".jinja":
        source = path.read_text(encoding="utf-8")
        return [(path.name, {"source": source, "special": SPECIAL}, tokenizer(source))]
    files = sorted(path.glob("*.jinja"))
    if (path / "tokenizer_config.json").exists():
        return [(path.name, {"dir": str(path)}, transformers.AutoTokenizer.from_pretrained(path))]
    return [s for f in files for s in sources(f)]
