package quantize

import (
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"afmq/pkg/artifact"
	"afmq/pkg/model"
	"afmq/pkg/safetensors"
	"afmq/pkg/sensitivity"
)

// letters is a tokenizer of few tokens, which the fixtures of pkg/infer have none of.
const letters = `{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,
"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true},
"post_processor":null,"decoder":{"type":"ByteLevel"},
"model":{"type":"BPE","vocab":{"a":3,"b":4,"c":5,"d":6,"e":7,"f":8},"merges":[]}}`

// Every mechanism of a family goes through compensation and back: the artifact is near the checkpoint,
// and the engine computes what it computes with the dequantized tensors, which are those of the
// checkpoint by name and shape.
func TestFamilies(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	text := make([]byte, 700)
	for i := range text {
		text[i] = 'a' + byte(rng.IntN(6))
	}
	ids := []int32{3, 8, 5, 5, 6, 4, 7, 3, 3, 8, 6, 7}
	for _, name := range []string{"smollm3-window", "granite-biases", "olmo2-bf16", "olmo3-yarn", "gemma2-untied-f16", "gemma3-rope-parameters", "phi3-bf16", "phi4-mini-tied"} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "model")
			copyTree(t, filepath.Join("../infer/testdata/models", name), dir)
			writeFile(t, filepath.Join(dir, "tokenizer.json"), []byte(letters))
			q, _ := run(t, newPool(t, 2), Options{
				Model: dir, Bits: 8, Compensate: artifact.GPTQ,
				Calibration: sensitivity.CalibrationOptions{Files: []string{textFile(t, "calib.txt", string(text))}, SeqLen: 32, Tokens: 512},
			})
			if _, _, err := artifact.OpenVerified(bg, q, artifact.VerifyOptions{}); err != nil {
				t.Fatal(err)
			}
			dense := filepath.Join(t.TempDir(), "dense")
			if _, err := Dequantize(bg, DequantizeOptions{Artifact: q, Out: dense, DType: safetensors.F32}); err != nil {
				t.Fatal(err)
			}
			cfg, err := model.LoadConfig(dense)
			if err != nil {
				t.Fatal(err)
			}
			stored, names := openTensors(t, dense), []string{}
			for _, s := range cfg.Tensors() {
				names = append(names, s.Name)
				if _, ok := stored[s.Name]; !ok {
					t.Errorf("%s is missing in the dequantized checkpoint", s.Name)
				}
			}
			if len(stored) != len(names) {
				t.Errorf("%d tensors, expected %d", len(stored), len(names))
			}
			want, got, back := logits(t, dir, ids), logits(t, q, ids), logits(t, dense, ids)
			size := math.Sqrt(dotOf(want, want) / float64(len(want)))
			for what, d := range map[string]struct {
				v     []float32
				limit float64
			}{"artifact": {got, 0.05}, "dequantized checkpoint": {back, 0.05}} {
				e := slices.Clone(d.v)
				for i := range e {
					e[i] -= want[i]
				}
				if rms := math.Sqrt(dotOf(e, e)/float64(len(e))) / size; !(rms < d.limit) {
					t.Errorf("the %s is %v from the checkpoint, relative", what, rms)
				}
			}
			for i := range back {
				if e := math.Abs(float64(back[i] - got[i])); !(e < 0.002*size) {
					t.Fatalf("logit %d of the artifact is %v, dequantized %v", i, got[i], back[i])
				}
			}
		})
	}
}

func dotOf(a, b []float32) (sum float64) {
	for i, x := range a {
		sum += float64(x) * float64(b[i])
	}
	return sum
}
