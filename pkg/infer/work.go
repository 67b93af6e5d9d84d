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

// OnLayer makes the runner call f after each layer of a forward pass over whole layers, with the
// number of tokens; nil ends that. The layers that Backward recomputes are not counted.
func (r *Runner) OnLayer(f func(tokens int)) { r.onLayer = f }

// layerDone calls the function of OnLayer.
func (r *Runner) layerDone(tokens int) {
	if r.onLayer != nil {
		r.onLayer(tokens)
	}
}
