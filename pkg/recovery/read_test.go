package recovery

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"afmq/pkg/fault"
)

// TestReadBack holds what is read of a run's directory to what the run returned.
func TestReadBack(t *testing.T) {
	b := newBench(t)
	o := b.options(t)
	o.Ranks = []int{2, 5}
	o.Pattern = []RankPattern{{"q_proj", 3}}
	want := mustRun(t, newPool(t, 2), o)
	got, err := ReadRecord(o.Out)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got.Adapters, want.Adapters) || got.Steps != want.Steps || got.ValidationTokens != want.ValidationTokens {
		t.Errorf("read back\n%+v, the run returned\n%+v", got, want.Record)
	}
	if hash, err := got.Artifact(); err != nil || len(hash) != 64 {
		t.Errorf("the artifact is %q, %v", hash, err)
	}
	metrics, err := ReadMetrics(o.Out)
	if err != nil {
		t.Fatal(err)
	}
	looks, last := 0, map[int]float64{}
	for _, m := range metrics {
		if m.KL != nil {
			looks++
			last[m.Rank] = *m.KL
		}
	}
	if looks < 4 || last[2] == 0 || last[5] == 0 {
		t.Errorf("%d looks at the held-out text, the last of each rank %v", looks, last)
	}
	for _, a := range want.Adapters {
		if last[a.Rank] < *a.KLAfter {
			t.Errorf("rank %d ends at %v, better than the best, %v", a.Rank, last[a.Rank], *a.KLAfter)
		}
	}
}

const aRecord = `{"schema":"afmq.recovery/v1","job":{"artifact":"ab","rank_pattern":[{"Pattern":"q","Rank":3}]},"adapters":[{"rank":2,"path":"rank-2","last":"rank-2-last","bytes":9,"params":4,"tokens":64,"step":1,"bpw_with_adapter":4.5,"kl_before":0.2,"kl_init":0.15,"kl_after":0.1,"recovered":0.5,"perplexity_before":30,"perplexity_init":29,"perplexity_after":28,"perplexity_teacher":27,"test":{"kl_before":0.3,"kl_after":0.2,"recovered":0.33,"perplexity_before":31,"perplexity_after":30,"perplexity_teacher":29}}],"steps":2,"step_tokens":32,"train_tokens":640,"validation_tokens":100}`

func TestWrongRecords(t *testing.T) {
	if _, err := ParseRecord("r", []byte(aRecord)); err != nil {
		t.Fatal(err)
	}
	former := regexp.MustCompile(`,"test":\{.*?\}`).ReplaceAllString(aRecord, "")
	if r, err := ParseRecord("r", []byte(former)); err != nil || r.Adapters[0].Test != nil {
		t.Fatalf("a record of a former version: %v", err)
	}
	for _, c := range []struct{ old, new, want string }{
		{"recovery/v1", "recovery/v9", "schema"},
		{`"artifact":"ab",`, ``, "names no artifact"},
		{`"steps":2`, `"steps":0`, "0 steps"},
		{`"step":1`, `"step":3`, "impossible size or step"},
		{`"rank":2`, `"rank":0`, "rank 0"},
		{`"kl_after":0.1`, `"kl_after":-0.1`, "divergence of -0.1"},
		{`"kl_after":0.1`, `"kl_after":null`, "only some"},
		{`"perplexity_after":28`, `"perplexity_after":0.5`, "perplexity of 0.5"},
		{`"bpw_with_adapter":4.5`, `"bpw_with_adapter":-1`, "bits per weight"},
		{`"kl_after":0.2`, `"kl_after":null`, "test: has only some"},
		{`"perplexity_after":30`, `"perplexity_after":0`, "test: a perplexity of 0"},
		{`"validation_tokens":100`, `"validation_tokens":100,"test_tokens":-1`, "-1 of test text"},
		{`"bytes":9`, `"bytes":1e99`, "not the record"},
		{`"bytes":9`, `"colour":9`, "unknown field"},
		{`"validation_tokens":100}`, `"validation_tokens":100} {}`, "trailing data"},
		{aRecord, ``, "not the record"},
		{aRecord, `{"schema":"afmq.recovery/v1","adapters":[]}`, "no adapters"},
	} {
		_, err := ParseRecord("r.json", []byte(strings.Replace(aRecord, c.old, c.new, 1)))
		if err == nil || fault.KindOf(err) != fault.Input || !strings.HasPrefix(err.Error(), "r.json: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s for %s: %v, expected %q", c.new, c.old, err, c.want)
		}
	}
}

func TestWrongMetrics(t *testing.T) {
	const good = `{"step":1,"tokens":64,"rank":2,"loss":0.5,"rate":0.001,"gradient_norm":1}` + "\n"
	if m, err := ParseMetrics("m", []byte(good+good)); err != nil || len(m) != 2 {
		t.Fatal(m, err)
	}
	for text, want := range map[string]string{
		"":            "no lines",
		"\n":          "line 1",
		good + "oops": "line 2",
		good + strings.Replace(good, `"step":1`, `"step":0`, 1):        "line 2: rank 2, step 0 after 1",
		strings.Replace(good, `"rank":2`, `"rank":-2`, 1):              "line 1: rank -2",
		`{"step":1,"tokens":64,"rank":2}`:                              "neither a loss",
		`{"step":1,"tokens":64,"rank":2,"validation_kl":-1}`:           "impossible",
		`{"step":1,"tokens":64,"rank":2,"validation_perplexity":0.5}`:  "impossible",
		`{"step":1,"tokens":64,"rank":2,"loss":1,"colour":1}`:          "unknown field",
		`{"step":1,"tokens":64,"rank":2,"loss":1e999}`:                 "line 1",
		good + `{"step":1,"tokens":64,"rank":2,"loss":1}{"step":1}`:    "line 2: has trailing data",
		"{\"step\":1,\"tokens\":64,\"rank\":2,\"loss\":1,\"x\xff\":1}": "UTF-8",
	} {
		_, err := ParseMetrics("m.jsonl", []byte(text))
		if err == nil || fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, expected %q", text, err, want)
		}
	}
	if _, err := ReadMetrics(t.TempDir()); fault.KindOf(err) != fault.Input {
		t.Errorf("a missing file: %v", err)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, RecordFile), 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadRecord(dir); fault.KindOf(err) != fault.Input {
		t.Errorf("a directory for a file: %v", err)
	}
}

// FuzzRecord and FuzzMetrics check that a changed file is refused as input, or is one that
// the reader's own checks accept again.
func FuzzRecord(f *testing.F) {
	f.Add([]byte(aRecord))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseRecord("r", data)
		if err == nil {
			err = r.check()
		}
		if err != nil && fault.KindOf(err) != fault.Input {
			t.Fatal(err)
		}
	})
}

func FuzzMetrics(f *testing.F) {
	f.Add([]byte(`{"step":1,"tokens":64,"rank":2,"loss":0.5}` + "\n" + `{"step":1,"tokens":64,"rank":2,"validation_kl":0.1,"validation_perplexity":9}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		metrics, err := ParseMetrics("m", data)
		if err != nil && fault.KindOf(err) != fault.Input {
			t.Fatal(err)
		}
		for _, m := range metrics {
			if m.Rank < 1 || m.KL != nil && !(*m.KL >= 0) {
				t.Fatalf("%+v", m)
			}
		}
	})
}
