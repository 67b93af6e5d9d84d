package report

import (
	"encoding/json"
	"strings"
	"testing"

	"afmq/pkg/artifact"
	"afmq/pkg/quantize"
	"afmq/pkg/sensitivity"
)

// The command of an artifact that was calibrated on the built-in text needs no file.
func TestCommandOfTheBuiltinText(t *testing.T) {
	art := t.TempDir() + "/art"
	_, err := quantize.Run(bg, quantize.Options{
		Model: in("model"), Out: art, Bits: 2, Pool: pool, Compensate: artifact.NoCompensation,
		Calibration: sensitivity.CalibrationOptions{Files: []string{sensitivity.BuiltinText}, Tokens: 64, SeqLen: 32},
	})
	if err != nil {
		t.Fatal(err)
	}
	r, _ := mustMake(t, Options{Artifact: art})
	c := section[*Commands](t, r, "commands")
	if got := c.Steps[0].Command; !strings.Contains(got, " --calib builtin --tokens 64 ") {
		t.Errorf("%s", got)
	}
}

// A file that is called as the built-in text is given as a path.
func TestCommandOfAFileCalledBuiltin(t *testing.T) {
	c := &commander{sources: &sources{}, out: &Commands{}, paths: map[string]string{dataDigest: "builtin"}, used: map[string]int{}}
	l := newCommand("quantize")
	c.calibration(l, &artifact.CalibrationRecord{Tokens: 64, SeqLen: 32, Files: []string{dataDigest}})
	if got, want := l.String(), "afmq quantize --calib ./builtin --tokens 64 --seq-len 32"; got != want {
		t.Errorf("%s, expected %s", got, want)
	}
}

// A plan of other scores than those of the report is not said to come from them.
func TestCommandOfAPlanOfOtherScores(t *testing.T) {
	dir := t.TempDir()
	scores, err := sensitivity.ReadScores(in("scores.json"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range scores.Modules {
		for k := range scores.Modules[i].Costs {
			scores.Modules[i].Costs[k] *= 2
		}
	}
	data, err := json.Marshal(scores)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/other.json", data)
	for file, want := range map[string]string{in("scores.json"): "afmq plan " + in("scores.json"), dir + "/other.json": "afmq plan SCORES.json"} {
		r, _ := mustMake(t, Options{Artifact: in("mixed"), Scores: file, Plan: in("plan.json")})
		if got := section[*Commands](t, r, "commands").Steps[1].Command; !strings.HasPrefix(got, want+" ") {
			t.Errorf("%s, expected %s", got, want)
		}
	}
}
