package artifact

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"afmq/pkg/model"
)

// A matrix in blocks is one tensor whose rows have whole blocks; the message says which tensor
// breaks that, and how.
func TestStoredLayoutOfBlocks(t *testing.T) {
	dir := t.TempDir()
	config := `{"model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 8}`
	if err := os.WriteFile(filepath.Join(dir, ConfigFile), []byte(config), 0o666); err != nil {
		t.Fatal(err)
	}
	cfg, err := model.LoadConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	// stored returns the digests of an artifact whose matrices are Q4_0 and whose vectors are F16.
	stored := func() (out []TensorDigest, at int) {
		for _, spec := range cfg.Tensors() {
			form := Plain
			if len(spec.Shape) == 2 {
				form, at = Form("q4_0"), len(out)
			}
			for _, info := range StoredInfos(spec, 0, form, 4, 16, false) {
				dtype := "F16"
				if form != Plain {
					dtype = "U8"
				}
				out = append(out, TensorDigest{Name: info.Name, DType: dtype, Shape: info.Shape})
			}
		}
		return out, at
	}
	tensors, _ := stored()
	layout, err := StoredLayout(cfg, 16, tensors)
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range layout {
		if len(st.Spec.Shape) == 2 && (st.Form != "q4_0" || st.Bits != 4 || st.Bytes != st.Weights()/32*18) {
			t.Errorf("%s: %+v", st.Spec.Name, st)
		}
	}
	for _, c := range []struct {
		change func(d *TensorDigest) []TensorDigest // may return tensors to add
		want   string
	}{
		{func(d *TensorDigest) []TensorDigest { d.Shape[1]--; return nil }, "has shape"},
		{func(d *TensorDigest) []TensorDigest { d.DType = "I8"; return nil }, "is I8; expected"},
		{func(d *TensorDigest) []TensorDigest {
			d.Name = strings.Replace(d.Name, ".q4_0", ".q4_k", 1)
			return nil
		}, "multiple of 256"},
		{func(d *TensorDigest) []TensorDigest {
			d.Name = strings.Replace(d.Name, ".q4_0", ".q8_0", 1)
			return nil
		}, "has shape"},
		{func(d *TensorDigest) []TensorDigest {
			d.Name = strings.Replace(d.Name, ".q4_0", ".Q4_0", 1)
			return nil
		}, "is missing"},
		{func(d *TensorDigest) []TensorDigest {
			return []TensorDigest{{Name: strings.Replace(d.Name, ".q4_0", ".q5_0", 1), DType: "U8", Shape: d.Shape}}
		}, ".q5_0\" is not part of"},
	} {
		tensors, at := stored()
		tensors = append(tensors, c.change(&tensors[at])...)
		if _, err := StoredLayout(cfg, 16, tensors); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want one about %q", err, c.want)
		}
	}
}

func TestDifferenceOfBlocks(t *testing.T) {
	a, b := &Manifest{Plan: QuantizationRecord{Bits: 4, Grid: "gguf"}}, &Manifest{Plan: QuantizationRecord{Bits: 4, Grid: "affine"}}
	got := compareManifests(a, b)
	if len(got) != 1 || got[0] != (KeyDifference{"plan.grid", "gguf", "affine"}) {
		t.Errorf("differences %v", got)
	}
}
