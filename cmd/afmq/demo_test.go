package main

import (
	"strings"
	"testing"
)

// The demonstration's table and sentences, as people see them.
func TestPrintDemo(t *testing.T) {
	var b strings.Builder
	err := printDemo(&b, demoObject{Tokens: 12345, Prompt: "The old man", Models: []demoRow{
		{Name: "16 bit", Bytes: 2 << 20, BPW: 16, Perplexity: 12.5, SameTop1: 1, Sentence: "sat."},
		{Name: "2 bit", Bytes: 300 << 10, BPW: 2.125, Perplexity: 14.25, KL: 0.125, SameTop1: 0.75, Sentence: "ran."},
	}}, "kept")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"16 bit  2.00 MiB    16.000", "2 bit   300.00 KiB  2.125        14.250      0.1250        75.0 %",
		"evaluated on 12,345 tokens", "2 bit   The old man … ran.", "kept in kept",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in:\n%s", want, b.String())
		}
	}
}
