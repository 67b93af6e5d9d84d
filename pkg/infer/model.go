package infer

import (
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/model"
	"afmq/pkg/tokenizer"
)

// Block holds the weights of one transformer layer.
type Block struct {
	InputNorm          []float32 // of the input of q, k and v, [hidden]; nil where there is none
	Q, K, V, O         Linear    // [heads·head_dim, hidden], 2 × [kv_heads·head_dim, hidden], [hidden, heads·head_dim]
	QNorm, KNorm       []float32 // [head_dim], or of all heads at once; nil where there is no QK-norm
	AttentionNorm      []float32 // of the output of o, [hidden]; nil where there is none
	FeedForwardNorm    []float32 // of the input of gate and up, [hidden]; nil where there is none
	Gate, Up, Down     Linear    // 2 × [intermediate, hidden], [hidden, intermediate]
	QKV, GateUp        Linear    // Q, K and V as one matrix, and Gate and Up, where the family is [model.Config].Fused
	FeedForwardOutNorm []float32 // of the output of down, [hidden]; nil where there is none
}

// Model is a checkpoint, an artifact or a GGUF file in memory: its weights, packed for the matrix
// products, its configuration and its tokenizer. It holds no file open and does not change
// once it is complete, so any number of runners may share it.
type Model struct {
	Dir       string               // directory or GGUF file that it was opened from, for errors
	Config    *model.Config        //
	Tokenizer *tokenizer.Tokenizer // nil if it was opened by [OpenWeights]
	Manifest  *artifact.Manifest   // of an artifact; nil for others
	Verified  bool                 // the files were checked against Manifest; see [OpenOptions]
	Embedding *compute.Matrix      // [vocab, hidden]
	Blocks    []Block
	FinalNorm []float32       // [hidden]
	Head      *compute.Matrix // [vocab, hidden]; the embedding itself where it is tied
}

// SetMatrix sets a weight matrix [out, in]: a projection, the head, or the embedding, which
// is also the head of a model that ties them. With [Model.SetVector] it builds a model part by
// part, for callers that have no checkpoint of it. It panics if spec is not a matrix.
func (m *Model) SetMatrix(spec model.TensorSpec, w *compute.Matrix) {
	switch spec.Role {
	case model.Embedding:
		m.Embedding = w
		if m.Config.TieEmbeddings {
			m.Head = w
		}
	case model.Head:
		m.Head = w
	case model.Projection:
		m.Blocks[spec.Layer].Linear(spec.Kind).Weight = w
	default:
		panic("infer: SetMatrix: " + spec.Name + " is not a matrix")
	}
}

// SetVector sets the weight of a norm, as it is stored, or a bias. It panics if spec is neither.
func (m *Model) SetVector(spec model.TensorSpec, v []float32) {
	var b *Block
	if spec.Layer >= 0 {
		b = &m.Blocks[spec.Layer]
	}
	switch spec.Role {
	case model.Norm:
		*m.norm(b, spec.Kind) = m.gains(v)
	case model.Bias:
		b.Linear(spec.Kind).Bias = v
	default:
		panic("infer: SetVector: " + spec.Name + " is not a vector")
	}
}

// Linear returns the projection of this kind, "q_proj" to "down_proj", "qkv_proj" or "gate_up_proj".
// It panics if there is none.
func (b *Block) Linear(kind string) *Linear {
	switch kind {
	case "q_proj":
		return &b.Q
	case "k_proj":
		return &b.K
	case "v_proj":
		return &b.V
	case "o_proj":
		return &b.O
	case "gate_proj":
		return &b.Gate
	case "up_proj":
		return &b.Up
	case "down_proj":
		return &b.Down
	case "qkv_proj":
		return &b.QKV
	case "gate_up_proj":
		return &b.GateUp
	}
	panic("infer: unknown projection " + kind)
}

// gains returns what a norm multiplies by, of its stored weights.
func (m *Model) gains(stored []float32) []float32 {
	offset := float32(m.Config.NormOffset)
	if offset == 0 {
		return stored
	}
	v := make([]float32, len(stored))
	for i, w := range stored {
		v[i] = w + offset
	}
	return v
}

// norm returns the norm of this kind: of the layer b, or the final one.
func (m *Model) norm(b *Block, kind string) *[]float32 {
	switch kind {
	case "input_layernorm":
		return &b.InputNorm
	case "post_attention_layernorm":
		if m.Config.Norms == model.PreNorm { // it is named after where it is
			return &b.FeedForwardNorm
		}
		return &b.AttentionNorm
	case "pre_feedforward_layernorm":
		return &b.FeedForwardNorm
	case "post_feedforward_layernorm":
		return &b.FeedForwardOutNorm
	case "q_norm":
		return &b.QNorm
	case "k_norm":
		return &b.KNorm
	case "norm":
		return &m.FinalNorm
	}
	panic("infer: unknown norm " + kind)
}
