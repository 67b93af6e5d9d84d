package sensitivity

import (
	"fmt"

	"afmq/pkg/artifact"
	"afmq/pkg/progress"
)

// Stages that [Score] reports, beside [artifact.StageHash].
const (
	StageReference = "run the model"
	StageScore     = "score modules"
	StageValidate  = "measure divergences"
	StageBackward  = "run the model backward" // of [CollectOutputs], if it does not score
)

// OutputStage returns the stage in which [CollectOutputs] runs the model backward.
func OutputStage(unscored bool) string {
	if unscored {
		return StageBackward
	}
	return StageScore
}

// Stages returns the stages of Score, for the job that it is part of.
func (o *Options) Stages() []string {
	var stages []string
	if (o.Out != "" || o.Journal != nil) && o.Digest == "" {
		stages = append(stages, artifact.StageHash)
	}
	switch o.Method {
	case Fisher, KL, "":
		stages = append(stages, StageReference)
	}
	stages = append(stages, StageScore)
	if o.Validate > 0 {
		stages = append(stages, StageReference, StageValidate)
	}
	return stages
}

// unitBar reports the progress of the units of an estimator.
type unitBar struct {
	progress      progress.Reporter
	e             estimator
	name          string // of the stage; empty for StageScore
	state         string // where they are saved, for messages; empty for nowhere
	all, done     int    // units
	total, before int64  // work of all and of those that an earlier run did
}

// start starts the stage of the scores, or of their validation.
func (b *unitBar) start(validation bool) {
	name := b.name
	if name == "" {
		name = StageScore
	}
	if validation {
		name = StageValidate
	}
	if b.done > 0 {
		b.progress.Notice(fmt.Sprintf("resuming from %s: %s: %s are done", b.state, name, b.count()))
		b.saved()
	}
	b.progress.Stage(progress.Stage{Name: name, Work: b.total, Done: b.before})
	b.progress.Status(b.count())
}

// add counts a unit, which is saved or not.
func (b *unitBar) add(saved bool) {
	b.done++
	b.progress.Status(b.count())
	if saved {
		b.saved()
	}
}

func (b *unitBar) saved() {
	b.progress.Saved(fmt.Sprintf("the scores of %s in %s", b.count(), b.state))
}

// count returns "3 of 8 batches".
func (b *unitBar) count() string {
	return fmt.Sprintf("%d of %d %s", b.done, b.all, b.e.unitName())
}
