package main

import (
	"slices"
	"testing"
)

func TestParse(t *testing.T) {
	got := parse("# Title\n\n    $ first --flag\n    one\n\n    two\n    $ second\n\nText\n\n    not output\n")
	if len(got) != 2 || got[0].text != "first --flag" || got[0].line != 3 || !slices.Equal(got[0].want, []string{"one", "", "two"}) {
		t.Errorf("first command: %+v", got)
	}
	if got[1].text != "second" || len(got[1].want) != 0 {
		t.Errorf("second command: %+v", got[1])
	}
}

func TestMatch(t *testing.T) {
	lines := []string{"ratio  1.02", "time   19.3 s, 248.73 MiB peak memory", "speed  2666 tokens/s, 42.9 s in all"}
	for _, c := range []struct {
		pattern []string
		want    bool
	}{
		{lines, true},
		{[]string{"ratio 1.02", "time 7 s, 1.00 GiB peak memory", "speed 11,000.5 tokens/s, 1.0 s in all"}, true},
		{[]string{"...", "speed  2666 tokens/s, 42.9 s in all"}, true},
		{[]string{"ratio  1.02", "..."}, true},
		{[]string{"..."}, true},
		{[]string{"ratio  1.03", "..."}, false},
		{[]string{"ratio  1.02"}, false},
		{[]string{"ratio  1.02", "...", "speed  2666 tokens, 42.9 s in all"}, false},
		{nil, false},
	} {
		if got := match(c.pattern, lines); got != c.want {
			t.Errorf("match(%q) = %v, want %v", c.pattern, got, c.want)
		}
	}
}
