package model

import (
	"fmt"
	"strings"
)

// Role is the purpose of a tensor in the model. It determines the forms in which the tensor may
// be stored.
type Role uint8

const (
	Embedding  Role = iota // [vocab, hidden]
	Head                   // [vocab, hidden], unless it is tied to the embedding
	Projection             // a linear layer of attention or feed-forward
	Norm                   // the weight of an RMSNorm, less [Config.NormOffset]
	Bias                   // the bias of a projection
)

// TensorSpec describes one tensor of a model.
type TensorSpec struct {
	Name  string
	Shape []int // [out, in] for matrices
	Role  Role
	Layer int    // -1 outside the layers
	Kind  string // the last part of the module's name: "q_proj", "input_layernorm", "embed_tokens"
}

// Module returns the name of the module that the tensor belongs to, as in PEFT and in plans:
// "model.layers.0.self_attn.q_proj".
func (s TensorSpec) Module() string { return strings.TrimSuffix(s.Name, ".weight") }

const (
	embeddingName = "model.embed_tokens.weight"
	headName      = "lm_head.weight"
)

// Tensors returns every tensor of the model, under the names of Hugging Face transformers, in
// canonical order: embedding, layers, final norm, head. A head that is tied to the embedding is
// not listed.
func (c *Config) Tensors() []TensorSpec {
	specs := []TensorSpec{{embeddingName, []int{c.VocabSize, c.HiddenSize}, Embedding, -1, "embed_tokens"}}
	q, kv := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	for l := range c.Layers {
		norm := func(module, kind string, n int) {
			specs = append(specs, TensorSpec{fmt.Sprintf("model.layers.%d.%s%s.weight", l, module, kind), []int{n}, Norm, l, kind})
		}
		linear := func(module, kind string, out, in int, bias bool) {
			name := fmt.Sprintf("model.layers.%d.%s.%s", l, module, kind)
			specs = append(specs, TensorSpec{name + ".weight", []int{out, in}, Projection, l, kind})
			if bias {
				specs = append(specs, TensorSpec{name + ".bias", []int{out}, Bias, l, kind})
			}
		}
		if c.Norms != PostNorm {
			norm("", "input_layernorm", c.HiddenSize)
		}
		if c.Fused {
			linear("self_attn", "qkv_proj", q+2*kv, c.HiddenSize, c.QKVBias)
		} else {
			linear("self_attn", "q_proj", q, c.HiddenSize, c.QKVBias)
			linear("self_attn", "k_proj", kv, c.HiddenSize, c.QKVBias)
			linear("self_attn", "v_proj", kv, c.HiddenSize, c.QKVBias)
		}
		if c.QKNorm {
			qn, kn := c.HeadDim, c.HeadDim
			if c.QKNormAll {
				qn, kn = q, kv
			}
			norm("self_attn.", "q_norm", qn)
			norm("self_attn.", "k_norm", kn)
		}
		linear("self_attn", "o_proj", c.HiddenSize, q, c.OBias)
		norm("", "post_attention_layernorm", c.HiddenSize)
		if c.Norms == SandwichNorm {
			norm("", "pre_feedforward_layernorm", c.HiddenSize)
		}
		if c.Fused {
			linear("mlp", "gate_up_proj", 2*c.IntermediateSize, c.HiddenSize, c.MLPBias)
		} else {
			linear("mlp", "gate_proj", c.IntermediateSize, c.HiddenSize, c.MLPBias)
			linear("mlp", "up_proj", c.IntermediateSize, c.HiddenSize, c.MLPBias)
		}
		linear("mlp", "down_proj", c.HiddenSize, c.IntermediateSize, c.MLPBias)
		if c.Norms != PreNorm {
			norm("", "post_feedforward_layernorm", c.HiddenSize)
		}
	}
	specs = append(specs, TensorSpec{"model.norm.weight", []int{c.HiddenSize}, Norm, -1, "norm"})
	if !c.TieEmbeddings {
		specs = append(specs, TensorSpec{headName, []int{c.VocabSize, c.HiddenSize}, Head, -1, "lm_head"})
	}
	return specs
}

// Aliases returns the other names under which a file may store a tensor: a tied embedding may be
// stored as the head, or as both.
func (c *Config) Aliases(name string) []string {
	if c.TieEmbeddings && name == embeddingName {
		return []string{headName}
	}
	return nil
}

// Ignorable reports whether a stored tensor is not needed, because it is computed from
// config.json: the inverse frequencies of the rotary embedding, which old checkpoints store.
func (c *Config) Ignorable(name string) bool {
	return strings.HasSuffix(name, ".rotary_emb.inv_freq")
}
