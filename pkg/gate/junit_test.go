package gate

import (
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// element is any XML element, read without our own types.
type element struct {
	XMLName  xml.Name
	Attrs    []xml.Attr `xml:",any,attr"`
	Text     string     `xml:",chardata"`
	Children []element  `xml:",any"`
}

func (e *element) attr(t *testing.T, name string) string {
	t.Helper()
	for _, a := range e.Attrs {
		if a.Name.Local == name {
			return a.Value
		}
	}
	t.Errorf("<%s> has no %s", e.XMLName.Local, name)
	return ""
}

func (e *element) all(name string) (out []element) {
	for _, c := range e.Children {
		if c.XMLName.Local == name {
			out = append(out, c)
		}
	}
	return out
}

// The report has the structure that GitLab, Jenkins and the actions for GitHub read:
// testsuites, a testsuite that counts its cases, each with classname, name and a time in
// seconds, a failure with message and type in those that failed, and an error in those that
// are undecided. A case has the name of the flag whose limit it judges.
func TestJUnit(t *testing.T) {
	v := &Verdict{Checks: []Check{
		{Name: NatsRise, Unit: "nats per token", Value: 0.5, Limit: 0.01, Outcome: Worse, Message: `rose by "0.5" < all & more`},
		{Name: Bytes, Unit: "bytes", Value: 10, Limit: 20, Outcome: NoWorse, Passed: true, Message: "10 bytes, the limit is 20"},
		{Name: BPW, Unit: "bits per weight", Value: 4, Limit: 3, Outcome: Worse, Message: "bad \x00\x1b\xff bytes"},
		{Name: KLRise, Unit: "nats per token", Value: 0.5, Limit: 0.4, Outcome: Inconclusive, Message: "cannot tell"},
	}}
	flags := []string{"max-nats", "max-bytes", "max-bpw", "max-kl-rise"}
	path := filepath.Join(t.TempDir(), "gate.xml")
	if err := v.WriteJUnit(path, Report{Artifact: "dir/\x01<q>", Data: "text & more.txt", ContentHash: hex64, Seconds: 1.25}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(data), `<?xml version="1.0" encoding="UTF-8"?>`) {
		t.Errorf("begins with %.60q", data)
	}
	var root element
	d := xml.NewDecoder(strings.NewReader(string(data)))
	if err := d.Decode(&root); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Token(); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	suites := root.all("testsuite")
	if root.XMLName.Local != "testsuites" || len(suites) != 1 {
		t.Fatalf("%s with %d suites", root.XMLName.Local, len(suites))
	}
	s := suites[0]
	cases := s.all("testcase")
	if len(cases) != len(v.Checks) {
		t.Fatalf("%d cases", len(cases))
	}
	failures := 0
	for i, c := range cases {
		if c.attr(t, "classname") != "afmq.gate" || c.attr(t, "name") != flags[i] {
			t.Errorf("case %d: %v, want the name %s", i, c.Attrs, flags[i])
		}
		if seconds, err := strconv.ParseFloat(c.attr(t, "time"), 64); err != nil || seconds < 0 {
			t.Errorf("case %d: %v", i, err)
		}
		f, undecided := c.all("failure"), c.all("error")
		if (len(f) == 1) != (v.Checks[i].Outcome == Worse) || (len(undecided) == 1) != (v.Checks[i].Outcome == Inconclusive) {
			t.Errorf("case %d: %d failures, %d errors", i, len(f), len(undecided))
		}
		for _, e := range undecided {
			if e.attr(t, "type") != "inconclusive" || e.attr(t, "message") != v.Checks[i].Message {
				t.Errorf("case %d: %+v", i, e)
			}
		}
		for _, f := range f {
			failures++
			if f.attr(t, "type") != "limit" || f.attr(t, "message") == "" || !strings.Contains(f.Text, "limit") {
				t.Errorf("case %d: %+v", i, f)
			}
		}
	}
	for _, e := range []element{root, s} {
		for name, want := range map[string]int{"tests": 4, "failures": failures, "errors": 1} {
			if e.attr(t, name) != fmt.Sprint(want) {
				t.Errorf("<%s> says %s %s, not %d", e.XMLName.Local, name, e.attr(t, name), want)
			}
		}
		if e.attr(t, "name") == "" || e.attr(t, "time") != "1.250" {
			t.Errorf("%v", e.Attrs)
		}
	}
	if got := cases[0].all("failure")[0].attr(t, "message"); got != v.Checks[0].Message {
		t.Errorf("the message is %q", got)
	}
	if got := cases[2].all("failure")[0].attr(t, "message"); got != "bad \uFFFD\uFFFD\uFFFD bytes" {
		t.Errorf("the message is %q", got)
	}
}
