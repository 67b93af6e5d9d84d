package chat

import (
	"strings"
	"sync"
	"testing"

	"afmq/pkg/fault"
)

// Templates that would loop, fill memory or the stack, or reach outside are errors of kind Input.
func TestHostile(t *testing.T) {
	deep := func(open, middle, end string, n int) string {
		return strings.Repeat(open, n) + middle + strings.Repeat(end, n)
	}
	nested := "{% for a in range(100000) %}{% for b in range(100000) %}{% for c in range(100000) %}x{% endfor %}{% endfor %}{% endfor %}"
	for name, source := range map[string]string{
		"range":             "{{ range(10**9)|length }}",
		"loops":             nested,
		"empty loops":       strings.ReplaceAll(nested, "x", ""),
		"repeated text":     "{{ 'a' * 10**12 }}",
		"repeated list":     "{{ [1] * 10**12 }}",
		"repeated bits":     "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}",
		"doubled list":      "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
		"shared list":       "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
		"shared JSON":       "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l|tojson }}",
		"shared comparison": "{% set a = namespace(l=[1]) %}{% set b = namespace(l=[1]) %}{% for i in range(60) %}{% set a.l = [a.l, a.l] %}{% set b.l = [b.l, b.l] %}{% endfor %}{{ a.l == b.l }}",
		"replace":           "{{ ('a' * 100000)|replace('a', 'b' * 100000) }}",
		"join":              "{{ range(100000)|join('b' * 100000) }}",
		"indent":            "{{ ('\\n' * 100000)|indent(10**9, blank=true) }}",
		"JSON indent":       "{{ [[[1]]]|tojson(indent=10**10) }}",
		"center":            "{{ 'a'.center(10**11) }}",
		"zfill":             "{{ 'a'.zfill(10**11) }}",
		"batch":             "{{ [1]|batch(10**11, 0)|list }}",
		"slice":             "{{ [1]|slice(10**11)|list }}",
		"power":             "{{ 10**10**10 }}",
		"search":            "{% set s = 'a' * 10000000 %}{% for i in range(100000) %}{% if 'b' in s %}{% endif %}{% endfor %}",
		"method":            "{% set s = 'a' * 10000000 %}{% for i in range(100000) %}{{ s.count('b') }}{{ s.isalpha() }}{% endfor %}",
		"characters":        "{% set s = 'a' * 10000000 %}{% for i in range(100000) %}{% if s[9999999] %}{% endif %}{% endfor %}",
		"lists":             "{% set s = range(100000)|list %}{% for i in range(100000) %}{% if 'b' in s %}{% endif %}{% endfor %}",
		"sort":              "{% set s = range(100000)|list %}{% for i in range(100000) %}{% set x = s|sort %}{% endfor %}",
		"recursion":         "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
		"mutual recursion":  "{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{% call f() %}{% endcall %}{% endmacro %}{{ g() }}",
		"branching":         "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(100) }}",
		"cycle":             "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}",
		"nested parens":     "{{ " + deep("(", "1", ")", 100000) + " }}",
		"nested lists":      "{{ " + deep("[", "1", "]", 100000) + " }}",
		"nested nots":       "{{ " + deep("not ", "1", "", 100000) + " }}",
		"nested signs":      "{{ " + deep("- ", "1", "", 100000) + " }}",
		"nested ifs":        deep("{% if 1 %}", "x", "{% endif %}", 100000),
		"nested targets":    "{% set " + deep("(", "x", ")", 100000) + " = 1 %}",
		"long chain":        "{{ 1" + strings.Repeat(" + 1", 100000) + " }}",
		"long attributes":   "{{ messages" + strings.Repeat(".a", 100000) + " }}",
		"long filters":      "{{ 1" + strings.Repeat("|string", 100000) + " }}",
		"long conditions":   "{{ " + strings.Repeat("1 if 0 else ", 100000) + "1 }}",
		"include":           "{% include '/etc/passwd' %}",
		"import":            "{% import '/etc/passwd' as p %}",
		"from":              "{% from '/etc/passwd' import p %}",
		"extends":           "{% extends '/etc/passwd' %}",
		"class":             "{{ ''.__class__.__mro__[1].__subclasses__() }}",
		"globals":           "{{ raise_exception.__globals__ }}",
		"attribute filter":  "{{ ''|attr('__class__') }}",
		"Go method":         "{{ messages.Items }}{{ messages[0].Each(1) }}",
		"format":            "{{ '{0.__class__}'.format(messages) }}",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			template, err := Parse("t", source, nil)
			text := ""
			if err == nil {
				text, err = template.Render([]Message{{Role: "user", Content: "x"}}, RenderOptions{})
			}
			if fault.KindOf(err) != fault.Input || text != "" {
				t.Errorf("%.40q, %v; want an error of kind Input", text, err)
			}
		})
	}
	big := strings.Repeat(" ", maxTemplate+1)
	if _, err := Parse("t", big, nil); fault.KindOf(err) != fault.Input {
		t.Errorf("a template of %d bytes: %v", len(big), err)
	}
}

// Renderings do not share anything that changes.
func TestConcurrent(t *testing.T) {
	template, err := Parse("t", "{% set ns = namespace(n=0) %}{% for m in messages %}{% for p in m.content %}{% set ns.n = ns.n + 1 %}{{ p.text }}{{ ns.n }}{% endfor %}{% endfor %}{{ dict(b=1, a=2) }}", nil)
	if err != nil {
		t.Fatal(err)
	}
	messages := []Message{{Role: "user", Parts: []string{"a", "b"}}}
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for range 50 {
				got, err := template.Render(messages, RenderOptions{})
				if want := "a1b2{'b': 1, 'a': 2}"; got != want || err != nil {
					t.Errorf("%q, %v; want %q", got, err, want)
				}
			}
		})
	}
	wait.Wait()
}

// Any template and conversation end in a text or an error, soon.
func FuzzRender(f *testing.F) {
	cases, special := readCases(f)
	for _, c := range []string{"tools and system", "two rounds", "list of two"} {
		messages, err := marshal(cases[c].Messages)
		if err != nil {
			f.Fatal(err)
		}
		for _, source := range []string{"{{ messages }}", "{% for m in messages %}{{ m.content|upper }}{% endfor %}", "{% macro f(a, b=1) %}{{ caller() }}{% endmacro %}{% call f(1) %}{{ 'a'[::-1] }}{% endcall %}", "{{ [1, 2]|map('string')|join }}{{ 'a%s' % 1 }}{# c #}{% raw %}{{ {% endraw %}"} {
			f.Add(source, messages)
		}
	}
	var file struct{ List []struct{ Template string } }
	readJSON(f, "expressions.json", &file)
	for _, e := range file.List {
		f.Add(e.Template, `[{"role":"user","content":"x"}]`)
	}
	f.Fuzz(func(t *testing.T, source, messages string) {
		template, err := Parse("t", source, special)
		if err != nil {
			if fault.KindOf(err) != fault.Input {
				t.Fatalf("%v is of kind %v", err, fault.KindOf(err))
			}
			return
		}
		var list []Message
		if unmarshal(messages, &list) != nil {
			return
		}
		o := RenderOptions{Now: cases["user"].Options.Now, Tools: cases["tools"].Options.Tools}
		text, err := template.Render(list, o)
		again, errAgain := template.Render(list, o)
		if text != again || (err == nil) != (errAgain == nil) {
			t.Errorf("two renderings differ: %q, %v; %q, %v", text, err, again, errAgain)
		}
		if kind := fault.KindOf(err); err != nil && (text != "" || kind != fault.Usage && kind != fault.Input) {
			t.Errorf("%q, %v of kind %v", text, err, kind)
		}
	})
}
