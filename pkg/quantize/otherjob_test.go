package quantize

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/sensitivity"
)

// The state of a run with another option is refused with the flag of that option and both
// values.
func TestOtherOptionsAreNamed(t *testing.T) {
	text := textFile(t, "calib.txt", strings.Repeat(story, 60))
	base := func() Options {
		return Options{Model: tinyModel, ToolVersion: "test", Calibration: sensitivity.CalibrationOptions{Files: []string{text}, SeqLen: 32, Tokens: 320}}
	}
	target := func() Options {
		o := base()
		o.Request = &sensitivity.PlanOptions{Target: sensitivity.Target{BPW: 4}, Bits: []int{2, 4}}
		return o
	}
	for want, c := range map[string]struct {
		base   func() Options
		change func(o *Options)
	}{
		"--bits was 4 and is now 3":             {base, func(o *Options) { o.Bits = 3 }},
		"--group-rows was 16 and is now 8":      {base, func(o *Options) { o.GroupRows = 8 }},
		"--row-scale was true and is now false": {base, func(o *Options) { o.NoRowScale = true }},
		"--tokens was 320 and is now 640":       {base, func(o *Options) { o.Calibration.Tokens = 640 }},
		"--seq-len was 32 and is now 16":        {base, func(o *Options) { o.Calibration.SeqLen = 16 }},
		"--seed was 0 and is now 1":             {base, func(o *Options) { o.Calibration.Seed = 1 }},
		"--compensate was loss and is now none": {base, func(o *Options) { o.Compensate = artifact.NoCompensation }},
		"the text of --calib has other content": {base, func(o *Options) {
			o.Calibration.Files = []string{textFile(t, "calib.txt", strings.Repeat(story, 60)+"\n")}
		}},
		"--calib was given and is now none": {base, func(o *Options) { o.Calibration = sensitivity.CalibrationOptions{} }},
		"was 4 bit palette and is now 8 bit palette": {base, func(o *Options) {
			o.Overrides = []sensitivity.Override{{Pattern: "down_proj", Bits: 8}}
		}},
		"--bpw was 4 and is now 3.9":              {target, func(o *Options) { o.Request.Target.BPW = 3.9 }},
		"--max-bytes was none and is now 1048576": {target, func(o *Options) { o.Request.Target = sensitivity.Target{MaxBytes: 1 << 20} }},
		"--bits was [2,4] and is now [2,8]":       {target, func(o *Options) { o.Request.Bits = []int{2, 8} }},
		"--method was fisher and is now weight":   {target, func(o *Options) { o.Method = sensitivity.Weight }},
		"--bpw or --max-bytes":                    {target, func(o *Options) { o.Request = nil }},
	} {
		parent := t.TempDir()
		o := c.base()
		o.Out = filepath.Join(parent, "out")
		state := stateDir(o.Out)
		for _, dir := range []string{state, filepath.Join(state, "out"), filepath.Join(state, "state")} {
			if err := os.Mkdir(dir, 0o777); err != nil {
				t.Fatal(err)
			}
		}
		writeFile(t, filepath.Join(state, "job.json"), identityOf(t, o))
		o = c.base()
		o.Out = filepath.Join(parent, "out")
		c.change(&o)
		_, err := runOn(bg, newPool(t, 1), o)
		wantFault(t, err, fault.Input, "another job", want)
	}
}
