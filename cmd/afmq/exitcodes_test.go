package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"afmq/pkg/fault"
)

var update = flag.Bool("update", false, "write the parts of the documentation that are made from the program")

// docs/exit-codes.md has the table that the program goes by.
func TestExitCodesInDocs(t *testing.T) {
	const file = "../../docs/exit-codes.md"
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(data), "-update -->\n")
	_, after, ok2 := strings.Cut(rest, "<!-- end table -->")
	if !ok || !ok2 {
		t.Fatal("the marks around the table are gone")
	}
	var b strings.Builder
	b.WriteString(before + "-update -->\n| exit | code | meaning | leaves behind |\n| --- | --- | --- | --- |\n")
	for _, e := range exitTable {
		fmt.Fprintf(&b, "| %d | `%s` | %s | %s |\n", e.Exit, e.Code, e.Meaning, e.Leaves)
	}
	b.WriteString("<!-- end table -->" + after)
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if b.String() != string(data) {
		t.Errorf("the table differs from the program's; go test ./cmd/afmq -run TestExitCodesInDocs -update writes it")
	}
}

// Every kind of error has the exit code that users rely on, and the help topic has them all.
func TestExitCodes(t *testing.T) {
	for kind, want := range map[fault.Kind]int{
		fault.Unexpected: 1, fault.Usage: 2, fault.Input: 3, fault.Infeasible: 4, fault.Gate: 5, fault.Output: 6, fault.Inconclusive: 7,
	} {
		if got := exitOf(kind); got != want {
			t.Errorf("%v: exit code %d, not %d", kind, got, want)
		}
	}
	help := strings.Join(strings.Fields(newExitCodesTopic().Long), " ") // whose lines are broken
	last := -1
	for _, e := range exitTable {
		if e.Exit <= last {
			t.Errorf("%d comes after %d", e.Exit, last)
		}
		last = e.Exit
		if !strings.Contains(help, fmt.Sprintf("%d %s %s", e.Exit, e.Code, e.Meaning)) {
			t.Errorf("the help topic lacks %d", e.Exit)
		}
	}
}
