package main

import (
	"strings"
	"testing"
)

func TestExcerpt(t *testing.T) {
	output := "head of table\nrow a 1.25 MiB\nrow b 2.25 MiB\nrow a 3.25 MiB\n\nbits per weight 3.5\nnew line\ncontent hash 12ab\ntime 3 s"
	for _, c := range []struct{ name, shown, want string }{
		{"figures change", "...\nbits per weight 3.4\n...\ncontent hash ff00\n...", "...\nbits per weight 3.5\n...\ncontent hash 12ab\n..."},
		{"from the start", "head of table\nrow a 9 MiB\n...", "head of table\nrow a 1.25 MiB\n..."},
		{"to the end", "...\ncontent hash 00\ntime 9 s", "...\ncontent hash 12ab\ntime 3 s"},
		{"a line appears within", "...\nbits per weight 3.4\ncontent hash 00\n...", "...\nbits per weight 3.5\nnew line\ncontent hash 12ab\n..."},
		{"an unknown line at an end", "...\nrow b 2 MiB\n\nanother wording\n...", "...\nrow b 2.25 MiB\nrow a 3.25 MiB\n\n..."},
		{"nothing is omitted now", "head of table\n...\nrow a 1 MiB\nrow b 1 MiB\n\nbits per weight 3\nnew line\ncontent hash 00\ntime 1 s", output},
		{"no elision", "old", output},
		{"rows that differ in numbers only", "head of table\nrow a 1.25 MiB\n...\ntime 1 s", "head of table\nrow a 1.25 MiB\n...\ntime 3 s"},
	} {
		got, found := excerpt(strings.Split(c.shown, "\n"), strings.Split(output, "\n"))
		if s := strings.Join(got, "\n"); s != c.want || !found {
			t.Errorf("%s: %v\n%s\nwant\n%s", c.name, found, s, c.want)
		}
		if !match(got, strings.Split(output, "\n")) {
			t.Errorf("%s: the excerpt does not match its output", c.name)
		}
	}
	broken := []string{"size  1", "kl    WORSE: the divergence is 0.04 nats per", "      token (interval 0.04 to 0.05,", "      40 windows); the limit is 0.01", "gate  FAILED", "end"}
	old := []string{"...", "kl    WORSE: the divergence is 0.05 nats per token (interval 0.04 to 0.06, 40 windows); the limit is 0.01", "gate  FAILED", "..."}
	if got, found := excerpt(old, broken); !found || strings.Join(got, "\n") != "...\n"+strings.Join(broken[1:5], "\n")+"\n..." {
		t.Errorf("a line broken into three: %v, %q", found, got)
	}
	if got, found := excerpt([]string{"...", "gone for good", "..."}, strings.Split(output, "\n")); found || strings.Join(got, "\n") != output {
		t.Errorf("lines that are gone: %v, %q", found, got)
	}
}
