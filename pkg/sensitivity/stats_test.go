package sensitivity

import (
	"bytes"
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"afmq/internal/kernel"
	"afmq/pkg/fault"
	"afmq/pkg/infer"
	"afmq/pkg/model"
	"afmq/pkg/progress"
	"afmq/pkg/shard"
)

// statsOptions returns options with text of 5 leaves: no power of two, and
// leaves that begin in the middle of a unit.
func statsOptions(t testing.TB) StatsOptions {
	o := options(t, Fisher, 2, 4)
	o.Calibration.SeqLen, o.Calibration.Tokens = 256, 5*leafTokens
	o.Calibration.Files = []string{textFile(t, "long.txt", strings.Repeat(story, 40))}
	return StatsOptions{Options: o}
}

func collect(t testing.TB, o StatsOptions) *StatsResult {
	t.Helper()
	r, err := CollectStats(bg, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func sameDirs(t *testing.T, what, got, want string) {
	t.Helper()
	entries, err := os.ReadDir(want)
	if err != nil {
		t.Fatal(err)
	}
	others, err := os.ReadDir(got)
	if err != nil || len(others) != len(entries) {
		t.Errorf("%s: %d files, want %d; %v", what, len(others), len(entries), err)
	}
	for _, e := range entries {
		a, err1 := os.ReadFile(filepath.Join(want, e.Name()))
		b, err2 := os.ReadFile(filepath.Join(got, e.Name()))
		if err1 != nil || err2 != nil || !bytes.Equal(a, b) {
			t.Errorf("%s: %s differs: %v, %v", what, e.Name(), err1, err2)
		}
	}
}

// Statistics have the scores of Score, the second moments of the inputs, and, merged, the same bytes
// for every number of shards and after interruptions.
func TestStats(t *testing.T) {
	o := statsOptions(t)
	o.Out = filepath.Join(t.TempDir(), "whole")
	o.Threads = 2
	collect(t, o)
	whole, err := OpenStats(o.Out)
	if err != nil {
		t.Fatal(err)
	}
	want, err := score(t, 2, o.scoring()).Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := whole.Scores.Encode(); err != nil || !bytes.Equal(got, want) {
		t.Errorf("other scores than those of Score: %v", err)
	}
	checkHessians(t, whole, o)
	for _, n := range []int{2, 5} {
		out := filepath.Join(t.TempDir(), "shards")
		for i := n - 1; i >= 0; i-- {
			s := o
			s.Out, s.Shard, s.Threads = out, shard.Shard{Index: i, Count: n}, 1+i%3
			if i == 1 { // dies after two layers, and is run again alone
				ctx, cancel := context.WithCancel(bg)
				s.Progress = &stopAfter{progress.Silent, 2, cancel}
				if _, err := CollectStats(ctx, s); !errors.Is(err, context.Canceled) {
					t.Fatal(err)
				}
				cancel()
				s.Progress = nil
				if _, err := OpenStats(out); fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), "1/") {
					t.Errorf("a shard is missing: %v", err)
				}
				if r := collect(t, s); r.ResumedLayers != 2 {
					t.Errorf("%d layers resumed", r.ResumedLayers)
				}
			} else {
				collect(t, s)
			}
		}
		parts, err := OpenStats(out)
		if err != nil {
			t.Fatal(err)
		}
		if parts.Digest != whole.Digest {
			t.Errorf("%d shards have another digest", n)
		}
		merged := filepath.Join(t.TempDir(), "merged")
		if _, err := parts.Merge(bg, merged, nil); err != nil {
			t.Fatal(err)
		}
		sameDirs(t, shard.Shard{Index: 0, Count: n}.String(), merged, o.Out)
	}
}

// scoring returns the options of Score with the same result.
func (o StatsOptions) scoring() Options {
	s := o.Options
	s.Out = ""
	return s
}

// Scores in shards are those of one run, by every method, also where a shard was interrupted.
func TestScoreShards(t *testing.T) {
	for _, method := range []Method{Fisher, KL, Hessian, Weight} {
		o := statsOptions(t).Options
		o.Method = method
		if method != Fisher {
			o.Calibration.Tokens, o.Bits = 256, []int{3}
		}
		want, err := score(t, 2, o).Encode()
		if err != nil {
			t.Fatal(err)
		}
		o.Out = filepath.Join(t.TempDir(), "job")
		const n = 3
		for i := range n {
			sh := shard.Shard{Index: i, Count: n}
			if i == 1 {
				stopped := o
				ctx, cancel := context.WithCancel(bg)
				stopped.Progress = &stopAfter{progress.Silent, 2, cancel}
				if _, err := ScoreShard(ctx, stopped, sh); !errors.Is(err, context.Canceled) {
					t.Fatal(err)
				}
				cancel()
				_, err := MergeScores(o.Out)
				wantFault(t, err, fault.Input, "2 of 3 shards are missing: 1/3, 2/3")
			}
			r, err := ScoreShard(bg, o, sh)
			if err != nil {
				t.Fatal(err)
			}
			if i == 1 && r.ResumedUnits != 2 {
				t.Errorf("%s: %d units resumed", method, r.ResumedUnits)
			}
		}
		scores, err := MergeScores(o.Out)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := scores.Encode(); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: other scores: %v", method, err)
		}
	}
}

// checkHessians compares second moments with sums in float64 over a plain forward pass.
func checkHessians(t *testing.T, s *Stats, o StatsOptions) {
	t.Helper()
	m, err := infer.Open(bg, o.Model, infer.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := ReadCalibration(o.Calibration, m.Tokenizer, m.Config)
	if err != nil {
		t.Fatal(err)
	}
	w, err := m.NewWalk(text.Sequences, infer.WalkOptions{})
	if err != nil {
		t.Fatal(err)
	}
	check := func(spec model.TensorSpec, n int, input func(b int) []float32) {
		t.Helper()
		h, err := s.Hessian(bg, spec)
		if err != nil {
			t.Fatal(err)
		}
		want := make([]float64, n)
		for b := range w.Batches() {
			x := input(b)
			for at := 0; at < len(x); at += n {
				for i := range n { // the second row
					want[i] += float64(x[at+1]) * float64(x[at+i])
				}
			}
		}
		for i, v := range want {
			if d := math.Abs(float64(h[n+i]) - v); d > 1e-4*math.Abs(want[1]) || h[n+i] != h[i*n+1] {
				t.Fatalf("%s, element 1,%d: %v, transposed %v, want %v", spec.Name, i, h[n+i], h[i*n+1], v)
			}
		}
	}
	for _, spec := range m.Config.Tensors() {
		if spec.Role != model.Projection {
			continue
		}
		for w.Layer() < spec.Layer {
			w.Advance()
		}
		check(spec, spec.Shape[1], func(b int) []float32 { return w.Input(spec.Kind, b) })
	}
	w.Advance()
	check(model.TensorSpec{Role: model.Head}, m.Config.HiddenSize, w.Final)
}

// Shards of another job, of another number and of another text are refused by name, and so is what is
// damaged.
func TestStatsRefuse(t *testing.T) {
	o := statsOptions(t)
	o.Calibration.Tokens = 2 * leafTokens
	o.Out = filepath.Join(t.TempDir(), "job")
	first := o
	first.Shard = shard.Shard{Index: 0, Count: 2}
	collect(t, first)
	if r := collect(t, first); !r.Already {
		t.Error("a shard that is complete was run again")
	}
	for want, change := range map[string]func(o *StatsOptions){
		"--bits was [2,4] and is now [2,3]": func(o *StatsOptions) { o.Bits = []int{2, 3} },
		"is divided into 2 shards":          func(o *StatsOptions) { o.Shard.Count = 1; o.Shard.Index = 0 },
		"the text of --calib": func(o *StatsOptions) {
			o.Calibration.Files = []string{textFile(t, "other.txt", strings.Repeat(story, 41))}
		},
		"--tokens": func(o *StatsOptions) { o.Calibration.Tokens = 3 * leafTokens },
	} {
		s := o
		s.Shard = shard.Shard{Index: 1, Count: 2}
		change(&s)
		_, err := CollectStats(bg, s)
		wantFault(t, err, fault.Input, want)
	}
	s := o
	s.Shard = shard.Shard{Index: 1, Count: 3}
	_, err := CollectStats(bg, s)
	wantFault(t, err, fault.Usage, "3 shards of a text that can be divided into 2")
	second := o
	second.Shard = shard.Shard{Index: 1, Count: 2}
	path := collect(t, second).Path
	stats, err := OpenStats(o.Out)
	if err != nil {
		t.Fatal(err)
	}
	description := filepath.Join(path, StatsFile)
	text, err := os.ReadFile(description)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"../x.safetensors", "head.safetensors"} {
		changed := strings.Replace(string(text), layerFile(1), name, 1)
		if err := os.WriteFile(description, []byte(changed), 0o666); err != nil {
			t.Fatal(err)
		}
		_, err := OpenStats(o.Out)
		wantFault(t, err, fault.Input, "which is not that of a layer, or twice")
	}
	// A sum that someone changed.
	at := strings.Index(string(text), "e-")
	changed := string(text[:at]) + "e+" + string(text[at+2:])
	if err := os.WriteFile(description, []byte(changed), 0o666); err != nil {
		t.Fatal(err)
	}
	_, err = OpenStats(o.Out)
	wantFault(t, err, fault.Input, "does not match the digest that it has of its content")
	if err := os.WriteFile(description, text, 0o666); err != nil {
		t.Fatal(err)
	}
	layer := filepath.Join(path, layerFile(0))
	data, err := os.ReadFile(layer)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-5] ^= 1
	if err := os.WriteFile(layer, data, 0o666); err != nil {
		t.Fatal(err)
	}
	for _, spec := range stats.cfg.Tensors() {
		if spec.Role == model.Projection && spec.Layer == 0 {
			_, err := stats.Hessian(bg, spec)
			wantFault(t, err, fault.Input, "does not match stats.json")
		}
	}
}

// The order of the sums is that of the tree, whatever the division.
func TestTreeSum(t *testing.T) {
	leaf := func(i int) []float32 { return []float32{float32(i) * 1e7, 1 / float32(i+3)} }
	for n := 1; n <= 13; n++ {
		var whole treeSum
		for i := range n {
			whole.push(treeNode{i, 1, leaf(i)})
		}
		if !covers(whole.nodes, 0, n) {
			t.Fatalf("%d leaves: %v", n, whole.nodes)
		}
		want := whole.total()
		for shards := 1; shards <= n; shards++ {
			var merged treeSum
			for s := range shards {
				var part treeSum
				for i := n * s / shards; i < n*(s+1)/shards; i++ {
					part.push(treeNode{i, 1, leaf(i)})
				}
				for _, node := range part.nodes {
					merged.push(node)
				}
			}
			if got := merged.total(); got[0] != want[0] || got[1] != want[1] {
				t.Errorf("%d leaves in %d shards: %v, want %v", n, shards, got, want)
			}
		}
	}
}

func TestTriangle(t *testing.T) {
	h := []float32{1, 2, 3, 9, 4, 5, 9, 9, 6}
	got := unpackTriangle(packTriangle(h, 3), 3)
	kernel.Symmetrize(h, 3)
	for i := range h {
		if got[i] != h[i] {
			t.Fatalf("%v, want %v", got, h)
		}
	}
}

func FuzzStatsDescription(f *testing.F) {
	o := statsOptions(f)
	o.Calibration.Tokens = 256
	o.Out = filepath.Join(f.TempDir(), "whole")
	collect(f, o)
	data, err := os.ReadFile(filepath.Join(o.Out, StatsFile))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := parsePart("stats.json", data)
		if err != nil {
			if fault.KindOf(err) != fault.Input {
				t.Errorf("%v", err)
			}
			return
		}
		newStats("dir", []*statsPart{p})
	})
}
