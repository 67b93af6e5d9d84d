//go:build linux || darwin

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"afmq/pkg/safetensors"
)

// copyTree copies a directory of plain files.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(to, func(p string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			err = os.Chmod(p, 0o644)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// adapterOf trains a small adapter of the artifact, once.
func adapterOf(t *testing.T, dir string) string {
	t.Helper()
	sharedMutex.Lock()
	defer sharedMutex.Unlock()
	path := filepath.Join(dir, "adapters", "rank-2")
	if _, err := os.Stat(path); err != nil {
		mustExecute(t, dir, "recover", "artifact", "--teacher", "model", "--data", "text.jsonl", "--out", "adapters", "--rank", "2", "--tokens", "128",
			"--seq-len", "16", "--batch-tokens", "64", "--validation-tokens", "100", "--init", "zero", "--init-tokens", "64", "--quiet")
	}
	return path
}

// reading is a command that reads INPUT, a copy of from, in which file is put out of
// place; file is empty where from is the file.
type reading struct {
	from  string
	files []string
	args  []string
}

func readings(adapter string) []reading {
	model := []string{"config.json", "tokenizer.json", "generation_config.json", "model.safetensors"}
	artifact := []string{"manifest.json", "manifest.sha256", "config.json", "tokenizer.json", "model.safetensors"}
	return []reading{
		{"model", model, []string{"quantize", "INPUT", "--out", "OUT"}},
		{"model", model, []string{"sensitivity", "INPUT", "--calib", "text.jsonl", "--seq-len", "32", "--tokens", "64", "--out", "OUT"}},
		{"model", model, []string{"eval-perplexity", "INPUT", "--data", "text.jsonl", "--ctx", "64"}},
		{"model", model[1:2], []string{"eval-perplexity", "model", "--reference", "INPUT", "--data", "text.jsonl", "--ctx", "64"}},
		{"artifact", artifact, []string{"verify", "INPUT"}},
		{"artifact", artifact, []string{"dequantize", "INPUT", "--out", "OUT"}},
		{"artifact", artifact, []string{"export", "INPUT", "--to", "coreml", "--out", "OUT"}},
		{"artifact", artifact, []string{"export", "INPUT", "--to", "coreai", "--skip-compile", "--out", "OUT"}},
		{"artifact", artifact, []string{"export", "INPUT", "--to", "gguf", "--as", "f16", "--out", "OUT"}},
		{"artifact", artifact, []string{"export", "INPUT", "--to", "mlx", "--as", "f16", "--out", "OUT"}},
		{"artifact", artifact, []string{"export", "INPUT", "--to", "compressed-tensors", "--as", "f16", "--out", "OUT"}},
		{"artifact", artifact[2:], []string{"generate", "INPUT", "--prompt", "x", "--max-tokens", "1"}},
		{"artifact", artifact, []string{"recover", "INPUT", "--teacher", "model", "--data", "text.jsonl", "--out", "OUT", "--tokens", "128", "--seq-len", "16"}},
		{"artifact", artifact, []string{"tune", "INPUT", "--teacher", "model", "--data", "text.jsonl", "--out", "OUT", "--tokens", "128", "--seq-len", "16"}},
		{"model", model[:2], []string{"recover", "artifact", "--teacher", "INPUT", "--data", "text.jsonl", "--out", "OUT", "--tokens", "128", "--seq-len", "16"}},
		{adapter, []string{"adapter_config.json", "adapter_model.safetensors"}, []string{"generate", "artifact", "--adapter", "INPUT", "--prompt", "x"}},
		{adapter, []string{"adapter_config.json", "adapter_model.safetensors"}, []string{"dequantize", "artifact", "--adapter", "INPUT", "--out", "OUT"}},
		{"text.jsonl", []string{""}, []string{"eval-perplexity", "model", "--data", "INPUT", "--ctx", "64"}},
		{"text.jsonl", []string{""}, []string{"quantize", "model", "--calib", "INPUT", "--out", "OUT"}},
		{"text.jsonl", []string{""}, []string{"recover", "artifact", "--teacher", "model", "--data", "INPUT", "--out", "OUT", "--tokens", "128", "--seq-len", "16"}},
		{"scores.json", []string{""}, []string{"plan", "INPUT", "--bpw", "3.3", "--out", "OUT"}},
		{"plan.json", []string{""}, []string{"quantize", "model", "--plan", "INPUT", "--out", "OUT"}},
	}
}

// A file that is not one, for every file that every command reads: exit 3 in one line that
// names it, at once and with nothing left behind. A pipe that nobody writes would hold a
// reader for ever, SIGTERM or not.
func TestNoFile(t *testing.T) {
	t.Parallel()
	dir := workplace(t)
	adapter := adapterOf(t, dir)
	if _, err := os.Stat(filepath.Join(dir, "plan.json")); err != nil {
		mustExecute(t, dir, "plan", "scores.json", "--bpw", "3.3", "--out", "plan.json")
	}
	kinds := []string{"pipe", "directory", "device", "loop", "dangling"}
	places := map[string]func(path string) error{
		"pipe":      func(path string) error { return syscall.Mkfifo(path, 0o666) },
		"directory": func(path string) error { return os.Mkdir(path, 0o777) },
		"device":    func(path string) error { return os.Symlink("/dev/zero", path) },
		"loop":      func(path string) error { return os.Symlink(filepath.Base(path), path) },
		"dangling":  func(path string) error { return os.Symlink("nowhere", path) },
	}
	turn := 0
	for _, rd := range readings(adapter) {
		from := rd.from
		if !filepath.IsAbs(from) {
			from = filepath.Join(dir, from)
		}
		for _, file := range rd.files {
			turn++
			for k, kind := range kinds {
				if os.Getenv(crashRounds) == "" && k > 0 && turn%4 != k-1 {
					continue // a pipe everywhere, and one of the others in turn
				}
				parent := t.TempDir()
				input, out := filepath.Join(parent, "input"+filepath.Ext(rd.from)), filepath.Join(parent, "out")
				path := filepath.Join(input, file)
				if file != "" {
					copyTree(t, from, input)
					if err := os.Remove(path); err != nil {
						t.Fatal(err)
					}
				}
				if err := places[kind](path); err != nil {
					t.Fatal(err)
				}
				args := slices.Clone(rd.args)
				for i, a := range args {
					args[i] = strings.ReplaceAll(strings.ReplaceAll(a, "INPUT", input), "OUT", out)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				res := collect(program(ctx, dir, append(args, "--quiet")...))()
				cancel()
				if res.code != 3 || !strings.Contains(res.stderr, file) {
					t.Errorf("%s for %s in %v: exit code %d (%v): %s", kind, file, rd.args, res.code, res.err, res.stderr)
				}
				oneLine(t, res)
				onlyHolds(t, parent, filepath.Base(input))
			}
		}
	}
}

// asHubCache turns a directory into what the caches of model hubs look like: every file a
// link to a blob with a hash for a name. It returns the directory of the links.
func asHubCache(t *testing.T, from string) string {
	t.Helper()
	root := t.TempDir()
	blobs, links := filepath.Join(root, "blobs"), filepath.Join(root, "snapshots", "0123abcd")
	for _, d := range []string{blobs, links} {
		if err := os.MkdirAll(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range entries {
		data, err := os.ReadFile(filepath.Join(from, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		blob := fmt.Sprintf("%064x", i+1)
		if err := os.WriteFile(filepath.Join(blobs, blob), data, 0o444); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join("..", "..", "blobs", blob), filepath.Join(links, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return links
}

// weightShard divides the model.safetensors of a directory into files with an index.
func weightShard(t *testing.T, dir string) {
	t.Helper()
	whole := filepath.Join(dir, "model.safetensors")
	f, err := safetensors.Open(whole)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const shards = 3
	where := map[string]string{}
	for k := range shards {
		name := fmt.Sprintf("model-%05d-of-%05d.safetensors", k+1, shards)
		var infos []safetensors.Info
		for i, n := range f.Names() {
			if x, _ := f.Tensor(n); i%shards == k {
				infos = append(infos, safetensors.Info{Name: n, DType: x.DType, Shape: x.Shape})
				where[n] = name
			}
		}
		w, err := safetensors.Create(filepath.Join(dir, name), infos, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, info := range infos {
			x, _ := f.Tensor(info.Name)
			if err := w.Write(info.Name, x.Bytes()); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	text, err := json.Marshal(map[string]any{"weight_map": where})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(whole+".index.json", text, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(whole); err != nil {
		t.Fatal(err)
	}
}

// Checkpoints, sharded too, artifacts, adapters, plans and texts may all be links, as in
// the cache of a hub, and give the same bytes as plain files.
func TestHubCache(t *testing.T) {
	t.Parallel()
	dir := workplace(t)
	u := reference(t, dir, jobs[0])
	sharded := filepath.Join(t.TempDir(), "sharded")
	copyTree(t, filepath.Join(dir, "model"), sharded)
	weightShard(t, sharded)
	for name, model := range map[string]string{
		"one file": asHubCache(t, filepath.Join(dir, "model")), "shards": asHubCache(t, sharded),
	} {
		out := filepath.Join(t.TempDir(), "q")
		mustExecute(t, dir, "quantize", model, "--out", out, "--quiet")
		if d := sameFiles(snapshot(t, out), u.whole); d != "" {
			t.Errorf("%s: other bytes: %s", name, d)
		}
		mustExecute(t, dir, "inspect", model)
		mustExecute(t, dir, "eval-perplexity", model, "--data", "text.jsonl", "--ctx", "64", "--reference", "model", "--max-kl", "1", "--quiet")
	}
	artifact, adapter := asHubCache(t, filepath.Join(dir, "artifact")), asHubCache(t, adapterOf(t, dir))
	mustExecute(t, dir, "verify", artifact)
	mustExecute(t, dir, "generate", artifact, "--adapter", adapter, "--prompt", "x", "--max-tokens", "1")
	mustExecute(t, dir, "dequantize", artifact, "--adapter", adapter, "--out", filepath.Join(t.TempDir(), "d"))
	links := t.TempDir()
	for _, name := range []string{"scores.json", "text.jsonl"} {
		if err := os.Symlink(filepath.Join(dir, name), filepath.Join(links, name)); err != nil {
			t.Fatal(err)
		}
	}
	mustExecute(t, links, "plan", "scores.json", "--bpw", "3.3", "--out", "made.json")
	if err := os.Symlink("made.json", filepath.Join(links, "plan.json")); err != nil {
		t.Fatal(err)
	}
	mustExecute(t, links, "quantize", sharded, "--plan", "plan.json", "--calib", "text.jsonl", "--seq-len", "32", "--tokens", "64", "--out", "q", "--quiet")
}

// A file that is cut, or written to, while a run reads it, at any moment: exit 3 and no
// result, or the result of the file as it was before or, where the run had not opened it
// yet, as it is since. Never a crash, never a mixture.
func TestFileChanges(t *testing.T) {
	t.Parallel()
	dir := workplace(t)
	damages := map[string]func(path string, size int64) error{
		"cut to nothing": func(path string, _ int64) error { return os.Truncate(path, 0) },
		"cut in half":    func(path string, size int64) error { return os.Truncate(path, size/2) },
		"cut by a byte":  func(path string, size int64) error { return os.Truncate(path, size-1) },
		"written to": func(path string, size int64) error {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteAt(make([]byte, size/2), size/2)
			return err
		},
	}
	names := []string{"cut to nothing", "cut in half", "cut by a byte", "written to"}
	for _, j := range jobs {
		input := map[string]string{"quantize": "model", "compensated": "model", "sensitivity": "model", "recover": "artifact", "tune": "artifact", "dequantize": "artifact"}[j.name]
		if input == "" {
			continue // reads one small file at once
		}
		u := reference(t, dir, j)
		n, r := rounds(t, 4)
		refused, late := 0, 0
		for i := range n {
			parent := t.TempDir()
			changed := filepath.Join(parent, "input")
			copyTree(t, filepath.Join(dir, input), changed)
			path := filepath.Join(changed, "model.safetensors")
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			args := j.to(filepath.Join(parent, "t"))
			args[slices.Index(args, input)] = changed
			wait, ended := start(program(t.Context(), dir, args...))
			select {
			case <-time.After(time.Duration(float64(u.takes) * math.Pow(r.Float64(), 3))): // most is read early
			case <-ended:
			}
			damage := names[i%len(names)]
			if err := damages[damage](path, info.Size()); err != nil {
				t.Fatal(err)
			}
			switch res := wait(); res.code {
			case 0:
				got := snapshot(t, filepath.Join(parent, "t"))
				d := sameFiles(got, u.whole)
				if d != "" && damage == "written to" {
					late++
					args[slices.Index(args, filepath.Join(parent, "t"))] = filepath.Join(parent, "since")
					mustExecute(t, dir, args...)
					d = sameFiles(got, snapshot(t, filepath.Join(parent, "since")))
				}
				if d != "" {
					t.Errorf("%s, %s: neither the result of the file before nor since: %s", j.name, damage, d)
				}
			case 3:
				refused++
				oneLine(t, res)
				if !strings.Contains(res.stderr, changed) {
					t.Errorf("%s, %s: the file is not named: %s", j.name, damage, res.stderr)
				}
				if _, err := os.Lstat(filepath.Join(parent, "t")); err == nil {
					t.Errorf("%s, %s: refused, and the result is there", j.name, damage)
				}
			default:
				t.Errorf("%s, %s: exit code %d: %s", j.name, damage, res.code, res.stderr)
			}
		}
		t.Logf("%s: refused %d times, opened after the change %d times", j.name, refused, late)
	}
}

// Tensors without elements are read like others: where the model has a place for them they
// have the wrong shape, a file of no tokens gives none, and what is ignored may be empty.
func TestNothingInIt(t *testing.T) {
	t.Parallel()
	dir := workplace(t)
	write := func(path string, tensors map[string][]int, dtype safetensors.DType) {
		t.Helper()
		var infos []safetensors.Info
		for name, shape := range tensors {
			infos = append(infos, safetensors.Info{Name: name, DType: dtype, Shape: shape})
		}
		w, err := safetensors.Create(path, infos, nil)
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	adapter := filepath.Join(t.TempDir(), "adapter")
	copyTree(t, adapterOf(t, dir), adapter)
	write(filepath.Join(adapter, "adapter_model.safetensors"), map[string][]int{"base_model.model.model.layers.0.mlp.up_proj.lora_A.weight": {0, 128}}, safetensors.F16)
	tokens := filepath.Join(t.TempDir(), "tokens.safetensors")
	write(tokens, map[string][]int{"tokens": {0}}, safetensors.U16)
	model := filepath.Join(t.TempDir(), "model")
	copyTree(t, filepath.Join(dir, "model"), model)
	write(filepath.Join(model, "model.safetensors"), map[string][]int{"model.embed_tokens.weight": {0, 128}, "model.norm.weight": {0}}, safetensors.F16)
	out := filepath.Join(t.TempDir(), "out")
	for _, args := range [][]string{
		{"generate", "artifact", "--adapter", adapter, "--prompt", "x"},
		{"recover", "artifact", "--teacher", "model", "--data", tokens, "--tokens", "128", "--seq-len", "16", "--out", out},
		{"quantize", model, "--out", out},
		{"eval-perplexity", model, "--data", "text.jsonl"},
		{"sensitivity", model, "--method", "weight", "--out", out},
	} {
		res := execute(t, dir, args...)
		if res.code != 3 {
			t.Errorf("%v: exit code %d: %s", args, res.code, res.stderr)
		}
		oneLine(t, res)
	}
	if res := execute(t, dir, "inspect", model); res.code != 0 && res.code != 3 {
		t.Errorf("inspect: exit code %d: %s", res.code, res.stderr)
	}
}
