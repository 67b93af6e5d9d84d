package quantize

import "afmq/internal/memory"

// workingBytes returns about how many bytes error compensation takes beside the hidden states: for
// the widest input, the Hessian, its two factors, their work space and the change of the input; for the
// largest matrix whose rows are refined together, weights, errors, two products and codes, and the moment
// of its outputs; and for the largest layer, the weights of both models.
func (j *job) workingBytes() int64 {
	var widest, together int64
	layers := map[int]int64{}
	for i := range j.items {
		it := &j.items[i]
		if it.Spec.Layer >= 0 && len(it.Spec.Shape) == 2 {
			layers[it.Spec.Layer] += it.sourceBytes()
			rows, cols := int64(it.Spec.Shape[0]), int64(it.Spec.Shape[1])
			widest = max(widest, cols)
			if j.joint(it) {
				together = max(together, 18*rows*cols+6*rows*rows)
			}
		}
	}
	layer := int64(0)
	for _, n := range layers {
		layer = max(layer, n)
	}
	return 5*4*widest*widest + together + 2*layer
}

// stateMemory returns how many bytes of hidden states stay on the heap.
func (j *job) stateMemory() int64 {
	return max(0, memory.Budget(j.opts.Memory)-j.workingBytes()) / 2
}
