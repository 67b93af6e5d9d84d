package quantize

import "afmq/internal/memory"

// workingBytes returns about how many bytes error compensation takes beside the hidden states: for
// the widest input, the Hessian, its two factors, their work space and the change of the input; and
// for the largest layer, the weights of both models.
func (j *job) workingBytes() int64 {
	var widest int64
	layers := map[int]int64{}
	for i := range j.items {
		it := &j.items[i]
		if it.Spec.Layer >= 0 && len(it.Spec.Shape) == 2 {
			layers[it.Spec.Layer] += it.sourceBytes()
			widest = max(widest, int64(it.Spec.Shape[1]))
		}
	}
	layer := int64(0)
	for _, n := range layers {
		layer = max(layer, n)
	}
	return 5*4*widest*widest + 2*layer
}

// stateMemory returns how many bytes of hidden states stay on the heap.
func (j *job) stateMemory() int64 {
	return max(0, memory.Budget(j.opts.Memory)-j.workingBytes()) / 2
}
