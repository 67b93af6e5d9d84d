package compare

import (
	"path/filepath"
	"slices"
	"strings"

	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/eval"
	"afmq/pkg/fault"
	"afmq/pkg/infer"
	"afmq/pkg/progress"
)

// Options are the options of [Run]. Models and Data are required.
type Options struct {
	Models    []Model // the candidates
	Data      string  // file of text; see [eval.ReadTexts]
	Reference *Model  // that divergences and recovery are measured against; nil for none
	// Adapters are evaluated on the candidates that they are bound to: each names in its file the
	// content hash of its artifact. The row is called MODEL+ADAPTER.
	Adapters []eval.Adapter
	Tasks    []TaskFile // results of lm-evaluation-harness

	AllowUnbound bool // with a single candidate, take an adapter that does not name its artifact
	AllowOverlap bool // score a file that an artifact was calibrated on, or an adapter trained on
	SkipVerify   bool // do not hash the tensors of artifacts; see [infer.OpenOptions]
	// OneAtATime holds one candidate in memory at a time, beside the reference, which then runs
	// over the text for each of them. Without a reference this is always so.
	OneAtATime bool

	Protocol   eval.Protocol      // empty for [eval.Chunk]
	Ctx        int                // tokens in a window; 0 for 512 or what the smallest model allows
	Stride     int                // tokens between the starts of windows, for protocol stride; 0 for ctx/2
	Arithmetic compute.Arithmetic // of the products of all models, in place of that of Pool

	Pool     *compute.Pool     // nil for Threads workers of its own
	Threads  int               // where Pool is nil; 0 for all cores
	Progress progress.Reporter // nil for none
}

// Model is a checkpoint, an artifact or a GGUF file under a name of its own.
type Model struct {
	Name string // of its row; empty for the last part of Path
	Path string
}

// TaskFile binds the results of lm-evaluation-harness to a row.
type TaskFile struct {
	Row  string // name of a row: a model, MODEL+ADAPTER, or the reference
	Path string // file or directory; see [lmeval.Read]
}

// Stages returns the stages of Run, for the job that it is part of.
func (o *Options) Stages() []string {
	var stages []string
	open := func(path string) {
		stages = append(stages, infer.StageLoad)
		if !artifact.IsArtifact(path) {
			stages = append(stages, artifact.StageHash)
		}
	}
	if o.Reference != nil {
		open(o.Reference.Path)
	}
	for _, m := range o.Models {
		open(m.Path)
		if !o.together() {
			stages = append(stages, eval.StageEvaluate)
		}
	}
	if o.together() {
		stages = append(stages, eval.StageEvaluate)
	}
	return stages
}

// together reports whether all candidates are in memory and share the reference's pass.
func (o *Options) together() bool { return o.Reference != nil && !o.OneAtATime }

// resolve fills in names and checks that no row has that of another.
func (o *Options) resolve() error {
	if len(o.Models) == 0 {
		return fault.Usagef("there is no model to compare")
	}
	o.Models = slices.Clone(o.Models)
	seen := map[string]string{}
	name := func(m *Model) error {
		if m.Name == "" {
			m.Name = baseName(m.Path)
		}
		if other, twice := seen[m.Name]; twice {
			return fault.Usagef("%s and %s are both called %q", other, m.Path, m.Name).
				WithHint("give each model a name of its own: NAME=PATH")
		}
		seen[m.Name] = m.Path
		return nil
	}
	if o.Reference != nil {
		reference := *o.Reference
		if err := name(&reference); err != nil {
			return err
		}
		o.Reference = &reference
	}
	for i := range o.Models {
		m := &o.Models[i]
		if o.Reference != nil && filepath.Clean(m.Path) == filepath.Clean(o.Reference.Path) {
			return fault.Usagef("%s is the reference, which has a row already", m.Path).WithHint("leave it out of the models to compare")
		}
		if err := name(m); err != nil {
			return err
		}
	}
	return nil
}

// baseName returns the last part of a path; of "." and ".." that of the directory they stand for.
func baseName(path string) string {
	name := filepath.Base(filepath.Clean(path))
	if name == "." || name == ".." {
		if abs, err := filepath.Abs(path); err == nil {
			name = filepath.Base(abs)
		}
	}
	return name
}

// unknownRow returns the error for results that are bound to a row that is not there.
func unknownRow(t TaskFile, names []string) error {
	return fault.Usagef("the results %s are bound to %q, which is no row of the table", t.Path, t.Row).
		WithHint("the rows are %s", strings.Join(names, ", "))
}
