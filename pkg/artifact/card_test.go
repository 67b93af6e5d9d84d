package artifact

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func writeCard(t *testing.T, dir, text string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, CardFile), []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}

// TestCard makes the card of an artifact from that of the checkpoint, and that of a tuned one from the card
// before.
func TestCard(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "models--Org--My-Model", "snapshots", "abc")
	writeCard(t, dir, "---\r\nlicense: other\r\nlicense_name: \"my-license\"\r\nlicense_link: https://example.org/x\r\nbase_model: Org/Base\r\ntags:\r\n- x\r\n---\r\nlicense: mit\r\n")
	source := CheckpointCard(dir)
	if want := (CardSource{"Org/My-Model", "other", "my-license", "https://example.org/x"}); source != want {
		t.Fatalf("%+v", source)
	}
	m := &Manifest{
		ToolVersion: "1.2", Arithmetic: "f32", ContentHash: "beef", BPW: BitsPerWeight{Projections: 3.4999, Model: 4.5},
		Calibration: &CalibrationRecord{Tokens: 4096, SeqLen: 256},
		Plan: QuantizationRecord{
			GroupRows: 16, RowScale: true, Compensation: "loss",
			Choice:  &ChoiceRecord{By: ByTarget, BPW: 3.5, Of: OfModel, Widths: []int{2, 4}, Method: "fisher", Overrides: []string{"it's=4"}},
			Modules: []ModuleRecord{{Form: Palette, Bits: 2}, {Form: Palette, Bits: 4}, {Form: Palette, Bits: 4}, {Form: RowInt8}},
		},
		Files: []FileDigest{{Name: WeightsFile, Bytes: 2048}},
	}
	card := string(m.Card(source))
	for _, want := range []string{
		"---\nbase_model: Org/My-Model\nlicense: other\nlicense_name: my-license\nlicense_link: https://example.org/x\nbase_model_relation: quantized\nlibrary_name: afmq\n",
		"# My-Model in 3.5 bits per weight\n",
		`afmq quantize MODEL --out ARTIFACT --bpw 3.5 --bpw-of model --bits 2,4 --method fisher --override 'it'\''s=4' --group-rows 16 --row-scale=true --calib FILE --tokens 4096 --seq-len 256 --seed 0 --compensate loss` + "\n",
		"| size of model.safetensors | 2.00 KiB |", "| matrices | 1 × int8_row, 1 × palette of 2 bits, 2 × palette of 4 bits |", "`beef`",
	} {
		if !strings.Contains(card, want) {
			t.Errorf("no %q in\n%s", want, card)
		}
	}
	tuned := t.TempDir()
	writeCard(t, tuned, card)
	if again := ArtifactCard(tuned); again != source {
		t.Errorf("read again: %+v", again)
	}
	// Nothing of a card that is none, or of values that are not plain, goes further.
	for _, text := range []string{"", "license: mit\n", "---\nlicense:\n- mit\n---\n", "---\nlicense: mit\\nbase_model: x\n---\n", "---\nlicense: [mit]\n", "---\nlicense: \"a\": b\n", strings.Repeat("x", maxCard+1)} {
		writeCard(t, tuned, text)
		if c := ArtifactCard(tuned); c != (CardSource{}) {
			t.Errorf("%.40q: %+v", text, c)
		}
	}
	if c := CheckpointCard(filepath.Join(root, "none")); c != (CardSource{}) {
		t.Errorf("no directory: %+v", c)
	}
}

func TestAccessories(t *testing.T) {
	for name, want := range map[string]bool{
		"README.md": true, "readme.txt": true, "LICENSE": true, "LICENSE-2.0.txt": true, "NOTICE": true, "USE_POLICY.md": true, ".gitattributes": true, ".cache": true, "figures.PNG": true,
		"model-00001-of-00002.safetensors": false, "pytorch_model.bin": false, "adapter_config.json": false, ".extra": false, "licenses.json.py": false, "config.json.png.json": false, "noticed": false,
	} {
		if got := accessories.MatchString(name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
