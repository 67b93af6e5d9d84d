package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"afmq/internal/demo"
	"afmq/pkg/adapter"
	"afmq/pkg/artifact"
	"afmq/pkg/eval"
	"afmq/pkg/fault"
	"afmq/pkg/model"
	"afmq/pkg/safetensors"
	"afmq/pkg/sensitivity"
	"afmq/pkg/tokenizer"
)

// hostileJSON are texts of about n bytes that make a careless reader allocate much more.
func hostileJSON(n int) map[string]string {
	fill := func(prefix, unit, suffix string) string {
		return prefix + strings.TrimSuffix(strings.Repeat(unit, n/len(unit)), ",") + suffix
	}
	count := func(prefix string, each func(i int) string, suffix string) string {
		var b strings.Builder
		b.WriteString(prefix)
		for i := 0; b.Len() < n; i++ {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(each(i))
		}
		return b.String() + suffix
	}
	key := func(i int) string { return fmt.Sprintf(`"k%d":0`, i) }
	return map[string]string{
		"open brackets":    fill("", "[", ""),
		"open objects":     fill("", `{"a":`, ""),
		"nested brackets":  fill(`{"a":`, "[", ""),
		"empty arrays":     fill(`{"a":[`, "[],", "]}"),
		"empty objects":    fill(`{"a":[`, "{},", "]}"),
		"keys":             count("{", key, "}"),
		"one key":          fill("{", `"a":0,`, "}"),
		"tensors":          count("{", func(i int) string { return fmt.Sprintf(`"t%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}`, i) }, "}"),
		"dimensions":       fill(`{"t":{"dtype":"U8","shape":[`, "1,", `],"data_offsets":[0,1]}}`),
		"huge dimension":   `{"t":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,16]}}`,
		"weight map":       count(`{"weight_map":{`, func(i int) string { return fmt.Sprintf(`"t%d":"s%d"`, i, i) }, "}}"),
		"layers":           `{"model_type":"llama","hidden_size":16777216,"intermediate_size":16777216,"num_hidden_layers":4096,"num_attention_heads":16384,"head_dim":1024,"vocab_size":16777216,"rms_norm_eps":1e-6,"max_position_embeddings":1073741824,"hidden_act":"silu"}`,
		"a string":         fill(`{"a":"`, "x", `"}`),
		"escapes":          fill(`{"a":"`, `\u0000`, `"}`),
		"digits":           fill(`{"a":`, "9", "}"),
		"spaces":           fill("{", " ", "}"),
		"added tokens":     fill(`{"version":"1.0","added_tokens":[`, `{},`, `]}`),
		"vocabulary":       count(`{"model":{"type":"BPE","vocab":{`, func(i int) string { return fmt.Sprintf(`"t%d":%d`, i, i) }, `},"merges":[]}}`),
		"scattered ids":    `{"model":{"type":"BPE","vocab":{"a":0,"b":2147483647},"merges":[]}}`,
		"merges":           fill(`{"model":{"type":"BPE","vocab":{"a":0},"merges":[`, `["a","a"],`, `]}}`),
		"normalizers":      fill(`{"normalizer":{"type":"Sequence","normalizers":[`, `{"type":"NFC"},`, `]}}`),
		"manifest tensors": fill(`{"schema":"afmq.manifest/v1","tensors":[`, `{},`, `]}`),
		"plan layers":      fill(`{"schema":"afmq.plan/v1","layers":[`, `{},`, `]}`),
		"scores":           fill(`{"schema":"afmq.scores/v1","modules":[`, `{},`, `]}`),
		"patterns":         count(`{"peft_type":"LORA","r":1,"target_modules":["q_proj"],"rank_pattern":{`, func(i int) string { return fmt.Sprintf(`"k%d":1`, i) }, "}}"),
		"repetition":       `{"peft_type":"LORA","r":1,"target_modules":"((a{999}){999}){999}"}`,
	}
}

// No reader of JSON allocates more than some times the file's size, whatever it claims.
func TestMemoryOfJSON(t *testing.T) {
	dense := filepath.Join(t.TempDir(), "model")
	if err := demo.Extract(dense); err != nil {
		t.Fatal(err)
	}
	cfg, err := model.LoadConfig(dense)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(t *testing.T, name string, data ...string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(strings.Join(data, "")), 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	readers := map[string]func(path string, data []byte) error{
		"config.json":         func(path string, data []byte) error { _, err := model.ParseConfig(path, data); return err },
		"tokenizer.json":      func(path string, data []byte) error { _, err := tokenizer.Parse(path, data); return err },
		"same tokenizer":      func(string, []byte) error { return model.SameTokenizer(dir, dir) },
		"manifest.json":       func(path string, data []byte) error { _, err := artifact.ParseManifest(path, data); return err },
		"adapter_config.json": func(path string, data []byte) error { _, err := adapter.ParseConfig(path, data, cfg); return err },
		"scores.json":         func(path string, data []byte) error { _, err := sensitivity.ParseScores(path, data); return err },
		"plan.json":           func(path string, data []byte) error { _, err := sensitivity.ParsePlan(path, data); return err },
		"text.jsonl":          func(string, []byte) error { _, _, err := eval.ReadTexts(filepath.Join(dir, "text.jsonl")); return err },
		"header": func(string, []byte) error {
			f, err := safetensors.Open(filepath.Join(dir, "header.safetensors"))
			if err == nil {
				f.Close()
			}
			return err
		},
		"index": func(string, []byte) error {
			c, err := safetensors.OpenCheckpoint(dir)
			if err == nil {
				c.Close()
			}
			return err
		},
	}
	const times, base = 64, 16 << 20 // 4096 patterns, however short, take 25 MB once they are compiled
	size := 1 << 18
	if os.Getenv(crashRounds) != "" {
		size = 1 << 20
	}
	worst, worstName := 0.0, ""
	for what, text := range hostileJSON(size) {
		write(t, "tokenizer.json", text)
		write(t, "text.jsonl", text)
		write(t, "model.safetensors.index.json", text)
		write(t, "header.safetensors", string(binary.LittleEndian.AppendUint64(nil, uint64(len(text)))), text)
		runtime.GC() // what other tests left would be marked again and again
		for name, read := range readers {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := read(name, []byte(text))
			runtime.ReadMemStats(&after)
			if err != nil && fault.KindOf(err) != fault.Input {
				t.Errorf("%s as %s: %v", what, name, err)
			}
			if err != nil && len(err.Error()) > 4096 {
				t.Errorf("%s as %s: an error of %d bytes", what, name, len(err.Error()))
			}
			got := after.TotalAlloc - before.TotalAlloc
			if f := float64(got) / float64(len(text)); f > worst && len(text) > 1000 {
				worst, worstName = f, what+" as "+name
			}
			if got > times*uint64(len(text))+base {
				t.Errorf("%s as %s: %d bytes allocated for a file of %d: %v", what, name, got, len(text), err)
			}
		}
	}
	t.Logf("at most %.1f times the file's size: %s", worst, worstName)
}

// A header that claims more than there is is refused before anything is allocated for it.
func TestMemoryOfClaims(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f.safetensors")
	for _, claim := range []uint64{1 << 20, 99_999_999, 100_000_001, 1 << 40, 1<<63 - 1, 1<<64 - 8} {
		if err := os.WriteFile(path, append(binary.LittleEndian.AppendUint64(nil, claim), "{}      "...), 0o666); err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := safetensors.Open(path)
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; fault.KindOf(err) != fault.Input || got > 1<<16 {
			t.Errorf("a header of %d bytes: %d allocated, %v", claim, got, err)
		}
	}
	// A sparse file may be larger than memory.
	if err := os.Truncate(path, 1<<40); err != nil {
		t.Skip(err)
	}
	for _, read := range []func() error{
		func() error { _, err := tokenizer.Load(path); return err },
		func() error { _, _, err := eval.ReadTexts(path); return err },
		func() error { _, err := sensitivity.ReadPlan(path); return err },
		func() error { _, err := sensitivity.ReadScores(path); return err },
	} {
		if err := read(); fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), "the limit is") {
			t.Errorf("a file of 1 TB: %v", err)
		}
	}
}
