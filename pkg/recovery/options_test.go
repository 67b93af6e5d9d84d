package recovery

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"afmq/pkg/fault"
)

// TestRefuses checks that what cannot be trained says why and leaves nothing.
func TestRefuses(t *testing.T) {
	b, pool := newBench(t), newPool(t, 2)
	short := filepath.Join(t.TempDir(), "short.txt")
	if err := os.WriteFile(short, []byte("Too little."), 0o666); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "other")
	if err := os.CopyFS(other, os.DirFS(b.model)); err != nil {
		t.Fatal(err)
	}
	flipLastByte(t, filepath.Join(other, "model.safetensors"))
	for name, c := range map[string]struct {
		change func(o *Options)
		kind   fault.Kind
		part   string
	}{
		"no artifact":     {func(o *Options) { o.Artifact = b.model }, fault.Input, "is not an artifact"},
		"no directory":    {func(o *Options) { o.Artifact = "missing" }, fault.Input, "missing"},
		"another teacher": {func(o *Options) { o.Teacher = other }, fault.Input, "is not that of the checkpoint"},
		"no teacher":      {func(o *Options) { o.Teacher = "" }, fault.Usage, "needs a teacher"},
		"no weights":      {func(o *Options) { o.Teacher, o.Loss = "", LossCE }, fault.Usage, "needs the teacher's weights"},
		"short":           {func(o *Options) { o.Data = []string{short} }, fault.Input, "short.txt"},
		"twice":           {func(o *Options) { o.Data = append(o.Data, o.Data[0]) }, fault.Usage, "given twice"},
		"rank":            {func(o *Options) { o.Ranks = []int{65} }, fault.Usage, "rank 65 is more than"},
		"targets":         {func(o *Options) { o.Targets = []string{"lm_head"} }, fault.Usage, "matches no projection"},
		"pattern":         {func(o *Options) { o.Pattern = []RankPattern{{"nowhere", 3}} }, fault.Usage, "matches no adapted module"},
		"sequence":        {func(o *Options) { o.SeqLen = 1 << 20; o.BatchTokens = 1 << 20 }, fault.Usage, "max_position_embeddings"},
		"from nowhere":    {func(o *Options) { o.Ranks, o.From = nil, "nowhere" }, fault.Input, "nowhere"},
		"rate":            {func(o *Options) { o.Rate = math.NaN() }, fault.Usage, "learning rate"},
	} {
		t.Run(name, func(t *testing.T) {
			o := b.options(t)
			c.change(&o)
			_, err := runOn(bg, pool, o)
			wantFault(t, err, c.kind, c.part)
			wantNothing(t, o.Out)
		})
	}
	o := b.options(t)
	o.Teacher, o.AllowTeacher = other, true
	mustRun(t, pool, o)
}

func flipLastByte(t testing.TB, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-2] ^= 1
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
}
