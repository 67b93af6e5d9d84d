#!/usr/bin/env python3
"""Makes the test data and the character tables of pkg/tokenizer.

    python scripts/make_tokenizer_fixtures.py            # golden data in testdata/
    python scripts/make_tokenizer_fixtures.py --unicode  # unicode.txt too (a minute)

All data come from the official `tokenizers` package (0.23.3). The script trains or assembles
tokenizers of every supported kind on text of its own and stores the results of the package
with them. The output is the same on every run. The character tables are made by querying the
package for every code point.
"""

import argparse
import json
import pathlib
import random
import unicodedata

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

PACKAGE = pathlib.Path(__file__).resolve().parent.parent / "internal" / "tokenizer"
CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


# --- character tables ---------------------------------------------------------


def ranges(points):
    """Sorted code points as "41-5a aa b5"."""
    out, points = [], sorted(points)
    i = 0
    while i < len(points):
        j = i
        while j + 1 < len(points) and points[j + 1] == points[j] + 1:
            j += 1
        out.append(f"{points[i]:x}" if i == j else f"{points[i]:x}-{points[j]:x}")
        i = j + 1
    return " ".join(out)


def removed(pattern):
    """The code points that a Split on the pattern removes."""
    text = "".join(map(chr, CODE_POINTS))
    left = set()
    for part, _ in pre_tokenizers.Split(Regex(pattern), "removed").pre_tokenize_str(text):
        left.update(part)
    return [c for c in CODE_POINTS if chr(c) not in left]


def numeric():
    """The code points that Digits isolates: Rust's char::is_numeric."""
    text = "".join("a" + chr(c) for c in CODE_POINTS)
    parts = pre_tokenizers.Digits(individual_digits=True).pre_tokenize_str(text)
    return sorted({ord(p) for p, _ in parts if len(p) == 1 and p != "a"})


def word():
    """The code points before which a single_word token does not match: Rust's \\w."""
    tok = Tokenizer(models.BPE(vocab={"\ue000": 0}, merges=[], unk_token="\ue000", fuse_unk=True))
    mark = "\U000f0000"
    tok.add_tokens([AddedToken(mark, single_word=True, normalized=False)])
    text = "".join(chr(c) + mark + " " for c in CODE_POINTS if chr(c) != mark)
    enc = tok.encode(text)
    found = {a for i, (a, _) in zip(enc.ids, enc.offsets) if i == 1}
    others = [c for c in CODE_POINTS if chr(c) != mark]
    return [c for k, c in enumerate(others) if 3 * k + 1 not in found]


def stripped():
    """The code points that lstrip removes: Rust's \\s."""
    tok = Tokenizer(models.BPE(vocab={"\ue000": 0}, merges=[], unk_token="\ue000", fuse_unk=True))
    mark = "\U000f0000"
    tok.add_tokens([AddedToken(mark, lstrip=True, normalized=False)])
    others = [c for c in CODE_POINTS if chr(c) != mark]
    enc = tok.encode("".join("a" + chr(c) + mark for c in others))
    found = {a for i, (a, _) in zip(enc.ids, enc.offsets) if i == 1}
    return [c for k, c in enumerate(others) if 3 * k + 1 in found]


def normalization():
    """NFC data of the package (Unicode 9.0): the combining
    classes of the marks it reorders, its decompositions, and the pairs it composes."""
    nfc, nfd = normalizers.NFC().normalize_str, normalizers.NFD().normalize_str
    classes = {}
    for c in CODE_POINTS:
        n = unicodedata.combining(chr(c))
        if n == 0:
            continue
        # A mark that the package knows is reordered with one of another class.
        other = "\u0334" if n != 1 else "\u0301"
        pair = chr(c) + other if n > unicodedata.combining(other) else other + chr(c)
        if nfd(pair) != pair:
            classes.setdefault(n, []).append(c)
    compose, decompose = [], []
    for c in CODE_POINTS:
        d = unicodedata.decomposition(chr(c))
        if not d or d.startswith("<") or nfd(chr(c)) == chr(c):
            continue
        parts = [int(x, 16) for x in d.split()]
        text = "".join(map(chr, parts))
        (compose if len(parts) == 2 and nfc(text) == chr(c) else decompose).append((c, parts))
    return classes, compose, decompose


def make_unicode():
    space = removed(r"\s")
    assert space == stripped()
    classes, compose, decompose = normalization()
    lines = [
        f"# Made by scripts/make_tokenizer_fixtures.py from tokenizers {tokenizers.__version__}: do not edit.",
        "# Code points and ranges of them, in hexadecimal.",
        "letter " + ranges(removed(r"\p{L}")),
        "number " + ranges(removed(r"\p{N}")),
        "space " + ranges(space),
        "upper " + ranges(removed(r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]")),
        "lower " + ranges(removed(r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]")),
        "numeric " + ranges(numeric()),
        "word " + ranges(word()),
    ]
    lines += [f"class:{n} {ranges(points)}" for n, points in sorted(classes.items())]
    for name, table in ("compose", compose), ("decompose", decompose):
        lines.append(name + " " + " ".join(f"{c:x}=" + "+".join(f"{p:x}" for p in parts) for c, parts in table))
    (PACKAGE / "unicode.txt").write_text("\n".join(lines) + "\n")


# --- sample text ----------------------------------------------------------------

# Written for this file: short lines in many scripts, with cases in which tokenizers
# differ.
SENTENCES = [
    "The quick brown fox jumps over the lazy dog, and then it sleeps.",
    "It's what we've said: they're here, I'm not, he'd know, she'll see, don't!",
    "IT'S WHAT WE'VE SAID; THEY'RE HERE, I'M NOT, HE'D KNOW, SHE'LL SEE.",
    "Numbers: 0 1 23 456 7890 12345678, 3.14159, 1,000,000 and 2^10.",
    "for (int i = 0; i < n; i++) {\n\t\treturn a[i] != b;\n}\n\n",
    "Où est l'été, le cœur, la façade? Ça déjà vu, naïve garçon.",
    "Der Fluß fließt über große Äcker; schön, heiß, Straße.",
    "El niño comió piñas. ¿Dónde está? ¡Allí!",
    "Привет, мир! Сегодня хорошая погода, и мы идём гулять.",
    "Καλημέρα κόσμε, όλα είναι καλά σήμερα.",
    "שלום עולם, מה שלומך היום? ",
    "مرحبا بالعالم، كيف حالك اليوم؟ ١٢٣٤٥",
    "नमस्ते दुनिया, आप कैसे हैं? १२३४",
    "你好,世界!今天天气很好,我们去公园吧。",
    "こんにちは世界。今日はいい天気ですね。カタカナ",
    "안녕하세요 세계. 오늘 날씨가 좋네요.",
    "สวัสดีชาวโลก วันนี้อากาศดี ๑๒๓",
    "Emoji: 😀 👍🏽 👨‍👩‍👧‍👦 🇩🇪 ❤️ done.",
    "Once upon a time there was a little girl who liked to play in the park.",
    "One day she saw a big red ball. She was very happy and she ran to the ball.",
    "She said, \"Mom, look at the ball! Can I play with the ball?\"",
]

ODD = [
    "", " ", "  ", "   ", "a", " a", "a ", "  a", "a  b", "\n", "\n\n", "\r\n", " \n", "\n ", "\t", "a\tb", "\t\ta",
    "a\r\nb\r\n\r\nc", "x \n y", "x  \n  y", "x\n\n\ny", " \t \n \r\n  z", "a\u00a0b", "a\u3000b", "a\u0085b",
    "a\u2028b\u2029c", "\u00a0\u00a0a", "a \u00a0 b", "\u2003\u2003 x", "\u200b\u200ca\u200d", "\ufeffabc", "\x00\x01\x02\x7f", "a\x0bb\x0cc",
    "'s", "'S", "'ſ", "'Tis", "x'll", "X'LL", "x'Ll", "'re'RE've'VE", "''s", "'sx", "can't've", "'", "a'b", "\u2019s it\u2019s",
    "camelCase", "CamelCase", "HTTPServer", "ABCdef", "abcDEF'S", "ABC's", "\u0301ABC", "\u0301abc", " \u0301", "-\u0301A", "A\u0301B", "\u01c5a", "\u02b0A", "你A", "A你B", "A你", "a/b//\n/x", "?/\r\n", "ßA", "#Hash", "\tABC", "ʰʰ's",
    "1", "12", "123", "1234", "12345", " 1", " 12 34", "a1b2", "1a", "²³¹", "½¾", "Ⅷ", "一二三", "①②", "٣٤٥٦", "१२३४५",
    "𝟘𝟙𝟚𝟛", "㊀㊁", "〇", "十万", "1.5e-3", "0x1F", "₁₂₃₄", "𐄇𐄈",
    "!", "!!", " !!", "...", "a.b,c", "!\n", "?!\r\n\r\n", "(a) [b] {c}", "-- --", "a/b\\c", "_a_b", "#x", "@y", "<|x|>",
    "é", "e\u0301", "e\u0301\u0302", "a\u0323\u0307", "a\u0307\u0323", "\u0344", "\u1e9b\u0323", "Å", "\u212b", "ﬁ", "\uac00", "\u1100\u1161", "\u1100\u1161\u11a8", "\uac00\u11a8",
    "\u0301", " \u0301a", "q\u0307\u0323" + "\u0301" * 40, "\u0958", "\u2126", "\u0b47\u0b56", "a\u0898\u0323\u0301", "\U0001d15e", "\u0f73\u0f71", "\u0cc6\u0cc2\u0cd5",
    "\U00011935\U00011930", "a\u0315\u0300\u05ae\u0300", "\u0b95\u0bcb", "e\u0301 e\u0301",
    "😀", "👨‍👩‍👧", "🇩🇪🇫🇷", "❤️", "👍🏽👍🏿", "😀😀😀 😀", "\U0001f9ff\U000e0001",
    "你好世界", "こんにちは", "안녕", "Привет", "\u0e01\u0e33", "\u0627\u0644\u0633\u0644\u0627\u0645",
    "\U0001e900\U0001e922", "\U00016e40", "\u1c90\u10d0", "\u2c2f", "\ua7f1\ua7dc", "\U000105c0", "\U0001e5d0", "\u0897", "\U00011b60", "\ufffd", "\uffff", "\U0010ffff", "\ue000",
    "▁", "▁▁", "a▁b", " ▁ ", "▁a", "Ġ", "Ġa", "ĊĊ", "Â", "Ã©", "<0x41>", "<0x0A>", "<0xE2>", "<unk>", "<s>", "</s>", "a<s>b", "<s> a </s>", " <s>", "<s>  ",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "the" * 20, " the" * 20, " " * 50, " " * 33 + "x", "\n" * 20, "\n" * 9 + " x", "=" * 40, "é" * 30, "ab" * 30,
    "<|endoftext|>", "a<|endoftext|>b", "<|endoftext|><|endoftext|>", " <|endoftext|> ", "<|endoftext", "<|im_start|>user\nhi<|im_end|>\n", "<tool_call>x</tool_call>",
    "[L]", "a [L] b", "a   [L]   b", "a[R]b", "a [R]   b [R]", "[B]", "x \n[B]\t y", "  [B]  [B]  ", "a [R]  [L] b", "[R] [B] [L]", "[W]", "a[W]", "[W]a", " [W] ", "a [W] b", "1[W]", "[W]_", "é[W]", "-[W]-", "[W][W]", "\u0301[W]",
    "[N]", "a [N] b", "a[N]b", "[N n]", "a [N n] b", "a[N  n]", "[NW] x[NW]", "x [NW] y", "[RR]    y", "ab", "abc", "abcd", "abcabd", "xabcx", "[LL", "[L][L][R][R]  [L]", "[E\u0301]", "[\u00c9]", "a[\u00c9]b",
]

# Elements of random strings, with a high share of difficult characters.
ALPHABET = (
    list(" \n\t\r'\u00a0\u3000\u0085sStTdDmMrRvVlLeE0123456789abcxyz.,!?-_<|>[]▁Ġ")
    + [" ", " ", "  ", "\r\n", "'s", "'LL", "the", " the", "▁▁", "é", "e\u0301", "ß", "ſ", "İ", "Ω", "я", "你", "好", "の", "한", "\u0301", "\u0323", "\u0898"]
    + ["٣", "²", "Ⅷ", "一", "〇", "😀", "\u200d", "\ufe0f", "🏽", "\u2028", "\u200b", "\ufeff", "\ufffd", "\x00", "<0x41>", "\U0001e900", "\U000105c0"]
)


def random_strings(seed, n, extra=(), longest=24):
    """n strings, about a third of them with characters from all of Unicode."""
    rng = random.Random(seed)
    words = [w for s in SENTENCES for w in s.split(" ")]
    out = []
    for _ in range(n):
        kind, parts = rng.random(), []
        for _ in range(rng.randrange(1, longest)):
            k = rng.random()
            if extra and k < 0.15:
                parts.append(rng.choice(extra))
            elif kind < 0.35 and k < 0.5:
                parts.append(chr(rng.choice(CODE_POINTS[:0x3000] if k < 0.3 else CODE_POINTS)))
            elif kind < 0.6 and k < 0.6:
                parts.append(rng.choice(words) + rng.choice(["", " "]))
            else:
                parts.append(rng.choice(ALPHABET))
        out.append("".join(parts))
    return out


# --- vocabularies ----------------------------------------------------------------


def trained(size, normalizer=None, pre_tokenizer=None, alphabet=()):
    """A BPE vocabulary (in order of ids) and its merges, trained on SENTENCES."""
    tok = Tokenizer(models.BPE())
    if normalizer:
        tok.normalizer = normalizer
    if pre_tokenizer:
        tok.pre_tokenizer = pre_tokenizer
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=list(alphabet), show_progress=False)
    rng = random.Random(1)
    text = [s for s in SENTENCES for _ in range(rng.randrange(2, 5))]
    tok.train_from_iterator(text, trainer)
    model = json.loads(tok.to_str())["model"]
    return sorted(model["vocab"], key=model["vocab"].get), [list(m) for m in model["merges"]]


def vocabularies():
    """name -> {"vocab": [...], "merges": [[a, b], ...]}"""
    byte_chars = pre_tokenizers.ByteLevel.alphabet()
    out = {}

    def put(name, vocab, merges):
        out[name] = {"vocab": list(dict.fromkeys(vocab)), "merges": merges}

    vocab, merges = trained(600, pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False), alphabet=byte_chars)
    # Tokens without a merge: only ignore_merges produces them.
    put("bytes", ["<|endoftext|>"] + vocab + ["Ġunreachable", "Ġquick", "ĠÐ¼Ð¸ÑĢ"], merges)

    missing = set("ðŁĀāĊ")
    vocab, merges = trained(500, pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False), alphabet=byte_chars)
    merges = [m for m in merges if not missing & set("".join(m))]
    keep = {t for m in merges for t in (*m, "".join(m))} | {c for c in vocab if len(c) == 1 and c not in missing}
    put("bytes-gaps", [t for t in vocab if t in keep], merges)

    special = ["<unk>", "<s>", "</s>"]
    codes = [f"<0x{b:02X}>" for b in range(256)]
    words = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    vocab, merges = trained(420, words, pre_tokenizers.Split("▁", "merged_with_next"))
    vocab = [t for t in vocab if len(t) > 1 or ord(t) < 0x500 or t == "▁"]
    merges = [m for m in merges if all(t in vocab for t in (*m, "".join(m)))]
    # Runs of ▁, as in Llama 2.
    runs = [["▁" * a, "▁" * a] for a in (1, 2, 4)]
    put("sentence", special + codes + vocab + ["▁" * 2 * len(r[0]) for r in runs], runs + merges)
    put("sentence-unk", special + vocab + ["▁" * 2 * len(r[0]) for r in runs], merges + runs)
    vocab, merges = trained(500, words)
    put("across", special + codes + vocab, merges)
    put("few-codes", special + codes[0x40:0xD0] + vocab, merges[:150])
    return out


# --- pipelines -------------------------------------------------------------------


def byte_level(prefix=False, regex=True):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": regex}


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def pre(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


def norm(*steps):
    return {"type": "Sequence", "normalizers": list(steps)}


def dec(*steps):
    return {"type": "Sequence", "decoders": list(steps)}


def swap(pattern, content):
    return {"type": "Replace", "pattern": {"String": pattern}, "content": content}


def metaspace(scheme="always", cuts=True, **more):
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": cuts, **more}


def template(before, after=()):
    pieces = [{"SpecialToken": {"id": t, "type_id": 0}} for t, _ in before]
    pieces.append({"Sequence": {"id": "A", "type_id": 0}})
    pieces += [{"SpecialToken": {"id": t, "type_id": 0}} for t, _ in after]
    tokens = {t: {"id": t, "ids": [i], "tokens": [t]} for t, i in (*before, *after)}
    pair = pieces + [{"Sequence": {"id": "B", "type_id": 1}}]
    return {"type": "TemplateProcessing", "single": pieces, "pair": pair, "special_tokens": tokens}


def added(*tokens):
    """Tokens as (id, content, flags): s special, n normalized, l, r, w single_word."""
    flags = {"single_word": "w", "lstrip": "l", "rstrip": "r", "normalized": "n", "special": "s"}
    return [{"id": i, "content": t, **{k: c in f for k, c in flags.items()}} for i, t, f in tokens]


GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CL100K = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CASED = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+%s|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*%s|%s| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEKKEN = CASED % ("", "", r"\p{N}")
O200K = CASED % ("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", "(?i:'s|'t|'re|'ve|'m|'ll|'d)?", r"\p{N}{1,3}")

SP_DECODER = dec(swap("▁", " "), {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0})
SP_NORMALIZER = norm({"type": "Prepend", "prepend": "▁"}, swap(" ", "▁"))


def pipelines(vocab):
    """The tokenizers, as (name, vocabulary, model options, other parts of the file)."""
    n = {k: len(v["vocab"]) for k, v in vocab.items()}
    eot = added((0, "<|endoftext|>", "s"))
    sp = added((0, "<unk>", "s"), (1, "<s>", "s"), (2, "</s>", "s"))
    sp_norm = added((0, "<unk>", "sn"), (1, "<s>", "sn"), (2, "</s>", "sn"))
    bos = template([("<s>", 1)])
    b = n["bytes"]
    every = [
        ("[L]", "l"), ("[R]", "r"), ("[B]", "lrs"), ("[W]", "w"), ("[N]", "n"), ("[N n]", "nlr"), ("[NW]", "nw"), ("[RR]", "rns"),
        ("ab", ""), ("abcd", ""), ("bc", "n"), ("  ", ""), ("[\u00c9]", "n"), ("\u00e9 [E\u0301]", "s"), ("a\u0301", "w"),
    ]

    def flags(first):
        return added(*((first + i, t, f) for i, (t, f) in enumerate(every)))

    bl = {"decoder": byte_level(), "pre_tokenizer": byte_level()}
    fallback = {"unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True}
    yield "gpt2", "bytes", {"merges": "lines"}, {**bl, "added_tokens": eot, "post_processor": byte_level(True)}
    yield "gpt2-prefix", "bytes", {}, {**bl, "pre_tokenizer": byte_level(True), "added_tokens": eot}
    yield "gpt2-gaps", "bytes-gaps", {}, bl
    yield "gpt2-gaps-unk", "bytes-gaps", {"unk_token": "Ġthe", "fuse_unk": True}, bl
    yield "gpt2-whole", "bytes", {}, {**bl, "pre_tokenizer": byte_level(True, False)}
    chat = added((b, "<|im_start|>", "s"), (b + 1, "<|im_end|>", "s"), (b + 2, "<tool_call>", ""))
    yield "llama3", "bytes", {"ignore_merges": True}, {
        "decoder": byte_level(), "pre_tokenizer": pre(split(LLAMA3), byte_level(False, False)), "added_tokens": chat,
        "post_processor": {"type": "Sequence", "processors": [byte_level(), template([("<|im_start|>", b)])]}}
    yield "cl100k", "bytes", {"ignore_merges": True, "merges": "lines"}, {
        "decoder": byte_level(), "pre_tokenizer": pre(split(CL100K, "Removed", True), byte_level(False, False)), "added_tokens": chat}
    yield "qwen2", "bytes", {}, {
        "decoder": byte_level(), "normalizer": {"type": "NFC"}, "pre_tokenizer": pre(split(QWEN2), byte_level(False, False)), "added_tokens": chat,
        "post_processor": byte_level()}
    for name, pattern in ("tekken", TEKKEN), ("o200k", O200K):
        yield name, "bytes", {"ignore_merges": True}, {
            "decoder": byte_level(), "pre_tokenizer": pre(split(pattern), byte_level(False, False)), "added_tokens": chat}
    yield "smollm", "bytes", {}, {
        "decoder": byte_level(), "pre_tokenizer": pre({"type": "Digits", "individual_digits": True}, byte_level()), "added_tokens": eot}
    yield "digits", "bytes", {}, {
        "decoder": byte_level(), "pre_tokenizer": pre({"type": "Digits", "individual_digits": False}, byte_level(True))}
    yield "byte-flags", "bytes", {}, {**bl, "normalizer": {"type": "NFC"}, "added_tokens": flags(b)}
    yield "llama2", "sentence", fallback, {
        "normalizer": SP_NORMALIZER, "decoder": SP_DECODER, "added_tokens": sp, "post_processor": bos}
    yield "stories", "across", {**fallback, "merges": "lines"}, {
        "normalizer": SP_NORMALIZER, "decoder": SP_DECODER, "added_tokens": sp_norm, "post_processor": template([("<s>", 1)], [("</s>", 2)])}
    yield "few-codes", "few-codes", fallback, {"normalizer": SP_NORMALIZER, "decoder": SP_DECODER, "added_tokens": sp}
    yield "few-codes-unfused", "few-codes", {**fallback, "fuse_unk": False}, {"normalizer": SP_NORMALIZER, "decoder": SP_DECODER}
    yield "few-codes-dropped", "few-codes", {"byte_fallback": True}, {"normalizer": SP_NORMALIZER, "decoder": SP_DECODER}
    for scheme in "always", "first", "never":
        for cuts in True, False:
            yield f"metaspace-{scheme}{'-split' if cuts else ''}", "sentence", fallback, {
                "pre_tokenizer": metaspace(scheme, cuts), "decoder": metaspace(scheme, cuts), "added_tokens": sp, "post_processor": bos}
    legacy = {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True}
    yield "metaspace-legacy", "sentence-unk", {"unk_token": "<unk>"}, {
        "pre_tokenizer": legacy, "decoder": legacy, "added_tokens": sp_norm}
    yield "unk-fused", "sentence-unk", {"unk_token": "<unk>", "fuse_unk": True}, {
        "normalizer": SP_NORMALIZER, "decoder": SP_DECODER, "added_tokens": sp, "post_processor": bos}
    yield "unk-single", "sentence-unk", {"unk_token": "<unk>"}, {"normalizer": SP_NORMALIZER, "added_tokens": sp}
    yield "no-unk", "sentence-unk", {"ignore_merges": True}, {"pre_tokenizer": metaspace("first"), "decoder": metaspace("never")}
    yield "flags", "sentence", fallback, {
        "normalizer": SP_NORMALIZER, "decoder": SP_DECODER, "added_tokens": sp + flags(n["sentence"])}
    yield "flags-first", "sentence", fallback, {
        "normalizer": norm({"type": "NFC"}, {"type": "Strip", "strip_left": True, "strip_right": False}, swap("the", "x"), swap("ab", "")),
        "pre_tokenizer": metaspace("first"), "decoder": metaspace("first"), "added_tokens": sp + flags(n["sentence"])}
    yield "strip", "sentence", fallback, {
        "normalizer": {"type": "Strip", "strip_left": True, "strip_right": True},
        "pre_tokenizer": pre(split(" ", "Contiguous", kind="String"), metaspace("first")),
        "decoder": dec({"type": "Strip", "content": "▁", "start": 2, "stop": 0}, swap("▁", " "))}
    for behavior in "Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous":
        for invert in False, True:
            yield f"split-{behavior}{'-invert' if invert else ''}", "sentence-unk", {"unk_token": "<unk>"}, {
                "pre_tokenizer": pre(split("a", behavior, invert, "String"), split(GPT2, behavior, invert))}


def assemble(vocab, options, parts):
    """A whole tokenizer.json. The Go test assembles it in the same way."""
    merges = vocab["merges"]
    if options.get("merges") == "lines":
        merges = [" ".join(m) for m in merges]
    model = {"type": "BPE", **options, "vocab": {t: i for i, t in enumerate(vocab["vocab"])}, "merges": merges}
    return {"version": "1.0", **parts, "model": model}


def surround(post):
    """The ids that a post-processor adds before and after a text."""
    for step in post.get("processors", []):
        post = step if "single" in step else post
    ids, at = ([], []), 0
    for piece in post.get("single", []):
        if "Sequence" in piece:
            at = 1
        else:
            ids[at].extend(post["special_tokens"][piece["SpecialToken"]["id"]]["ids"])
    return ids


# The pipelines of real families use every text, the others one in four.
WHOLE = {"gpt2", "llama3", "qwen2", "smollm", "tekken", "llama2", "stories", "metaspace-first", "unk-fused", "flags"}


def make_golden():
    vocab = vocabularies()
    texts = ODD + SENTENCES + random_strings(7, 60, longest=12)
    golden = []
    for name, kind, options, parts in pipelines(vocab):
        tok = Tokenizer.from_str(json.dumps(assemble(vocab[kind], options, parts)))
        before, after = surround(parts.get("post_processor") or {})
        case = {"name": name, "vocabulary": kind, "model": options, "parts": parts, "before": before, "after": after}
        case |= {"step": 1 if name in WHOLE else 4, "ids": [], "decoded": {}, "skipped": {}}
        for i in range(0, len(texts), case["step"]):
            ids = tok.encode(texts[i], add_special_tokens=False).ids
            full = tok.encode(texts[i]).ids
            assert full == before + ids + after
            case["ids"].append(ids)
            # Omitted: results equal to the text, and those without skipped tokens.
            decoded, skipped = tok.decode(full, skip_special_tokens=False), tok.decode(full)
            if decoded != texts[i] and (name in WHOLE or "decoder" in parts):
                case["decoded"][i] = decoded
            if skipped != decoded:
                case["skipped"][i] = skipped
        golden.append(case)
    data = PACKAGE / "testdata"
    data.mkdir(exist_ok=True)
    (data / "vocabularies.json").write_text(dump(vocab))
    (data / "texts.json").write_text(json.dumps(texts, ensure_ascii=True, indent=0) + "\n")
    (data / "golden.json").write_text(
        "[\n" + ",\n".join(json.dumps(g, ensure_ascii=False, separators=(",", ":")) for g in golden) + "\n]\n")


def dump(vocab):
    lines = (f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False, separators=(',', ':'))}" for k, v in vocab.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--unicode", action="store_true", help="make unicode.txt again as well")
    args = parser.parse_args()
    if args.unicode:
        make_unicode()
    make_golden()


if __name__ == "__main__":
    main()
