package recovery

import (
	"context"
	"errors"
	"fmt"

	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/infer"
	"afmq/pkg/model"
)

// openTeacher opens the teacher and checks that it is the model that the artifact was
// made from, or at least one that it can be compared with.
func (r *run) openTeacher(ctx context.Context, cfg *model.Config) error {
	o := r.opts
	if o.Teacher == "" {
		return nil
	}
	if err := model.SameTokenizer(o.Artifact, o.Teacher); err != nil {
		return err
	}
	teacher, err := infer.OpenWeights(ctx, o.Teacher, infer.OpenOptions{Pool: r.pool, Progress: o.Progress})
	if err != nil {
		return err
	}
	t := teacher.Config
	if err := o.checkFamily(o.Teacher, t); err != nil {
		return err
	}
	switch {
	case t.VocabSize != cfg.VocabSize:
		return fault.Inputf(o.Teacher, "the teacher has %d vocabulary entries, the artifact %d", t.VocabSize, cfg.VocabSize)
	case t.MaxPositions < o.SeqLen:
		return fault.Inputf(o.Teacher, "the teacher takes %d tokens, a sequence has %d", t.MaxPositions, o.SeqLen)
	}
	r.teacher = teacher
	if !o.AllowTeacher {
		hint := "give %s; --allow-teacher trains against another model with the same tokenizer"
		if r.tunes {
			hint = "give %s"
		}
		if t.Quantization != nil {
			return fault.Inputf(o.Teacher, "is an afmq artifact, not the checkpoint that %s was made from", o.Artifact).
				WithHint(hint, "the checkpoint")
		}
		if err := r.manifest.IsSource(ctx, r.pool, o.Teacher, o.Progress); err != nil {
			var fe *fault.Error
			if errors.As(err, &fe) {
				return fe.WithHint(hint, "that checkpoint")
			}
			return err
		}
		r.teacherDigest = r.manifest.Source.Digest
		return nil
	}
	if o.From == "" && o.Init != InitZero && !sameShape(t, cfg) {
		return fault.Inputf(o.Teacher, "init %s compares weights, and the teacher has other shapes than the artifact", o.Init).
			WithHint("give --init zero")
	}
	digest, err := artifact.DigestCheckpoint(ctx, r.pool, o.Teacher, o.Progress)
	r.teacherDigest = digest
	return err
}

func sameShape(a, b *model.Config) bool {
	x, y := a.Tensors(), b.Tensors()
	if len(x) != len(y) {
		return false
	}
	for i := range x {
		if fmt.Sprint(x[i]) != fmt.Sprint(y[i]) {
			return false
		}
	}
	return true
}
