package recovery

import (
	"fmt"

	"afmq/pkg/artifact"
	"afmq/pkg/infer"
	"afmq/pkg/progress"
)

// Stages that [Run] reports, beside infer.StageLoad and [artifact.StageHash].
const (
	StageText      = "read text"
	StageGradients = "accumulate gradients"
	StageAllocate  = "allocate ranks"
	StageInit      = "initialize adapters"
	StageBefore    = "evaluate before training"
	StageTrain     = "train"
	StageTest      = "evaluate on test text"
)

// Stages returns the stages of Run, for the job that it is part of. A run that resumes has passed
// some of them.
func (o *Options) Stages() []string {
	var stages []string
	if o.Teacher != "" {
		stages = append(stages, infer.StageLoad, artifact.StageHash)
	}
	stages = append(stages, infer.StageLoad, artifact.StageHash, StageText)
	if o.From == "" && (o.Init == InitSVD || o.Init == "") {
		if o.RankAllocation == RanksByLoss {
			stages = append(stages, StageGradients, StageAllocate)
		}
		stages = append(stages, StageGradients)
	}
	return append(stages, StageInit, StageBefore, StageTrain, StageTest)
}

// Stages returns the stages of Tune, for the job that it is part of.
func (o *TuneOptions) Stages() []string {
	return []string{infer.StageLoad, artifact.StageHash, infer.StageLoad, artifact.StageHash, StageText, StageBefore, StageTrain, StageTest}
}

// The work of the stages is counted in multiplications; see infer.Model.LayerWork.

// passWork returns the work of the forward passes and logits of the teacher and of n models of the
// base's shape, for one token.
func (t *trainer) passWork(n int) int64 {
	work := int64(n) * (t.base.ForwardWork() + t.measureWork())
	if t.teacher != nil {
		work += t.teacher.Model().ForwardWork()
	}
	return work
}

// stepWork returns the work of one step.
func (t *trainer) stepWork() int64 {
	n := int64(len(t.students))
	asks := t.teacher != nil && t.loss.kl > 0
	work := n * (t.base.ForwardWork() + t.gradientWork(asks))
	for _, s := range t.students {
		work += s.backWork()
	}
	if asks {
		work += t.teacher.Model().ForwardWork()
	}
	return work * int64(t.stepTokens())
}

// gradientWork returns the work of the loss and its gradient for one token.
func (t *trainer) gradientWork(withTeacher bool) int64 {
	work := 2 * t.base.HeadWork()
	if withTeacher {
		work += t.teacher.Model().HeadWork()
	}
	return work
}

// backWork returns the work of the backward pass for one token: the gradients of the modules'
// inputs and of the adapters.
func (s *student) backWork() (work int64) {
	for i := range s.parts {
		p := &s.parts[i]
		out, in := int64(p.spec.Shape[0]), int64(p.spec.Shape[1])
		work += out*in + 3*int64(p.rank)*(out+in)
	}
	return work
}

// measureWork returns the work of the logits of one model on held-out text, for one token.
func (t *trainer) measureWork() int64 {
	work := t.base.HeadWork()
	if t.teacher != nil {
		work += t.teacher.Model().HeadWork()
	}
	return work
}

// evaluationsAfter returns how many evaluations follow the steps after from.
func (t *trainer) evaluationsAfter(from int64) int64 {
	n := t.steps/t.evalEvery - from/t.evalEvery
	if t.steps%t.evalEvery != 0 && from < t.steps {
		n++
	}
	return n
}

// targets returns the number of tokens that sequences score.
func targets(sequences [][]int32) (n int64) {
	for _, s := range sequences {
		n += int64(len(s) - 1)
	}
	return n
}

// trainWork returns the work of the steps after from, with their evaluations.
func (t *trainer) trainWork(from int64) int64 {
	return (t.steps-from)*t.stepWork() + t.evaluationsAfter(from)*targets(t.data.validation)*t.passWork(len(t.students))
}

// reportPasses makes the runners report their layers.
func (t *trainer) reportPasses() {
	report := func(r *infer.Runner) {
		m := r.Model()
		r.OnLayer(func(tokens int) { t.opts.Progress.Advance(int64(tokens) * m.LayerWork()) })
	}
	report(t.runner)
	if t.teacher != nil {
		report(t.teacher)
	}
}

// noticeResumed says what a run resumes from.
func (t *trainer) noticeResumed() {
	t.opts.Progress.Notice(fmt.Sprintf("resuming from %s: %s are done", t.dir.State(), t.stepCount()))
	t.reportSaved()
}

// reportSaved says what is saved.
func (t *trainer) reportSaved() {
	if t.Step == 0 {
		t.opts.Progress.Saved("the initialized adapters in " + t.dir.State())
		return
	}
	t.opts.Progress.Saved(t.stepCount() + " in " + t.dir.State())
}

func (t *trainer) stepCount() string { return fmt.Sprintf("%d of %d steps", t.Step, t.steps) }

// stage starts a stage.
func (t *trainer) stage(name string, work int64) {
	t.opts.Progress.Stage(progress.Stage{Name: name, Work: work})
}
