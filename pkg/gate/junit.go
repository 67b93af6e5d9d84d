package gate

import (
	"encoding/xml"
	"fmt"
	"strings"
	"unicode/utf8"

	"afmq/internal/disk"
)

// The JUnit XML that continuous integration systems read: one suite with one test case for
// each check. A check that is worse is a <failure>, one that is inconclusive an <error>: the
// format's words for a test that failed and for one that could not be carried out. Systems
// that read the format count both as not passed.
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
		Failure *junitProblem `xml:"failure"`
		Error   *junitProblem `xml:"error"`
		Output  string        `xml:"system-out,omitempty"`
	}
	junitProblem struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr"`
		Text    string `xml:",chardata"`
	}
)

// Report has what a JUnit file says besides the verdict.
type Report struct {
	Artifact, Data, ContentHash string
	Seconds                     float64
}

// caseNames are the names of the test cases: the flags of afmq gate, and of eval-perplexity for
// PerplexityRise, that set the limits.
var caseNames = map[Quantity]string{
	NatsRise: "max-nats", KLRise: "max-kl-rise", KL: "max-kl", PerplexityRise: "max-ppl-increase",
	Bytes: "max-bytes", BPW: "max-bpw",
}

// JUnit returns the verdict as JUnit XML. A test case has the name of the flag of the command
// that sets its limit, such as max-nats.
func (v *Verdict) JUnit(r Report) ([]byte, error) {
	seconds := fmt.Sprintf("%.3f", r.Seconds)
	s := junitSuite{Name: "afmq gate", Tests: len(v.Checks), Time: seconds, Properties: []junitProperty{
		{"artifact", clean(r.Artifact)}, {"data", clean(r.Data)}, {"content_hash", r.ContentHash},
	}}
	for i, c := range v.Checks {
		j := junitCase{Class: "afmq.gate", Name: caseNames[c.Name], Time: "0.000"}
		if i == 0 {
			j.Time = seconds // one evaluation serves all checks
		}
		problem := &junitProblem{Message: clean(c.Message), Type: "limit", Text: fmt.Sprintf("%s: %v %s, limit %v", j.Name, c.Value, c.Unit, c.Limit)}
		switch c.Outcome {
		case NoWorse:
			j.Output = clean(c.Message)
		case Worse:
			s.Failures++
			j.Failure = problem
		default:
			s.Errors++
			problem.Type = string(Inconclusive)
			j.Error = problem
		}
		s.Cases = append(s.Cases, j)
	}
	data, err := xml.MarshalIndent(junitSuites{Name: s.Name, Tests: s.Tests, Failures: s.Failures, Errors: s.Errors, Time: seconds, Suite: s}, "", "  ")
	return append([]byte(xml.Header), append(data, '\n')...), err
}

// WriteJUnit writes the file atomically and replaces an existing one.
func (v *Verdict) WriteJUnit(path string, r Report) error {
	data, err := v.JUnit(r)
	if err != nil {
		return err
	}
	return disk.WriteFile(path, data)
}

// clean replaces characters that XML 1.0 does not allow; a path may have any byte.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 && r != '\t' && r != '\n' && r != '\r' || r == 0xfffe || r == 0xffff {
			return utf8.RuneError
		}
		return r
	}, strings.ToValidUTF8(s, string(utf8.RuneError)))
}
