"""Random templates for chat_parity.py --random: expressions and statements over the variables of
chat_expressions.py."""

import random

NAMES = ["s", "word", "path", "u", "n", "neg", "f", "zero", "yes", "no", "nil", "empty", "l", "names", "mixed", "d", "people", "none_list", "none_dict", "json", "missing", "i", "x", "ns.a"]
LITERALS = ["1", "0", "-2", "2.5", "'a'", "' b\\n'", "'name'", "''", "'a,b'", "none", "true", "false", "[]", "{}", "(1, 2)", "'<é>'", "'%s'", "[1, 'a', none]", "{'k': 1, 'b': [2]}", "3", "10"]
ATTRIBUTES = ["name", "age", "z", "a", "items", "get", "keys", "tags", "k", "missing", "b"]
FILTERS = ["trim", "upper", "lower", "title", "capitalize", "length", "first", "last", "list", "string", "tojson", "tojson(indent=2)", "int", "float", "abs", "round", "join", "join(', ')", "reverse", "sort",
           "unique", "sum", "max", "min", "items", "dictsort", "default('D')", "default('D', true)", "map('upper')", "map(attribute='name')", "map(attribute='age', default=1)", "select", "reject", "select('string')",
           "selectattr('name')", "selectattr('age', 'gt', 26)", "rejectattr('tags')", "replace('a', 'X')", "indent", "indent(2, true)", "batch(2)", "safe", "e", "count", "slice(2)", "reject('none')", "list|length", "map('string')|join('-')", "string|length"]
TESTS = ["defined", "undefined", "none", "string", "number", "integer", "float", "boolean", "mapping", "sequence", "iterable", "true", "false", "odd", "even", "in l", "in s", "eq 1", "gt 1", "lt(2)", "divisibleby 2", "callable", "lower", "upper", "in [1, 'a']", "ne 'a'"]
METHODS = ["strip()", "lstrip()", "rstrip('\\n')", "strip('a ')", "split()", "split(',')", "split('/', 1)", "rsplit(' ', 1)", "splitlines()", "startswith('s')", "endswith(('e', 'l'))", "upper()", "lower()", "title()", "capitalize()",
           "replace('l', 'LL')", "replace('a', '', 1)", "join(names)", "join(['a', 'b'])", "find('a')", "rfind('r')", "count('l')", "isdigit()", "isalpha()", "isspace()", "get('a')", "get('q', 5)", "keys()", "values()", "items()", "index('a')",
           "format(1, 'b')", "partition('/')", "removeprefix('straw')", "zfill(5)", "center(9, '*')", "copy()", "append(1)", "pop()", "isupper()", "swapcase()", "rpartition('/')", "ljust(4)", "isalnum()"]
OPERATORS = ["+", "-", "*", "/", "//", "%", "~", "==", "!=", "<", ">=", "in", "not in", "and", "or", "+", "~", "+"]


class Maker:
    def __init__(self, seed):
        self.r = random.Random(seed)

    def expression(self, depth=3):
        r = self.r
        kind = r.randrange(14) if depth else r.randrange(2)
        e = lambda: self.expression(depth - 1)
        if kind == 0:
            return r.choice(LITERALS)
        if kind in (1, 2):
            return r.choice(NAMES)
        if kind == 3:
            return f"({e()}) {r.choice(OPERATORS)} ({e()})"
        if kind == 4:
            return f"{e()} {r.choice(OPERATORS)} {e()}"
        if kind in (5, 6):
            return f"{e()}|{r.choice(FILTERS)}"
        if kind == 7:
            return f"({e()})|{r.choice(FILTERS)}"
        if kind == 8:
            return f"({e()}).{r.choice(METHODS)}"
        if kind == 9:
            return f"{r.choice(NAMES)}.{r.choice(METHODS)}"
        if kind == 10:
            return f"{e()} is {r.choice(['', 'not '])}{r.choice(TESTS)}"
        if kind == 11:
            return f"{e()} if {e()} else {e()}" if r.random() < 0.8 else f"({e()} if {e()})"
        if kind == 12:
            part = lambda: r.choice(["", "", "1", "-1", "2", "0", "-3", "99"])
            return f"({r.choice(NAMES)}|default({e()}))[{r.choice([e(), part() + ':' + part(), part() + ':' + part() + ':' + r.choice(['2', '-1', '-2'])])}]"
        return r.choice([f"[{e()}, {e()}]", f"{{'a': {e()}, 'b': {e()}}}", f"({e()}).{r.choice(ATTRIBUTES)}", f"not {e()}", f"-{e()}", f"m({e()})", f"m({e()}, b={e()})", f"range({e()})", f"namespace(a={e()}).a", f"dict(q={e()}).q"])

    def space(self):
        return self.r.choice(["", " ", "\n", "  \n  ", "\n\n", "a", " b ", "\tc\n"])

    def tag(self, body):
        return "{%" + self.r.choice(["", "-", "", "+"]) + " " + body + " " + self.r.choice(["", "-", "", "+"]) + "%}"

    def show(self, body):
        return "{{" + self.r.choice(["", "-", ""]) + " " + body + " " + self.r.choice(["", "-", ""]) + "}}"

    def statements(self, depth=2):
        r = self.r
        out = ""
        for _ in range(r.randrange(1, 4)):
            out += self.space()
            kind = r.randrange(9) if depth else 0
            body = lambda: self.statements(depth - 1)
            e = lambda: self.expression(2)
            if kind <= 1:
                out += self.show(self.expression())
            elif kind == 2:
                out += self.tag(f"if {e()}") + body() + (self.tag(f"elif {e()}") + body() if r.random() < 0.4 else "") + (self.tag("else") + body() if r.random() < 0.5 else "") + self.tag("endif")
            elif kind == 3:
                condition = f" if {e()}" if r.random() < 0.2 else ""
                jump = self.tag(f"if {e()}") + self.tag(r.choice(["break", "continue"])) + self.tag("endif") if r.random() < 0.3 else ""
                show = self.show("loop." + r.choice(["index", "first", "last", "length", "revindex", "previtem", "nextitem", "index0"])) if r.random() < 0.5 else ""
                out += self.tag(f"for i in {r.choice([e(), 'l', 'people', 'names', 'd', 'mixed'])}{condition}") + show + body() + jump + (self.tag("else") + body() if r.random() < 0.3 else "") + self.tag("endfor")
            elif kind == 4:
                out += self.tag(f"set x = {e()}")
            elif kind == 5:
                out += self.tag(r.choice(["set x", "set ns.a"])) + body() + self.tag("endset")
            elif kind == 6:
                out += self.tag(f"set ns.a = {e()}")
            elif kind == 7:
                out += r.choice([self.tag("generation") + body() + self.tag("endgeneration"), self.tag("filter upper") + body() + self.tag("endfilter"), self.tag(f"with x = {e()}") + body() + self.tag("endwith"), "{#- c -#}", "{# c #}", "{% raw %}{{ x }}{% endraw %}"])
            else:
                out += self.tag("call m(1)") + body() + self.tag("endcall")
        return out + self.space()

    def template(self):
        start = "{% set ns = namespace(a=1) %}{% macro m(a, b=a) %}[{{ a }}{{ b }}{{ caller() if caller is defined else '' }}]{% endmacro %}\n"
        return start + (self.statements() if self.r.random() < 0.5 else self.show(self.expression(4)))
