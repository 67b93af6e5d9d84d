package model

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"afmq/internal/infile"
)

// Config is the content of a config.json, with the defaults of the model family.
type Config struct {
	ModelType        string // one of [Families]
	HiddenSize       int    // d
	IntermediateSize int    // of the feed-forward network
	Layers           int
	Heads            int // query heads
	KVHeads          int // key and value heads; divides Heads
	HeadDim          int // even
	VocabSize        int // rows of the embedding
	MaxPositions     int
	RMSNormEps       float64
	TieEmbeddings    bool // the head is the embedding
	Fused            bool // q, k and v are one matrix, and so are gate and up
	Norms            NormPlacement
	QKNorm           bool // RMSNorm over each head of q and k, before the rotation
	QKNormAll        bool // QKNorm is over all heads of q at once, and over all of k
	QKVBias          bool
	OBias            bool
	MLPBias          bool
	Rope             Rope
	SlidingRope      *Rope   // of the layers that Sliding marks; nil if they have Rope
	NormOffset       float64 // added to the stored weights of norms
	GELU             bool    // the gate is GELU in its tanh form, not SiLU
	Scales           Scales
	NoRope           []bool // [layers] without rotary embedding; nil if all layers have it
	// SlidingWindow is how many positions a token attends to in the layers that Sliding
	// marks, including its own: position i attends to j if i - SlidingWindow < j <= i. It is
	// 0 if no layer has a window.
	SlidingWindow int
	Sliding       []bool  // [layers]; nil if every layer attends to all earlier positions
	BOS           []int32 // at most one
	EOS           []int32 // of config.json, then further ones of generation_config.json
	Quantization  *Quantization
}

// NormPlacement says where the norms of a layer are.
type NormPlacement uint8

const (
	PreNorm      NormPlacement = iota // before attention and before feed-forward
	PostNorm                          // after attention and after feed-forward, before their sum with the hidden states
	SandwichNorm                      // before and after
)

// Quantization is the quantization_config of an artifact.
type Quantization struct {
	Version   int
	Bits      int            // of an index, for modules that are not in Modules
	GroupRows int            // rows that share a look-up table
	Modules   map[string]int // bits of the modules that differ, by name
}

// LoadConfig reads dir/config.json and, if it exists, the end-of-sequence tokens of
// dir/generation_config.json. Errors are of kind [fault.Input].
func LoadConfig(dir string) (*Config, error) {
	path := filepath.Join(dir, "config.json")
	data, err := ReadConfigFile(dir)
	if err != nil {
		return nil, err
	}
	c, err := ParseConfig(path, data)
	if err != nil {
		return nil, err
	}
	path = filepath.Join(dir, "generation_config.json")
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return c, nil // Lstat, so that a dangling link is an error below
	}
	if data, err = infile.Read(path, MaxConfigBytes); err != nil {
		return nil, err
	}
	f, err := parseFields(path, "", data)
	if err != nil {
		return nil, err
	}
	for _, id := range f.ids("eos_token_id", c.VocabSize) {
		if !slices.Contains(c.EOS, id) {
			c.EOS = append(c.EOS, id)
		}
	}
	return c, f.err
}

// Bounds far beyond any model, so that no product of sizes overflows.
const (
	maxLayers = 4096
	maxHeads  = 1 << 14
	maxExtent = 1 << 24
	maxLength = 1 << 30
)

// ParseConfig parses a config.json. It refuses what the engine does not compute: an unsupported
// model_type, a mixture of experts, an unknown type of rotary embedding, a layer type other than
// full and sliding attention, another activation than the family's, and weights that another tool
// quantized. Errors are of kind [fault.Input]; they name file and the key.
func ParseConfig(file string, data []byte) (*Config, error) {
	f, err := parseFields(file, "", data)
	if err != nil {
		return nil, err
	}
	c := &Config{ModelType: f.string("model_type", "")}
	if f.err != nil {
		return nil, f.err
	}
	if c.ModelType == "" {
		return nil, f.errorf("model_type", "is missing")
	}
	if err := refuseExperts(f, c.ModelType); err != nil {
		return nil, err
	}
	fam, ok := families[c.ModelType]
	if !ok {
		return nil, unknownFamily(file, c.ModelType)
	}
	if err := c.readSizes(f, fam); err != nil {
		return nil, err
	}
	bias := f.bool("attention_bias", false) && fam.attnBias
	c.QKVBias, c.OBias = fam.qkvBias || bias, bias
	c.Fused = fam.fused
	c.Norms, c.QKNorm, c.QKNormAll = fam.norms, fam.qkNorm, fam.qkNormAll
	c.MLPBias = fam.mlpBias && f.bool("mlp_bias", false)
	c.TieEmbeddings = f.bool("tie_word_embeddings", fam.tied)
	c.BOS, c.EOS = f.ids("bos_token_id", c.VocabSize), f.ids("eos_token_id", c.VocabSize)
	if len(c.BOS) > 1 {
		f.fail("bos_token_id", "names %d tokens; expected one", len(c.BOS))
	}
	c.NormOffset, c.GELU = fam.normOffset, fam.gelu
	c.Scales = readScales(f, fam, c)
	if fam.noRope {
		c.readNoRope(f)
	}
	c.readWindow(f, fam)
	c.readRopes(f, fam)
	refuseUnsupported(f, fam, c)
	c.Quantization = readQuantization(f)
	if f.err != nil {
		return nil, f.err
	}
	return c, nil
}

// readSizes reads the sizes of the model and checks that they are consistent.
func (c *Config) readSizes(f *fields, fam family) error {
	c.HiddenSize = f.int("hidden_size", need, 1, maxExtent)
	c.IntermediateSize = f.int("intermediate_size", need, 1, maxExtent)
	c.Layers = f.int("num_hidden_layers", need, 1, maxLayers)
	c.Heads = f.int("num_attention_heads", need, 1, maxHeads)
	c.VocabSize = f.int("vocab_size", need, 1, maxExtent)
	c.MaxPositions = f.int("max_position_embeddings", fam.positions, 1, maxLength)
	c.RMSNormEps = f.float("rms_norm_eps", fam.epsilon())
	if f.err != nil {
		return f.err
	}
	kv := fam.kvHeads
	if kv == 0 || f.isNull("num_key_value_heads") {
		kv = c.Heads
	}
	c.KVHeads = f.int("num_key_value_heads", kv, 1, maxHeads)
	dim := fam.headDim
	if dim == 0 && !f.has("head_dim") {
		if c.HiddenSize%c.Heads != 0 {
			return f.errorf("hidden_size", "is %d, which is not a multiple of num_attention_heads, %d", c.HiddenSize, c.Heads)
		}
		dim = c.HiddenSize / c.Heads
	}
	c.HeadDim = f.int("head_dim", dim, 1, maxHeads)
	switch {
	case f.err != nil:
	case c.Heads%c.KVHeads != 0:
		f.fail("num_attention_heads", "is %d, which is not a multiple of num_key_value_heads, %d", c.Heads, c.KVHeads)
	case c.HeadDim%2 != 0:
		f.fail("head_dim", "is %d; the rotary embedding needs an even number", c.HeadDim)
	case c.RMSNormEps < 0:
		f.fail("rms_norm_eps", "is %v; expected 0 or more", c.RMSNormEps)
	}
	return f.err
}

// readQuantization reads quantization_config, nil if there is none.
func readQuantization(f *fields) *Quantization {
	if f.has("compression_config") {
		f.fail("compression_config", "is present: the weights were compressed by another tool, whose format is not supported")
		return nil
	}
	o := f.object("quantization_config")
	if o == nil {
		return nil
	}
	q := &Quantization{}
	if method := o.string("quant_method", ""); method != "afmq" {
		o.fail("quant_method", "is %q; only unquantized checkpoints and artifacts of afmq are supported", method)
	}
	q.Version = o.int("version", need, 1, maxLength)
	if o.err == nil && q.Version != 1 {
		o.fail("version", "is %d; this build reads version 1", q.Version)
	}
	q.Bits = o.int("bits", need, 1, 8)
	q.GroupRows = o.int("group_rows", need, 1, maxExtent)
	if modules := o.object("modules"); modules != nil {
		q.Modules = make(map[string]int, len(modules.m))
		for name := range modules.m {
			// Of several errors the first by name is reported, so that the message does not
			// depend on the order of the map.
			if err := q.readModule(modules, name); err != nil && (modules.err == nil || err.Error() < modules.err.Error()) {
				modules.err = err
			}
		}
		if o.err == nil {
			o.err = modules.err
		}
	}
	if f.err == nil {
		f.err = o.err
	}
	return q
}

func (q *Quantization) readModule(modules *fields, name string) error {
	m, err := parseFields(modules.file, modules.path+name+".", modules.m[name])
	if err != nil {
		return err
	}
	q.Modules[name] = m.int("bits", need, 1, 16)
	return m.err
}
