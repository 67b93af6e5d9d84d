package quantize

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/gptq"
	"afmq/pkg/grid"
	"afmq/pkg/progress"
	"afmq/pkg/safetensors"
	"afmq/pkg/sensitivity"
	"afmq/pkg/shard"
)

// collectStats collects the statistics of the tiny model on text, in two shards.
func collectStats(t *testing.T, model string, files ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "stats")
	for i := range 2 {
		_, err := sensitivity.CollectStats(bg, sensitivity.StatsOptions{
			Options: sensitivity.Options{
				Model: model, Out: out, Pool: newPool(t, 2), Bits: []int{2, 4},
				Calibration: sensitivity.CalibrationOptions{Files: files, SeqLen: 64, Tokens: 4096},
			},
			Shard: shard.Shard{Index: i, Count: 2},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func shardOptions(t *testing.T) Options {
	t.Helper()
	return Options{
		Model: tinyModel, Stats: collectStats(t, tinyModel, sampled(t)), ToolVersion: "test",
		Request: &sensitivity.PlanOptions{Target: sensitivity.Target{BPW: 3}},
	}
}

// Shards, merged, have the bytes of one run from the same statistics, also if one was interrupted; and
// these compensate errors.
func TestShards(t *testing.T) {
	o := shardOptions(t)
	whole, res := run(t, newPool(t, 2), o)
	if res.Plan == nil || res.CalibrationTokens != 4096 {
		t.Errorf("%+v", res)
	}
	for _, l := range res.Layers {
		if l.Form == artifact.Palette && (l.OutputError <= 0 || l.OutputError >= 1) {
			t.Errorf("%s is not compensated: %+v", l.Name, l)
		}
	}
	if _, err := artifact.Verify(bg, whole, artifact.VerifyOptions{}); err != nil {
		t.Error(err)
	}
	for _, n := range []int{1, 3} {
		o.Out = filepath.Join(t.TempDir(), "job")
		merge := MergeOptions{Dir: o.Out, Out: filepath.Join(t.TempDir(), "merged"), ToolVersion: "test"}
		for i := n - 1; i >= 0; i-- {
			s, sh := o, shard.Shard{Index: i, Count: n}
			s.Threads = i + 1
			if i == 1 {
				ctx, cancel := context.WithCancel(bg)
				s.Progress = &hook{Reporter: progress.Silent, at: func(done int) {
					if done == 3 {
						cancel()
					}
				}}
				if _, err := RunShard(ctx, s, sh); !errors.Is(err, context.Canceled) {
					t.Fatal(err)
				}
				cancel()
				s.Progress = nil
				_, err := Merge(bg, merge)
				wantFault(t, err, fault.Input, "2 of 3 shards are missing: 0/3, 1/3")
				set, err := shard.Open(o.Out)
				if err != nil {
					t.Fatal(err)
				}
				st := set.Status()
				if st[0].State != shard.Missing || st[1].State != shard.Stopped || st[2].State != shard.Done || st[1].Pieces < 3 || st[1].Total <= st[1].Pieces || st[1].Idle == nil {
					t.Errorf("status %+v", st)
				}
			}
			r, err := RunShard(bg, s, sh)
			if err != nil {
				t.Fatal(err)
			}
			if i == 1 && r.ResumedModules == 0 {
				t.Error("the interrupted shard started again")
			}
		}
		if r, err := RunShard(bg, o, shard.Shard{Index: 0, Count: n}); err != nil || !r.Already {
			t.Errorf("a finished shard: %+v, %v", r, err)
		}
		if _, err := Merge(bg, merge); err != nil {
			t.Fatal(err)
		}
		sameContents(t, merge.Out, whole)
		wantOnly(t, merge.Out)
	}
}

// Shards that compensate every module together, a palettized embedding too, have the weights of one run, also where one was
// interrupted meanwhile.
func TestShardsTogether(t *testing.T) {
	o := Options{Model: tinyModel, Calibration: calibration(t), ToolVersion: "test", Overrides: []sensitivity.Override{{Pattern: "down_proj", Bits: 2}, {Pattern: "embed_tokens", Bits: 3}}}
	whole, _ := run(t, newPool(t, 2), o)
	const n = 3
	o.Out = filepath.Join(t.TempDir(), "job")
	merge := MergeOptions{Dir: o.Out, Out: filepath.Join(t.TempDir(), "merged"), ToolVersion: "test"}
	errs := make(chan error, n)
	for i := range n {
		go func() {
			s, sh := o, shard.Shard{Index: i, Count: n}
			s.Pool = newPool(t, 1)
			if i == 1 {
				ctx, cancel := context.WithCancel(bg)
				defer cancel()
				s.Progress = &hook{Reporter: progress.Silent, at: func(done int) {
					if done == 20 {
						cancel()
					}
				}}
				if _, err := RunShard(ctx, s, sh); !errors.Is(err, context.Canceled) {
					errs <- fmt.Errorf("interrupted: %w", err)
					return
				}
				s.Progress = nil
			}
			_, err := RunShard(bg, s, sh)
			errs <- err
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Merge(bg, merge); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(readFile(t, filepath.Join(merge.Out, artifact.WeightsFile)), readFile(t, filepath.Join(whole, artifact.WeightsFile))) {
		t.Error("other weights than those of one run")
	}
	if _, err := artifact.Verify(bg, merge.Out, artifact.VerifyOptions{}); err != nil {
		t.Error(err)
	}
}

// Parts are whole chunks, of which the last may be shorter, and large enough to be refined like the
// whole.
func TestBounds(t *testing.T) {
	for _, g := range []grid.Grid{grid.Palette{Bits: 4, GroupRows: 16}, grid.Palette{Bits: 2, GroupRows: 48}, grid.Affine{Bits: 4, Group: 64}} {
		for _, rows := range []int{1, 16, 64, 500, 1000, 1024, 2048, 3072, 8192, 14336, 14337} {
			for shards := 1; shards < 9; shards++ {
				at := bounds(g, rows, shards, false)
				group := 8
				if p, ok := g.(grid.Palette); ok {
					group = p.GroupRows
				}
				per := gptq.ChunkRows(rows, group)
				if at[0] != 0 || at[len(at)-1] != rows || len(at) > shards+1 {
					t.Fatalf("%v, %d rows in %d: %v", g, rows, shards, at)
				}
				for i := range len(at) - 1 {
					n := at[i+1] - at[i]
					if n < 1 || at[i]%per != 0 || (n >= partRows) != (rows >= partRows) {
						t.Errorf("%v, %d rows in %d: %v", g, rows, shards, at)
					}
				}
			}
		}
	}
}

// What does not belong together is refused by name.
func TestShardsRefuse(t *testing.T) {
	o := shardOptions(t)
	o.Out = filepath.Join(t.TempDir(), "job")
	first := shard.Shard{Index: 0, Count: 2}
	r, err := RunShard(bg, o, first)
	if err != nil {
		t.Fatal(err)
	}
	second := shard.Shard{Index: 1, Count: 2}
	for want, change := range map[string]func(o *Options, s *shard.Shard){
		"--bpw was 3 and is now 2.5": func(o *Options, _ *shard.Shard) {
			o.Request = &sensitivity.PlanOptions{Target: sensitivity.Target{BPW: 2.5}}
		},
		"is divided into 2 shards": func(_ *Options, s *shard.Shard) { s.Count = 3 },
		"tool_version":             func(o *Options, _ *shard.Shard) { o.ToolVersion = "other" },
		"--stats has other content": func(o *Options, _ *shard.Shard) {
			o.Stats = collectStats(t, tinyModel, textFile(t, "other.txt", strings.Repeat(other, 80)))
		},
	} {
		s, sh := o, second
		change(&s, &sh)
		_, err := RunShard(bg, s, sh)
		wantFault(t, err, fault.Input, want)
	}
	if _, err := RunShard(bg, o, second); err != nil {
		t.Fatal(err)
	}
	// A checkpoint with the same config and other weights.
	tuned := o
	tuned.Model = filepath.Join(t.TempDir(), "tuned")
	if err := os.CopyFS(tuned.Model, os.DirFS(tinyModel)); err != nil {
		t.Fatal(err)
	}
	source := readFile(t, filepath.Join(tuned.Model, artifact.WeightsFile))
	source[len(source)-1] ^= 0x80
	writeFile(t, filepath.Join(tuned.Model, artifact.WeightsFile), source)
	_, err = RunShard(bg, tuned, second)
	wantFault(t, err, fault.Input, "the statistics are of other weights")
	tuned.Stats, tuned.Request, tuned.Out = "", nil, filepath.Join(t.TempDir(), "plain")
	plain := tuned
	plain.Model = tinyModel
	if _, err := RunShard(bg, plain, first); err != nil {
		t.Fatal(err)
	}
	_, err = RunShard(bg, tuned, second)
	wantFault(t, err, fault.Input, "the checkpoint has other content")
	merge := MergeOptions{Dir: o.Out, Out: filepath.Join(t.TempDir(), "merged"), ToolVersion: "other"}
	_, err = Merge(bg, merge)
	wantFault(t, err, fault.Input, "tool_version")
	merge.ToolVersion = "test"
	description := filepath.Join(r.Path, shardFile)
	text := readFile(t, description)
	writeFile(t, description, bytes.Replace(text, []byte(`"squared_error":`), []byte(`"squared_error":1`), 1))
	_, err = Merge(bg, merge)
	wantFault(t, err, fault.Input, "does not match the digest")
	writeFile(t, description, text)
	weights := filepath.Join(r.Path, artifact.WeightsFile)
	data := readFile(t, weights)
	data[len(data)-3] ^= 1
	writeFile(t, weights, data)
	_, err = Merge(bg, merge)
	wantFault(t, err, fault.Input, "does not match shard.json")
	wantOnly(t, o.Out)
	if _, err := os.Lstat(merge.Out); err == nil {
		t.Error("a failed merge left something")
	}
	s := o
	s.Stats, s.Calibration = "", calibration(t)
	_, err = RunShard(bg, s, first)
	wantFault(t, err, fault.Usage, "need to know the bits")
	s = o
	s.Calibration = calibration(t)
	_, err = runOn(bg, newPool(t, 1), s)
	wantFault(t, err, fault.Usage, "exclude each other")
	changed := newSynthetic(safetensors.F16, true)
	s = o
	s.Model, s.Out = changed.write(t, 1), filepath.Join(t.TempDir(), "x")
	_, err = runOn(bg, newPool(t, 1), s)
	wantFault(t, err, fault.Input, "the statistics are of a model with another config.json")
}
