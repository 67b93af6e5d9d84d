package quantize

import (
	"fmt"

	"afmq/pkg/artifact"
	"afmq/pkg/gptq"
	"afmq/pkg/model"
	"afmq/pkg/sensitivity"
)

// Stages that functions of this package report beside those of package sensitivity.
const (
	StageCheck      = "check saved state"
	StageQuantize   = "quantize"
	StageDequantize = "dequantize"
)

// Stages returns the stages of Run, for the job that it is part of. A run that resumes also has
// StageCheck.
func (o *Options) Stages() []string {
	var stages []string
	if o.Request != nil || o.Stats != "" || o.backward() {
		stages = append(stages, artifact.StageHash)
	}
	if o.backward() {
		stages = append(stages, sensitivity.StageReference, sensitivity.OutputStage(!o.scoresOutputs()))
	}
	if o.Request != nil && o.Stats == "" && !o.scoresOutputs() {
		s := o.scoring()
		s.Digest = "known"
		stages = append(stages, s.Stages()...)
	}
	return append(stages, StageQuantize)
}

// work returns the work of an item, without that of running the text to it: the palettes, and
// with compensation the statistics of the input that it is the first to have.
func (j *job) work(it *item) int64 {
	if len(it.Spec.Shape) != 2 {
		return int64(it.Tensor.NumElements())
	}
	rows, cols := it.Spec.Shape[0], it.Spec.Shape[1]
	hash := int64(rows) * int64(cols) * hashWork
	g, ok := j.grid(it)
	if !ok {
		return hash + int64(rows)*int64(cols)*denseWork
	}
	embedding := it.Spec.Role == model.Embedding
	switch {
	case !j.opts.compensates() || embedding && !j.src.Config.TieEmbeddings:
		return hash + g.QuantizeWork(rows, cols)
	case j.stats != nil:
		n := hash + g.CompensateWork(rows, cols, j.joint(it))
		if it.firstOfInput() {
			n += gptq.FactorWork(cols)
		}
		return n
	case embedding: // after the text ran through the original model
		return hash + g.CompensateWork(rows, cols, false) + gptq.FactorWork(cols) + int64(j.src.Config.Layers)*j.walkWork()/2
	}
	n := hash + gptq.SolveWork(rows, cols) + g.CompensateWork(rows, cols, j.joint(it))
	if it.firstOfInput() {
		tokens := int64(j.text.Tokens())
		n += gptq.FactorWork(cols) + tokens*int64(cols)*int64(cols)*3/2 // Gram and cross products
		if residual(j.src.Config, it.Spec) {
			n += tokens * int64(rows) * int64(cols)
		}
	}
	return n
}

// joint reports whether all rows of a matrix are refined together.
func (j *job) joint(it *item) bool {
	return j.opts.Compensate == artifact.LossNorm && it.Spec.Role == model.Projection && sensitivity.FullOutput(it.Spec)
}

// The work for each weight in the multiplications of palettize.Work: of int8 rows, and of the
// digests of source and result.
const (
	denseWork = 250
	hashWork  = 110
)

// walkWork returns the work of running the text through one layer of both models; 0 without
// compensation.
func (j *job) walkWork() int64 {
	if !j.opts.walks() {
		return 0
	}
	n := int64(0)
	for i := range j.items {
		if it := &j.items[i]; it.Spec.Layer == 0 && len(it.Spec.Shape) == 2 {
			n += int64(it.Tensor.NumElements())
		}
	}
	return 2 * n * int64(j.text.Tokens())
}

// totalWork returns the work of the run, and that of its first items, which are finished. A run
// that resumes runs the text through all layers again.
func (j *job) totalWork(finished int) (total, done int64) {
	total = int64(j.src.Config.Layers) * j.walkWork()
	for i := range j.items {
		w := j.work(&j.items[i])
		total += w
		if i < finished {
			done += w
		}
	}
	return total, done
}

// matrices returns how many of the first n items are matrices, which people call modules.
func (j *job) matrices(n int) (count int) {
	for i := range n {
		if len(j.items[i].Spec.Shape) == 2 {
			count++
		}
	}
	return count
}

// count returns "12 of 57 modules": how many of the first n items are.
func (j *job) count(n int) string {
	return fmt.Sprintf("%d of %d modules", j.matrices(n), j.matrices(len(j.items)))
}
