package recovery

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"afmq/pkg/adapter"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/model"
	"afmq/pkg/safetensors"
)

// fuzzFile gives read files like the seed: it refuses them as input, or accepts what they
// hold after checking it.
func fuzzFile(f *testing.F, seeds []string, read func(t *testing.T, path string) error) {
	for _, path := range seeds {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(dir, "fuzz.safetensors")
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
		if err := read(t, path); err != nil && fault.KindOf(err) != fault.Input {
			t.Fatal(err)
		}
	})
}

// FuzzTokens checks that a file of tokens is refused or gives ids of the vocabulary.
func FuzzTokens(f *testing.F) {
	var seeds []string
	for _, dtype := range []safetensors.DType{safetensors.U16, safetensors.I32} {
		path := filepath.Join(f.TempDir(), "t.safetensors")
		writeTokens(f, path, dtype, []int32{3, 0, 99})
		seeds = append(seeds, path)
	}
	fuzzFile(f, seeds, func(t *testing.T, path string) error {
		ids, err := readTokens(path, 100)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if id < 0 || id >= 100 {
				t.Fatalf("token %d", id)
			}
		}
		return nil
	})
}

// FuzzState checks that a saved state that somebody changed is refused, or is one.
func FuzzState(f *testing.F) {
	cfg := &model.Config{HiddenSize: 4, IntermediateSize: 4, Layers: 1, Heads: 1, KVHeads: 1, HeadDim: 4, VocabSize: 8}
	pool := compute.NewPool(1)
	f.Cleanup(pool.Close)
	fresh := func() *trainer {
		config := &adapter.Config{Rank: 1, Alpha: 1, Modules: []string{"model.layers.0.mlp.up_proj"}}
		return &trainer{students: []learner{newStudent(pool, cfg, config)}, trainingState: trainingState{Best: make([]best, 1)}, steps: 5}
	}
	infos, values := fresh().stateTensors()
	path := filepath.Join(f.TempDir(), "s.safetensors")
	w, err := safetensors.Create(path, infos, map[string]string{stateKey: `{"step":3,"best":[{"step":2}],"initial":[{}]}`})
	if err != nil {
		f.Fatal(err)
	}
	for range values {
		if err := w.Append(make([]byte, 4*8)); err != nil {
			f.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		f.Fatal(err)
	}
	fuzzFile(f, []string{path}, func(t *testing.T, path string) error {
		tr := fresh()
		if _, _, err := tr.readState(path); err != nil {
			return err
		}
		if tr.Step < 0 || tr.Step > 5 || len(tr.Best) != 1 || len(tr.Best[0].weights) != 8 || len(tr.students[0].state().weights) != 8 {
			t.Fatalf("%+v", tr.trainingState)
		}
		return nil
	})
}

// FuzzJournalMetrics checks that a journal that somebody changed is refused, or gives
// metrics that can be written again.
func FuzzJournalMetrics(f *testing.F) {
	f.Add([]byte(`{"from":0,"to":0,"metrics":null}`), []byte(`{"from":0,"to":3,"metrics":[{"step":1},{"step":3}]}`), int64(3))
	f.Add([]byte(`{"from":0,"to":3,"metrics":[{"step":2}]}`), []byte(`{"from":1,"to":3,"metrics":[{"step":3}]}`), int64(3))
	f.Add([]byte(`{"from":-5,"to":-9}`), []byte(`[]`), int64(-9))
	f.Fuzz(func(t *testing.T, a, b []byte, step int64) {
		metrics, err := journalMetrics("f", []json.RawMessage{a, b}, step)
		if err != nil {
			if fault.KindOf(err) != fault.Input {
				t.Fatal(err)
			}
			return
		}
		if _, err := json.Marshal(metrics); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzRankPattern checks that a pattern is refused as usage, or means what it says.
func FuzzRankPattern(f *testing.F) {
	for _, s := range []string{"down_proj=32", "a=b=4", "(=1", "x= 3", "=", "((a{999}){999}){999}=1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParseRankPattern(s)
		if err != nil {
			if fault.KindOf(err) != fault.Usage || strings.Contains(err.Error(), "\n") {
				t.Fatal(err)
			}
			return
		}
		if p.Rank < 1 || !strings.HasPrefix(s, p.Pattern+"=") {
			t.Fatalf("%q became %+v", s, p)
		}
	})
}
