package quantize

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/progress"
	"afmq/pkg/safetensors"
	"afmq/pkg/sensitivity"
)

// hook is a progress reporter that calls at with the number of finished tensors, after each
// tensor of the stage of quantizing.
type hook struct {
	progress.Reporter
	in bool
	n  int
	at func(n int)
}

func (h *hook) Stage(s progress.Stage) { h.in = s.Name == StageQuantize }
func (h *hook) Saved(string) {
	if h.in {
		h.n++
		h.at(h.n)
	}
}

func stateDir(out string) string {
	return filepath.Join(filepath.Dir(out), "."+filepath.Base(out)+".afmq")
}

// interrupt cancels a run after n tensors and checks that only the saved state is left.
func interrupt(t *testing.T, opts Options, n int) {
	t.Helper()
	ctx, cancel := context.WithCancel(bg)
	defer cancel()
	opts.ToolVersion = "test"
	opts.Progress = &hook{Reporter: progress.Silent, at: func(k int) {
		if k == n {
			cancel()
		}
	}}
	_, err := runOn(ctx, newPool(t, 2), opts)
	if !errors.Is(err, context.Canceled) || fault.KindOf(err) != fault.Unexpected {
		t.Fatalf("cancelled after %d: %v", n, err)
	}
	if _, err := os.Stat(opts.Out); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("cancelled after %d: the target exists (%v)", n, err)
	}
	if _, err := os.Stat(stateDir(opts.Out)); err != nil {
		t.Fatalf("cancelled after %d: no state is left: %v", n, err)
	}
}

func smallModel(t *testing.T) (opts Options, want string, tensors int) {
	s := newSynthetic(safetensors.BF16, true)
	s.tie("lm_head.weight", "model.embed_tokens.weight")
	opts = Options{Model: s.write(t, 2), Overrides: []sensitivity.Override{{Pattern: "v_proj", Bits: 16}}, NoRowScale: true}
	want, _ = run(t, newPool(t, 2), opts)
	return opts, want, len(s.tensors) - 1
}

// After an interruption at any tensor, the same call gives the bytes of an uninterrupted run.
func TestResumeAfterInterruption(t *testing.T) {
	opts, want, tensors := smallModel(t)
	for n := 1; n < tensors; n++ {
		opts.Out = filepath.Join(t.TempDir(), "out")
		interrupt(t, opts, n)
		_, res := run(t, newPool(t, 2), opts)
		if res.ResumedModules < n {
			t.Errorf("interrupted after %d: %d kept", n, res.ResumedModules)
		}
		sameContents(t, opts.Out, want)
		wantOnly(t, opts.Out)
	}
}

// The same for a run that was killed: it resumes from its files as they were at each tensor.
func TestResumeAfterCrash(t *testing.T) {
	opts, want, tensors := smallModel(t)
	snapshots := make([]string, 0, tensors)
	first := opts
	first.Out, first.ToolVersion = filepath.Join(t.TempDir(), "out"), "test"
	first.Progress = &hook{Reporter: progress.Silent, at: func(int) {
		parent := t.TempDir()
		copyTree(t, stateDir(first.Out), stateDir(filepath.Join(parent, "out")))
		snapshots = append(snapshots, parent)
	}}
	if _, err := runOn(bg, newPool(t, 2), first); err != nil {
		t.Fatal(err)
	}
	if len(snapshots) != tensors {
		t.Fatalf("%d snapshots of %d tensors", len(snapshots), tensors)
	}
	for _, parent := range snapshots {
		opts.Out = filepath.Join(parent, "out")
		run(t, newPool(t, 2), opts)
		sameContents(t, opts.Out, want)
		wantOnly(t, opts.Out)
	}
}

// Saved state is verified: whatever its damage, the result is the same.
func TestResumeFromDamagedState(t *testing.T) {
	opts, want, _ := smallModel(t)
	partial := func(out string) string {
		found := ""
		filepath.WalkDir(stateDir(out), func(path string, d os.DirEntry, err error) error {
			if err == nil && path == safetensors.StagedPath(filepath.Join(filepath.Dir(path), artifact.WeightsFile)) {
				found = path
			}
			return nil
		})
		if found == "" {
			t.Fatal("no staged file")
		}
		return found
	}
	flip := func(at float64) func(t *testing.T, out string) {
		return func(t *testing.T, out string) {
			data := readFile(t, partial(out))
			data[int(at*float64(len(data)-1))] ^= 0x10
			writeFile(t, partial(out), data)
		}
	}
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, out string)
	}{
		{"flipped in the header", flip(0.001)},
		{"flipped in the embedding", flip(0.5)},
		{"flipped at the end", flip(1)},
		{"truncated", func(t *testing.T, out string) {
			if err := os.Truncate(partial(out), int64(len(readFile(t, partial(out)))-100)); err != nil {
				t.Fatal(err)
			}
		}},
		{"truncated in the header", func(t *testing.T, out string) {
			if err := os.Truncate(partial(out), 20); err != nil {
				t.Fatal(err)
			}
		}},
		{"closed", func(t *testing.T, out string) { // the file has its final name
			name := partial(out)
			if err := os.Rename(name, filepath.Join(filepath.Dir(name), artifact.WeightsFile)); err != nil {
				t.Fatal(err)
			}
		}},
		{"weights gone", func(t *testing.T, out string) {
			if err := os.Remove(partial(out)); err != nil {
				t.Fatal(err)
			}
		}},
		{"more bytes", func(t *testing.T, out string) {
			writeFile(t, partial(out), append(readFile(t, partial(out)), 1, 2, 3))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			opts.Out = filepath.Join(t.TempDir(), "out")
			interrupt(t, opts, 7)
			c.damage(t, opts.Out)
			run(t, newPool(t, 2), opts)
			sameContents(t, opts.Out, want)
		})
	}
}

func TestResumeRefusesAnotherJob(t *testing.T) {
	opts, want, _ := smallModel(t)
	opts.Out = filepath.Join(t.TempDir(), "out")
	interrupt(t, opts, 5)

	other := opts
	other.Bits, other.ToolVersion = 2, "test"
	_, err := runOn(bg, newPool(t, 2), other)
	wantFault(t, err, fault.Input, "bits")
	other = opts
	other.ToolVersion = "test2"
	_, err = runOn(bg, newPool(t, 2), other)
	wantFault(t, err, fault.Input, "tool_version")

	// The refusals have not changed the state.
	kept := opts
	_, res := run(t, newPool(t, 2), kept)
	if res.ResumedModules < 5 {
		t.Errorf("%d kept after the refusals", res.ResumedModules)
	}
	sameContents(t, opts.Out, want)

	// Restart discards it.
	other = opts
	other.Out = filepath.Join(t.TempDir(), "out")
	interrupt(t, other, 5)
	other.Bits, other.Restart = 2, true
	_, res = run(t, newPool(t, 2), other)
	if res.ResumedModules != 0 {
		t.Errorf("%d kept despite restart", res.ResumedModules)
	}
}

// A changed source is detected by its bytes, not only by its header.
func TestResumeRefusesAnotherSource(t *testing.T) {
	s := newSynthetic(safetensors.F16, false)
	opts := Options{Model: s.write(t, 1), Out: filepath.Join(t.TempDir(), "out"), NoRowScale: true}
	interrupt(t, opts, 5)
	path := filepath.Join(opts.Model, "model.safetensors")
	good := readFile(t, path)
	s.tensor("model.layers.0.input_layernorm.weight").data[0] ^= 1
	changed := filepath.Join(s.write(t, 1), "model.safetensors")
	copyTo(t, changed, path)
	opts.ToolVersion = "test"
	_, err := runOn(bg, newPool(t, 2), opts)
	wantFault(t, err, fault.Input, "model.layers.0.input_layernorm.weight", "changed")
	writeFile(t, path, good)
	if _, res := run(t, newPool(t, 2), opts); res.ResumedModules < 5 {
		t.Errorf("%d kept: the refusal discarded the state", res.ResumedModules)
	}
}

// An input error in a resumed run leaves nothing.
func TestInputErrorDiscardsState(t *testing.T) {
	s := newSynthetic(safetensors.F32, false)
	copy(s.tensor("lm_head.weight").data, []byte{0, 0, 0xc0, 0x7f})
	parent := t.TempDir()
	opts := Options{Model: s.write(t, 1), Out: filepath.Join(parent, "out"), NoRowScale: true}
	interrupt(t, opts, 5)
	opts.ToolVersion = "test"
	_, err := runOn(bg, newPool(t, 2), opts)
	wantFault(t, err, fault.Input, "lm_head.weight")
	wantEmpty(t, parent)
}

// Every figure of a record reaches the manifest, so a record that was changed in any way is
// not used: the run computes the item again.
func TestResumeRejectsEditedRecords(t *testing.T) {
	opts, want, _ := smallModel(t)
	replace := func(pattern, with string) func(string) string {
		return func(line string) string { return regexp.MustCompile(pattern).ReplaceAllString(line, with) }
	}
	const edited = 4 // a projection, so that its figures are in the manifest
	for name, edit := range map[string]func(line string) string{
		"squared error":   replace(`"squared_error":[^,}]+`, `"squared_error":0`),
		"squared norm":    replace(`"squared_norm":[^,}]+`, `"squared_norm":1`),
		"added error":     replace(`"squared_error"`, `"output_error":0.5,"squared_error"`),
		"added warning":   replace(`"squared_error"`, `"warning":"edited","squared_error"`),
		"second key":      replace(`}$`, `,"SQUARED_ERROR":0}`),
		"without digest":  replace(`,"digest":"[0-9a-f]+"`, ``),
		"of another item": replace(`"item":4`, `"item":3`),
		"torn":            func(line string) string { return line[:len(line)/2] },
	} {
		t.Run(name, func(t *testing.T) {
			opts.Out = filepath.Join(t.TempDir(), "out")
			interrupt(t, opts, 7)
			journal := filepath.Join(stateDir(opts.Out), "journal.jsonl")
			lines := strings.Split(string(readFile(t, journal)), "\n")
			changed := edit(lines[edited])
			if changed == lines[edited] {
				t.Fatalf("the edit changes nothing: %s", changed)
			}
			lines[edited] = changed
			writeFile(t, journal, []byte(strings.Join(lines, "\n")))
			_, res := run(t, newPool(t, 2), opts)
			sameContents(t, opts.Out, want)
			if res.ResumedModules > edited {
				t.Errorf("%d items kept, the record of item %d was edited", res.ResumedModules, edited)
			}
		})
	}
}

// Records of another job are not used, not even under this job's identity.
func TestResumeRejectsForeignRecords(t *testing.T) {
	opts, want, _ := smallModel(t)
	opts.Out = filepath.Join(t.TempDir(), "out")
	interrupt(t, opts, 7)
	other := opts
	other.Out = filepath.Join(t.TempDir(), "out")
	other.Overrides = nil
	interrupt(t, other, 7)
	copyTo(t, filepath.Join(stateDir(other.Out), "journal.jsonl"), filepath.Join(stateDir(opts.Out), "journal.jsonl"))
	_, res := run(t, newPool(t, 2), opts)
	sameContents(t, opts.Out, want)
	if res.ResumedModules != 0 {
		t.Errorf("%d items kept from another job", res.ResumedModules)
	}
}

// After a record was rejected, the records that the resumed run appends count again.
func TestResumeTwiceAfterEdit(t *testing.T) {
	opts, want, tensors := smallModel(t)
	opts.Out = filepath.Join(t.TempDir(), "out")
	interrupt(t, opts, 9)
	journal := filepath.Join(stateDir(opts.Out), "journal.jsonl")
	writeFile(t, journal, bytes.Replace(readFile(t, journal), []byte(`"squared_norm":`), []byte(`"squared_norm":1`), 1))
	interrupt(t, opts, tensors-2)
	_, res := run(t, newPool(t, 2), opts)
	sameContents(t, opts.Out, want)
	if res.ResumedModules < tensors-2 {
		t.Errorf("%d items kept of %d", res.ResumedModules, tensors-2)
	}
}
