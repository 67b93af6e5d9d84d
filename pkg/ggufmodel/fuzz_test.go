package ggufmodel_test

import (
	"os"
	"path/filepath"
	"testing"

	"afmq/pkg/fault"
	"afmq/pkg/ggufmodel"
	"afmq/pkg/model"
)

// Whatever a file has: it is refused with an error about it, or its config and its tensors agree
// and every row and the tokenizer can be read.
func FuzzOpen(f *testing.F) {
	for _, change := range []func(*file){
		func(*file) {},
		(*file).sentencePiece,
		func(x *file) { x.add("output.weight", 260, 8); x.factors("rope_freqs.weight", 1, 5) },
		func(x *file) { x.scaling("yarn", 4) },
	} {
		x := base()
		change(x)
		data, err := os.ReadFile(x.write(f))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "m.gguf")
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
		m, err := ggufmodel.Open(path)
		if err != nil {
			mustBeInput(t, err)
			return
		}
		defer m.Close()
		if len(m.Tensors) != len(m.Config.Tensors()) {
			t.Fatalf("%d tensors", len(m.Tensors))
		}
		for i := range m.Tensors {
			x := &m.Tensors[i]
			if x.Spec.Role == model.Norm || x.Spec.Role == model.Bias {
				if v, err := x.Vector(); err != nil || len(v) != x.Spec.Shape[0] {
					t.Fatalf("%s: %v", x.Name(), err)
				}
				continue
			}
			row := make([]byte, x.Stored.RowBytes())
			for r := range x.Spec.Shape[0] {
				if err := x.ReadRows(row, r); err != nil {
					t.Fatalf("%s: %v", x.Name(), err)
				}
			}
		}
		tok, err := m.Tokenizer()
		if err != nil {
			mustBeInput(t, err)
			return
		}
		for _, id := range tok.Encode("the <s> é\n", true).IDs {
			if id < 0 || int(id) >= m.Config.VocabSize {
				t.Fatalf("id %d of %d", id, m.Config.VocabSize)
			}
		}
	})
}

func mustBeInput(t *testing.T, err error) {
	t.Helper()
	if fault.KindOf(err) != fault.Input {
		t.Fatalf("%v is of kind %v", err, fault.KindOf(err))
	}
}
