package main

import "testing"

func TestMatch(t *testing.T) {
	lines := []string{"ratio  1.02", "time   19.3 s, 248.73 MiB peak memory", "speed  2666 tokens/s, 42.9 s in all"}
	for _, c := range []struct {
		pattern []string
		want    bool
	}{
		{lines, true},
		{[]string{"ratio  1.02", "time   7 s, 1.00 GiB peak memory", "speed  11,000.5 tokens/s, 1.0 min in all"}, true},
		{[]string{"...", "speed  2666 tokens/s, 42.9 s in all"}, true},
		{[]string{"ratio  1.02", "..."}, true},
		{[]string{"..."}, true},
		{[]string{"ratio  1.03", "..."}, false},
		{[]string{"ratio 1.02", "..."}, false}, // another alignment
		{[]string{"ratio  1.02"}, false},
		{[]string{"ratio  1.02", "...", "speed  2666 tokens, 42.9 s in all"}, false},
		{nil, false},
	} {
		if got := match(c.pattern, lines); got != c.want {
			t.Errorf("match(%q) = %v, want %v", c.pattern, got, c.want)
		}
	}
}
