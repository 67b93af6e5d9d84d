package recovery

import (
	"os"
	"path/filepath"
	"testing"

	"afmq/pkg/adapter"
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/eval"
	"afmq/pkg/fault"
	"afmq/pkg/infer"
)

// TestFrom starts an application's adapter from a recovery adapter, without a teacher.
func TestFrom(t *testing.T) {
	b, pool := newBench(t), newPool(t, 2)
	o := b.options(t)
	o.Alpha, o.Pattern, o.Targets, o.RSLoRA = 3, []RankPattern{{"down_proj", 3}}, []string{"mlp"}, true
	mustRun(t, pool, o)
	from := filepath.Join(o.Out, "rank-2")
	n := b.options(t)
	n.Ranks, n.From, n.Loss, n.Teacher, n.SeqLen = nil, from, LossCE, "", 32
	// Other text than that of the first training.
	n.Data = []string{filepath.Join(t.TempDir(), "other.jsonl")}
	if err := os.WriteFile(n.Data[0], otherText(t, pool, b), 0o666); err != nil {
		t.Fatal(err)
	}
	r := mustRun(t, pool, n)
	a := r.Adapters[0]
	if a.KLBefore != nil || a.Rank != 2 || a.PerplexityInit == a.PerplexityBefore {
		t.Errorf("%+v", a)
	}
	old, next := contents(t, from), contents(t, filepath.Join(n.Out, a.Last))
	if old[adapter.ConfigFile] != next[adapter.ConfigFile] {
		t.Errorf("the configuration changed:\n%s\n%s", old[adapter.ConfigFile], next[adapter.ConfigFile])
	}
	if old[adapter.WeightsFile] == next[adapter.WeightsFile] {
		t.Error("nothing was trained")
	}
	// The adapter of both trainings knows the text of both.
	m, err := infer.Open(bg, b.artifact, infer.OpenOptions{Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	child, err := adapter.Open(filepath.Join(n.Out, a.Path), b.artifact, m.Config, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{b.text, n.Data[0]} { // in sequences of 16 and of 32 tokens
		c, err := eval.ReadCorpus(file, m.Tokenizer, m.Config.Separator())
		if err != nil {
			t.Fatal(err)
		}
		if x := child.Overlap(c.SHA256, c.IDs); !x.SameFile || x.Passages < 10 {
			t.Errorf("%s: %+v", file, x)
		}
	}
	wrong := n
	wrong.Out, wrong.Ranks = filepath.Join(t.TempDir(), "out"), []int{4}
	_, err = runOn(bg, pool, wrong)
	wantFault(t, err, fault.Usage)
	wantNothing(t, wrong.Out)
}

// otherText returns documents that the demo model writes, others than those of the bench.
func otherText(t *testing.T, pool *compute.Pool, b bench) []byte {
	t.Helper()
	m, err := infer.Open(bg, b.model, infer.OpenOptions{Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	text, err := sampledText(m, pool, 99)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Text that the adapter was trained on before is not held out, whatever the seed draws.
func TestFromHoldsOutUnknownText(t *testing.T) {
	b, pool := newBench(t), newPool(t, 2)
	o := b.options(t)
	mustRun(t, pool, o)
	m, err := infer.Open(bg, b.artifact, infer.OpenOptions{Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	parent, err := adapter.Open(filepath.Join(o.Out, "rank-2"), b.artifact, m.Config, false)
	if err != nil {
		t.Fatal(err)
	}
	known := 0
	for seed := range int64(4) {
		o := b.options(t)
		o.Seed = seed + 1
		if err := o.check(); err != nil {
			t.Fatal(err)
		}
		for _, from := range []*adapter.Adapter{nil, parent} {
			d, err := readData(bg, pool, &o, m.Tokenizer, m.Config, (&run{manifest: &artifact.Manifest{}, from: from}).known())
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for _, held := range [][][]int32{d.validation, d.test} {
				var stream []int32
				for _, sequence := range held {
					stream = append(stream, sequence[:len(sequence)-1]...) // the next one begins with the last
				}
				n += parent.Overlap("", stream).Passages
			}
			if from != nil && n > 0 {
				t.Errorf("seed %d: %d passages of the first training are held out", o.Seed, n)
			}
			if from == nil {
				known += n
			}
		}
	}
	if known == 0 {
		t.Error("the seeds draw no known text; the test shows nothing")
	}
}
