package sensitivity

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/progress"
)

// stopAfter cancels after n units are saved.
type stopAfter struct {
	progress.Reporter
	n      int
	cancel context.CancelFunc
}

func (s *stopAfter) Saved(string) {
	if s.n--; s.n == 0 {
		s.cancel()
	}
}

// TestScoresResume: the file does not depend on the number of threads or on interruptions.
func TestScoresResume(t *testing.T) {
	for _, method := range []Method{Fisher, KL, Hessian, Weight} {
		o := options(t, method, 2, 8)
		o.Calibration.Tokens, o.Calibration.SeqLen = 256, 64
		units := 28
		if method == Fisher {
			units = 4                                              // layers
			o.Calibration.Tokens, o.Calibration.SeqLen = 2560, 512 // two batches
			o.Calibration.Files = []string{textFile(t, "long.txt", strings.Repeat(story, 5))}
			o.Samples = 2
		}
		want, err := score(t, 1, o).Encode()
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{1, units / 2} {
			out := filepath.Join(t.TempDir(), "scores.json")
			ctx, cancel := context.WithCancel(bg)
			stopped := o
			stopped.Progress, stopped.Out, stopped.Threads = &stopAfter{progress.Silent, n, cancel}, out, 3
			_, err := Score(ctx, stopped)
			cancel()
			if !errors.Is(err, context.Canceled) {
				t.Fatalf("%s, stopped after %d: %v", method, n, err)
			}
			resumed := o
			resumed.Out, resumed.Threads = out, 2
			r, err := Score(bg, resumed)
			if err != nil {
				t.Fatal(err)
			}
			if r.ResumedUnits != n {
				t.Errorf("%s: %d units taken over, want %d", method, r.ResumedUnits, n)
			}
			got, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != string(want) {
				t.Errorf("%s, stopped after %d: other scores", method, n)
			}
			if entries, _ := os.ReadDir(filepath.Dir(out)); len(entries) != 1 {
				t.Errorf("%s: %d files are left", method, len(entries))
			}
		}
	}
}

// interrupt runs the job until n units of work are done, and returns the path of its journal.
func interrupt(t *testing.T, o Options, n int) string {
	t.Helper()
	ctx, cancel := context.WithCancel(bg)
	defer cancel()
	o.Progress = &stopAfter{progress.Silent, n, cancel}
	if _, err := Score(ctx, o); !errors.Is(err, context.Canceled) {
		t.Fatalf("stopped after %d units: %v", n, err)
	}
	return filepath.Join(filepath.Dir(o.Out), "."+filepath.Base(o.Out)+".afmq", "journal.jsonl")
}

// TestEditedJournal: whatever is changed in the record of a finished unit, the unit is
// computed again and the scores are those of an uninterrupted run.
func TestEditedJournal(t *testing.T) {
	o := options(t, Weight, 2)
	want, err := score(t, 2, o).Encode()
	if err != nil {
		t.Fatal(err)
	}
	const finished = 5
	for name, edit := range map[string]func(lines []string) []string{
		"a cost is zero": func(lines []string) []string {
			at := strings.Index(lines[2], `"cost":`) + len(`"cost":`)
			end := at + strings.IndexAny(lines[2][at:], ",}")
			lines[2] = lines[2][:at] + "0" + lines[2][end:]
			return lines
		},
		"another unit": func(lines []string) []string {
			lines[2] = strings.Replace(lines[2], `"unit":2`, `"unit":20`, 1)
			return lines
		},
		"another module": func(lines []string) []string {
			lines[2] = strings.Replace(lines[2], `"module":2`, `"module":7`, 1)
			return lines
		},
		"a second key": func(lines []string) []string {
			lines[2] = strings.Replace(lines[2], `{"score":{`, `{"score":{"unit":2,`, 1)
			return lines
		},
		"no digest": func(lines []string) []string {
			lines[2] = lines[2][:strings.Index(lines[2], `,"sha256"`)] + "}"
			return lines
		},
		"the digest of another record": func(lines []string) []string {
			mine, other := strings.Index(lines[2], `,"sha256"`), strings.Index(lines[3], `,"sha256"`)
			lines[2] = lines[2][:mine] + lines[3][other:]
			return lines
		},
		"a torn record": func(lines []string) []string {
			return append(lines[:finished-1], lines[finished-1][:20])
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := o
			o.Out = filepath.Join(t.TempDir(), "scores.json")
			journal := interrupt(t, o, finished)
			data, err := os.ReadFile(journal)
			if err != nil {
				t.Fatal(err)
			}
			edited := strings.Join(edit(strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")), "\n") + "\n"
			if edited == string(data) {
				t.Fatal("the edit changes nothing")
			}
			if err := os.WriteFile(journal, []byte(edited), 0o644); err != nil {
				t.Fatal(err)
			}
			r, err := Score(bg, o)
			if err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(o.Out)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != string(want) || r.ResumedUnits != finished-1 {
				t.Errorf("%d units were resumed, want %d; same scores: %v", r.ResumedUnits, finished-1, string(got) == string(want))
			}
		})
	}
}

// lines is a journal in memory.
type lines struct{ records []json.RawMessage }

func (l *lines) Records() []json.RawMessage { return l.records }
func (l *lines) Append(v any) error {
	data, err := json.Marshal(v)
	l.records = append(l.records, data)
	return err
}

// TestCallersJournal: a caller with its own journal, checkpoint and text gets the same
// scores, resumed from the records that are intact and of the same job.
func TestCallersJournal(t *testing.T) {
	o := options(t, Hessian, 2, 8)
	o.Calibration.Tokens = 128
	want := score(t, 2, o)
	src, err := artifact.OpenSource(bg, o.Model)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	journal := &lines{}
	o.Source, o.Journal = src, journal
	if o.Text, err = ReadCalibration(o.Calibration, src.Tokenizer, src.Config); err != nil {
		t.Fatal(err)
	}
	o.Calibration = CalibrationOptions{}
	run := func(o Options, resumed int) {
		t.Helper()
		r, err := Score(bg, o)
		if err != nil {
			t.Fatal(err)
		}
		if o.GroupRows == 0 && !reflect.DeepEqual(r.Scores, want) || r.ResumedUnits != resumed {
			t.Errorf("%d units were resumed, want %d", r.ResumedUnits, resumed)
		}
	}
	run(o, 0)
	run(o, 28)
	edited := strings.Replace(string(journal.records[3]), `"cost":`, `"cost":1`, 1)
	journal.records[3] = json.RawMessage(edited)
	run(o, 27)
	other := o
	other.GroupRows = 8
	run(other, 0)
	o.Out = filepath.Join(t.TempDir(), "scores.json")
	_, err = Score(bg, o)
	wantFault(t, err, fault.Usage, "journal")
}

// copyModel copies the tiny model, to be changed.
func copyModel(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
	if err := os.CopyFS(dir, os.DirFS(tinyModel)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestResumeNeedsTheSameJob: if one thing that the scores depend on changes, the state of
// the interrupted run is refused and kept, and the original job still resumes from it.
func TestResumeNeedsTheSameJob(t *testing.T) {
	edit := func(o *Options, file string, change func(data []byte) []byte) {
		path := filepath.Join(o.Model, file)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, change(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	changes := map[string]struct {
		key    string // that the error names
		change func(o *Options)
	}{
		"method":          {"--method was hessian and is now fisher", func(o *Options) { o.Method = Fisher }},
		"bits":            {"--bits was [2,8] and is now [2,3]", func(o *Options) { o.Bits = []int{2, 3} }},
		"group rows":      {"--group-rows was 16 and is now 8", func(o *Options) { o.GroupRows = 8 }},
		"row scale":       {"--row-scale", func(o *Options) { o.NoRowScale = true }},
		"samples":         {"--samples was 1 and is now 2", func(o *Options) { o.Samples = 2 }},
		"validate":        {"--validate was 0 and is now 3", func(o *Options) { o.Validate = 3 }},
		"compute":         {"--compute was f32 and is now bf16", func(o *Options) { o.Compute = compute.BF16 }},
		"tool version":    {"tool_version", func(o *Options) { o.ToolVersion = "another" }},
		"seed":            {"--seed was 0 and is now 1", func(o *Options) { o.Calibration.Seed = 1 }},
		"tokens":          {"--tokens was 128 and is now 192", func(o *Options) { o.Calibration.Tokens = 192 }},
		"sequence length": {"--seq-len", func(o *Options) { o.Calibration.SeqLen = 32 }},
		"text":            {"the text of --calib has other content", func(o *Options) { o.Calibration.Files = []string{textFile(t, "other.txt", "Once. "+story)} }},
		// The same tokens, from a file with other bytes.
		"form of the text": {"the text of --calib has other content", func(o *Options) {
			o.Calibration.Files = []string{textFile(t, "other.txt", story+"The end of it all.")}
			o.Calibration.Tokens = 1 << 20
		}},
		"tokenizer": {"tokenizer", func(o *Options) {
			edit(o, "tokenizer.json", func(data []byte) []byte { return append(data, '\n') })
		}},
		"config": {"config", func(o *Options) {
			edit(o, "config.json", func(data []byte) []byte { return append(data, '\n') })
		}},
		"weights": {"the checkpoint has other content", func(o *Options) {
			edit(o, "model.safetensors", func(data []byte) []byte { data[len(data)-1] ^= 1; return data })
		}},
	}
	for _, name := range slices.Sorted(maps.Keys(changes)) {
		c := changes[name]
		t.Run(name, func(t *testing.T) {
			o := options(t, Hessian, 2, 8)
			o.Calibration.Tokens, o.Model = 128, copyModel(t)
			if name == "form of the text" {
				o.Calibration.Tokens = 1 << 20 // all whole sequences, whose tokens do not change
			}
			o.Out = filepath.Join(t.TempDir(), "scores.json")
			changed := o
			journal := interrupt(t, o, 3)
			before, err := os.ReadFile(journal)
			if err != nil {
				t.Fatal(err)
			}
			c.change(&changed)
			_, err = Score(bg, changed)
			wantFault(t, err, fault.Input, "another job", c.key)
			after, err := os.ReadFile(journal)
			if err != nil || string(after) != string(before) {
				t.Errorf("the state has changed (%v)", err)
			}
			if _, err := os.Stat(o.Out); err == nil {
				t.Error("scores were written")
			}
		})
	}
}

// TestResumeOnOtherKernels: the vector kernels and plain Go give different last digits, so
// that state of one is not resumed with the other. The second run is another process.
func TestResumeOnOtherKernels(t *testing.T) {
	const key = "AFMQ_TEST_RESUME"
	o := options(t, Hessian, 2)
	o.Calibration.Tokens = 128
	if dir := os.Getenv(key); dir != "" {
		o.Calibration.Files, o.Out = []string{filepath.Join(dir, "story.txt")}, filepath.Join(dir, "scores.json")
		_, err := Score(bg, o)
		wantFault(t, err, fault.Input, "another job", "kernels")
		return
	}
	if compute.Level() == "generic" {
		t.Skip("this machine has no vector kernels")
	}
	dir := filepath.Dir(o.Calibration.Files[0])
	o.Out = filepath.Join(dir, "scores.json")
	interrupt(t, o, 2)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	other := exec.Command(exe, "-test.run=^TestResumeOnOtherKernels$")
	other.Env = append(os.Environ(), key+"="+dir, "AFMQ_CPU=generic")
	if out, err := other.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if r, err := Score(bg, o); err != nil || r.ResumedUnits != 2 {
		t.Errorf("%+v, %v", r, err)
	}
}

// The scores do not depend on the memory: hidden states in files, and options scored one after another,
// give the same bytes, and leave no file.
func TestScoresIndependentOfMemory(t *testing.T) {
	for _, o := range []Options{options(t, Fisher, 4, 6, 8), options(t, KL, 2), options(t, Hessian, 4)} {
		o.Calibration.Tokens, o.Samples = 256, 2
		want, err := score(t, 2, o).Encode()
		if err != nil {
			t.Fatal(err)
		}
		o.Memory, o.Scratch = 1, t.TempDir()
		got, err := score(t, 2, o).Encode()
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("%s: other scores with little memory", o.Method)
		}
		if left, err := os.ReadDir(o.Scratch); err != nil || len(left) > 0 {
			t.Errorf("%s: files are left: %v, %v", o.Method, left, err)
		}
	}
}
