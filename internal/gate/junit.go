package gate

import (
	"encoding/xml"
	"fmt"
	"strings"
	"unicode/utf8"

	"afmq/internal/disk"
)

// The JUnit XML that continuous integration systems read: one suite, one test case a
// limit.
type (
	junitSuites struct {
		XMLName  xml.Name   `xml:"testsuites"`
		Name     string     `xml:"name,attr"`
		Tests    int        `xml:"tests,attr"`
		Failures int        `xml:"failures,attr"`
		Errors   int        `xml:"errors,attr"`
		Time     string     `xml:"time,attr"` // seconds
		Suite    junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name       string          `xml:"name,attr"`
		Tests      int             `xml:"tests,attr"`
		Failures   int             `xml:"failures,attr"`
		Errors     int             `xml:"errors,attr"`
		Skipped    int             `xml:"skipped,attr"`
		Time       string          `xml:"time,attr"`
		Properties []junitProperty `xml:"properties>property"`
		Cases      []junitCase     `xml:"testcase"`
	}
	junitProperty struct {
		Name  string `xml:"name,attr"`
		Value string `xml:"value,attr"`
	}
	junitCase struct {
		Class   string        `xml:"classname,attr"`
		Name    string        `xml:"name,attr"`
		Time    string        `xml:"time,attr"`
		Failure *junitFailure `xml:"failure"`
		Output  string        `xml:"system-out,omitempty"`
	}
	junitFailure struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr"`
		Text    string `xml:",chardata"`
	}
)

// Report is what a JUnit file says beside the verdict.
type Report struct {
	Artifact, Data, ContentHash string
	Seconds                     float64
}

// JUnit returns the verdict as JUnit XML.
func (v *Verdict) JUnit(r Report) ([]byte, error) {
	seconds := fmt.Sprintf("%.3f", r.Seconds)
	s := junitSuite{Name: "afmq gate", Tests: len(v.Checks), Time: seconds, Properties: []junitProperty{
		{"artifact", clean(r.Artifact)}, {"data", clean(r.Data)}, {"content_hash", r.ContentHash},
	}}
	for i, c := range v.Checks {
		j := junitCase{Class: "afmq.gate", Name: c.Name, Time: "0.000"}
		if i == 0 {
			j.Time = seconds // the evaluation serves all of them
		}
		if c.Passed {
			j.Output = clean(c.Message)
		} else {
			s.Failures++
			j.Failure = &junitFailure{Message: clean(c.Message), Type: "limit", Text: fmt.Sprintf("%s: %v %s, limit %v", c.Name, c.Value, c.Unit, c.Limit)}
		}
		s.Cases = append(s.Cases, j)
	}
	data, err := xml.MarshalIndent(junitSuites{Name: s.Name, Tests: s.Tests, Failures: s.Failures, Time: seconds, Suite: s}, "", "  ")
	return append([]byte(xml.Header), append(data, '\n')...), err
}

// WriteJUnit writes the file whole or not at all; one that is there is replaced.
func (v *Verdict) WriteJUnit(path string, r Report) error {
	data, err := v.JUnit(r)
	if err != nil {
		return err
	}
	return disk.WriteFile(path, data)
}

// clean replaces what XML 1.0 cannot hold; a path may have any byte.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 && r != '\t' && r != '\n' && r != '\r' || r == 0xfffe || r == 0xffff {
			return utf8.RuneError
		}
		return r
	}, strings.ToValidUTF8(s, string(utf8.RuneError)))
}
