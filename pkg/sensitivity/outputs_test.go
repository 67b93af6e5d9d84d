package sensitivity

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"testing"

	"afmq/pkg/model"
)

// The moments of gradients are those that statistics of the same text have, the scores those of Score or
// 0, and a directory that is damaged is collected again.
func TestCollectOutputs(t *testing.T) {
	o := statsOptions(t)
	o.Out = filepath.Join(t.TempDir(), "stats")
	collect(t, o)
	whole, err := OpenStats(o.Out)
	if err != nil {
		t.Fatal(err)
	}
	opts := o.Options
	for _, unscored := range []bool{false, true} {
		opts.Out = filepath.Join(t.TempDir(), "outputs")
		s, _, err := CollectOutputs(bg, opts, unscored)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range s.cfg.Tensors() {
			if spec.Role != model.Projection {
				continue
			}
			moment, squares, err := s.Output(bg, spec)
			if err != nil || squares != nil || len(moment) != spec.Shape[0]*spec.Shape[0] {
				t.Fatalf("%s: %d and %d elements, %v", spec.Name, len(moment), len(squares), err)
			}
			want, _, err := whole.Output(bg, spec)
			if err != nil {
				t.Fatal(err)
			}
			trace := 0.0
			for i, v := range want {
				if v != moment[i] || math.IsNaN(float64(v)) || v != want[i%spec.Shape[0]*spec.Shape[0]+i/spec.Shape[0]] {
					t.Fatalf("%s: element %d is %v, in statistics %v", spec.Name, i, moment[i], v)
				}
				if i%(spec.Shape[0]+1) == 0 {
					trace += float64(v)
				}
			}
			if !(trace > 0) {
				t.Errorf("%s: the gradients are 0", spec.Name)
			}
			if _, err := s.Hessian(bg, spec); err == nil {
				t.Errorf("%s has moments of its input", spec.Name)
			}
		}
		for i, m := range s.Scores.Modules {
			for k, c := range m.Costs {
				if want := whole.Scores.Modules[i].Costs[k]; !unscored && c != want || unscored && c != 0 {
					t.Errorf("%s: cost %v, want %v", m.Name, c, want)
				}
			}
		}
		if s.Draws() != s.Calibration.Tokens {
			t.Errorf("%d draws for %d tokens", s.Draws(), s.Calibration.Tokens)
		}
		path := filepath.Join(opts.Out, StatsFile)
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for what, damage := range map[string]func() error{
			"description": func() error { return os.WriteFile(path, before[:len(before)/2], 0o666) },
			"removed":     func() error { return os.Remove(path) },
			"layer":       func() error { return os.Truncate(filepath.Join(opts.Out, layerFile(1)), 100) },
		} {
			if err := damage(); err != nil {
				t.Fatal(err)
			}
			if _, _, err := CollectOutputs(bg, opts, unscored); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			after, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(before, after) {
				t.Errorf("%s: damaged statistics were not collected again: %v", what, err)
			}
		}
	}
}
