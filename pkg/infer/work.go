package infer

// The work of a pass in multiplications per token, from which jobs predict how long they take.

// LayerWork returns the multiplications of one token in one layer: one for each weight of the
// projections. Attention is not counted.
func (m *Model) LayerWork() int64 {
	c := m.Config
	attention := int64(2*c.Heads+2*c.KVHeads) * int64(c.HeadDim) * int64(c.HiddenSize)
	return attention + 3*int64(c.HiddenSize)*int64(c.IntermediateSize)
}

// HeadWork returns the multiplications of one token's logits.
func (m *Model) HeadWork() int64 { return int64(m.Config.VocabSize) * int64(m.Config.HiddenSize) }

// ForwardWork returns the multiplications of one token in all layers.
func (m *Model) ForwardWork() int64 { return int64(m.Config.Layers) * m.LayerWork() }

// LayerBackBytes returns the bytes per token that [Walk.LayerBack] takes, adapters not counted.
func (m *Model) LayerBackBytes() int64 {
	c := m.Config
	d, q, kv, f := int64(c.HiddenSize), int64(c.Heads*c.HeadDim), int64(c.KVHeads*c.HeadDim), int64(c.IntermediateSize)
	runner, back := 2*d+2*q+2*kv+2*f, d+2*q+2*kv+3*f
	if c.Fused { // of either pass, the wider of the two
		runner, back = runner+max(q+2*kv, 2*f), back+max(q+2*kv, 2*f)
	}
	return m.TapeBytes()/int64(c.Layers) + 4*(runner+back)
}

// OnLayer makes the runner call f after each layer of a forward pass over whole layers, with the
// number of tokens; nil ends that. The layers that Backward recomputes are not counted.
func (r *Runner) OnLayer(f func(tokens int)) { r.onLayer = f }

// layerDone calls the function of OnLayer.
func (r *Runner) layerDone(tokens int) {
	if r.onLayer != nil {
		r.onLayer(tokens)
	}
}
