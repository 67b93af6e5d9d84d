package report

import (
	"fmt"

	"afmq/internal/infile"
	"afmq/pkg/fault"
	"afmq/pkg/gate"
)

// gateSchema is the supported version of a gate's verdict.
const gateSchema = "afmq.gate/v1"

const maxGateBytes = 1 << 20

// gateFile has the keys of `afmq gate --json` that a report uses. Unknown keys are ignored,
// because a version may gain keys.
type gateFile struct {
	file      string
	Schema    string `json:"schema"`
	Adapter   string `json:"adapter"`
	Reference string `json:"reference_path"`
	Data      string `json:"data"`
	Baseline  string `json:"baseline"`
	*gate.Result
}

// readGates reads the verdicts of --gate. Each must be on this artifact, with or without an
// adapter.
func (s *sources) readGates() error {
	seen := map[string]string{}
	for _, file := range s.opts.Gates {
		data, err := infile.ReadBounded(file, maxGateBytes)
		if err != nil {
			return err
		}
		g, err := parseGate(file, data)
		if err != nil {
			return err
		}
		if err := s.art.judged(g); err != nil {
			return err
		}
		key := g.Baseline + "\x00" + g.Setting.Data
		if g.Model.Adapter != nil {
			key += "\x00" + *g.Model.Adapter
		}
		if other, twice := seen[key]; twice {
			return fault.Inputf(file, "duplicates %s: the same model, baseline and text", show(other))
		}
		seen[key] = file
		s.gates = append(s.gates, g)
	}
	return nil
}

// judged refuses a verdict on another model than the artifact, or against another reference.
func (a *opened) judged(g *gateFile) error {
	hash, source := a.manifest.ContentHash, a.manifest.Source.Digest
	if g.Model.Digest != hash {
		return fault.Inputf(g.file, "judges another model than %s: its digest is %.16s…, not %.16s…", show(a.dir), g.Model.Digest, hash)
	}
	if r := g.Setting.Reference; r != nil && *r != source {
		return fault.Inputf(g.file, "measures the divergence from another reference than the checkpoint that %s was made from: its digest is %.16s…, not %.16s…", show(a.dir), *r, source)
	}
	if a.manifest.FittedText() != nil && g.Overlap == nil {
		return fault.Inputf(g.file, "does not say how its text overlaps with the text that %s was fitted to", show(a.dir))
	}
	return nil
}

// parseGate parses and checks a verdict. Errors are of kind fault.Input and name file.
func parseGate(file string, data []byte) (*gateFile, error) {
	bad := func(format string, args ...any) (*gateFile, error) {
		return nil, fault.Inputf(file, "is not a gate's verdict: "+format, args...)
	}
	g := &gateFile{file: file}
	if err := parseObject(data, gateSchema, g); err != nil {
		return bad("%v", err)
	}
	if g.Result == nil || g.Verdict == nil || g.Data == "" || !infile.IsSHA256(g.Model.Digest) || !infile.IsSHA256(g.Setting.Data) {
		return bad("its figures are missing")
	}
	if a := g.Model.Adapter; a != nil && !infile.IsSHA256(*a) {
		return bad("%.80q is not a SHA-256 in lower-case hex", *a)
	}
	if (g.Adapter != "") != (g.Model.Adapter != nil) {
		return bad("the path or the digest of the adapter is missing")
	}
	if err := checkOutcome(g.Outcome, g.Checks); err != nil {
		return bad("%v", err)
	}
	return g, nil
}

// checkOutcome refuses an outcome that does not follow from the checks, and checks that contradict
// their intervals or limits.
func checkOutcome(outcome gate.Outcome, checks []gate.Check) error {
	for _, c := range checks {
		want := gate.NoWorse
		switch {
		case c.Interval != nil:
			want = c.Interval.Against(c.Limit)
		case c.Value > c.Limit:
			want = gate.Worse
		}
		if c.Outcome != want {
			return fmt.Errorf("the check %.40q has the outcome %.40q; its figures give %q", c.Name, c.Outcome, want)
		}
	}
	if want := gate.Combine(checks); outcome != want {
		return fmt.Errorf("its outcome is %.40q; its checks give %q", outcome, want)
	}
	return nil
}
