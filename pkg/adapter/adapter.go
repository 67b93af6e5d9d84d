package adapter

import (
	"math"
	"path/filepath"

	"afmq/internal/infile"
	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/model"
	"afmq/pkg/safetensors"
)

// Adapter is a LoRA adapter in memory.
type Adapter struct {
	Dir    string
	Config Config
	// Base is the content hash of the artifact that the adapter was trained on; empty
	// where its file does not say.
	Base string
	Data []string // hex SHA-256 of the files that it was trained on, where its file says
	// Passages are hashes of passages of its training text, where its file has them; see
	// [Adapter.Overlap].
	Passages []string
	Modules  map[string]Weights // by module: "model.layers.0.self_attn.q_proj"
	Bytes    int64              // of adapter_model.safetensors
	// TensorBytes is the size of the data of its tensors: Bytes without the file's header.
	TensorBytes int64
}

// Weights are the two matrices of one module W [out, in]. The adapter adds scale·B·A to W, with
// the scale of [Config.ScaleOf] (Hu et al. 2021, arXiv:2106.09685).
type Weights struct {
	A     []float32         // [rank, in]
	B     []float32         // [out, rank]
	DType safetensors.DType // the smallest type that represents both exactly
}

// Config is the content of adapter_config.json.
type Config struct {
	Rank   int     // of modules that are not in Ranks
	Alpha  float64 // of modules that are not in Alphas
	RSLoRA bool    // scale by alpha/√rank instead of alpha/rank (Kalajdzievski 2023, arXiv:2312.03732)
	// Modules are the adapted projections, in canonical order.
	Modules []string
	Ranks   map[string]int     // of the modules that differ from Rank
	Alphas  map[string]float64 // of the modules that differ from Alpha
}

// RankOf returns the rank of a module.
func (c *Config) RankOf(module string) int {
	if r, ok := c.Ranks[module]; ok {
		return r
	}
	return c.Rank
}

// ScaleOf returns the factor on B·A of a module.
func (c *Config) ScaleOf(module string) float32 {
	alpha, ok := c.Alphas[module]
	if !ok {
		alpha = c.Alpha
	}
	r := float64(c.RankOf(module))
	if c.RSLoRA {
		r = math.Sqrt(r)
	}
	return float32(alpha / r)
}

// Open reads the adapter in dir for the model in the directory model, and checks with
// [Adapter.CheckBase] that it was trained on it. The content hash of the model is that of its
// manifest; whether the weights match is a matter of [artifact.Verify]. Errors are of kind
// [fault.Input].
func Open(dir, model string, cfg *model.Config, allowUnbound bool) (*Adapter, error) {
	hash := ""
	if artifact.IsArtifact(model) {
		manifest, err := artifact.ReadManifest(model)
		if err != nil {
			return nil, err
		}
		hash = manifest.ContentHash
	}
	return ReadFor(dir, cfg, model, hash, allowUnbound)
}

// ReadFor is [Read] and [Adapter.CheckBase]. An adapter of another artifact whose tensors do not
// fit the config either is reported as that.
func ReadFor(dir string, cfg *model.Config, model, hash string, allowUnbound bool) (*Adapter, error) {
	a, err := Read(dir, cfg)
	if err == nil {
		return a, a.CheckBase(model, hash, allowUnbound)
	}
	if base := ReadBase(dir); base != "" && hash != "" && base != hash {
		return nil, (&Adapter{Dir: dir, Base: base}).CheckBase(model, hash, allowUnbound)
	}
	return nil, err
}

// ReadBase returns the content hash of the base that the adapter in dir names; "" without one,
// or if its file of weights cannot be opened.
func ReadBase(dir string) string {
	file, err := safetensors.Open(filepath.Join(dir, WeightsFile))
	if err != nil {
		return ""
	}
	defer file.Close()
	if base := file.Metadata()[BaseKey]; infile.IsSHA256(base) {
		return base
	}
	return ""
}

// CheckBase checks that the adapter was trained on the artifact in the directory model, whose
// content hash is hash; hash is empty for a checkpoint, which has none. If the adapter names
// no base (PEFT writes none) or the model has no hash, the two cannot be compared, which is
// an error unless allowUnbound is set. Errors are of kind [fault.Input].
func (a *Adapter) CheckBase(model, hash string, allowUnbound bool) error {
	switch {
	case a.Base != "" && hash != "" && a.Base != hash:
		return fault.Inputf(a.Dir, "was trained on another artifact: its base has content hash %.16s…, that of %s is %.16s…", a.Base, model, hash).
			WithHint("run it with its own base (`afmq inspect` prints content hashes), or train one for this: afmq recover %s", model)
	case a.Base == "" && !allowUnbound:
		return fault.Inputf(a.Dir, "does not name the artifact that it was trained on").
			WithHint("give --allow-unbound if you know that %s is its base", model)
	case hash == "" && !allowUnbound:
		return fault.Inputf(a.Dir, "was trained on the artifact with content hash %.16s…, and %s is a plain checkpoint", a.Base, model).
			WithHint("give --allow-unbound if you know that it holds the same weights")
	}
	return nil
}
