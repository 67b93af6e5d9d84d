// Package report makes an HTML page about an artifact: its size, its quality, the choice of its
// bits, its adapters, and its provenance.
//
// The page is self-contained. It has no scripts and loads no resources, and its content security
// policy forbids both. It follows the reader's light or dark preference, fits a phone, and
// prints. Every plot has a table of its figures.
//
// Data that the artifact does not contain are read from files: scores, a plan, evaluations,
// recovery directories. All of them are untrusted and are checked against the artifact. A file
// about another model is refused, and evaluations on different text, protocol or context are
// shown in separate groups. A section without data shows the command that produces the data.
//
// Equal input gives equal bytes.
package report

import (
	"context"

	"afmq/cmd/afmq/internal/device"
	"afmq/pkg/compute"
	"afmq/pkg/progress"
)

// Options are the inputs of a report. Only Artifact is required.
type Options struct {
	Artifact   string
	Reference  string            // checkpoint that the artifact was made from; empty for no samples and no distribution of its weights
	Scores     string            // file of `afmq sensitivity` for the source of the artifact
	Plan       string            // file of the plan that the artifact follows
	Evals      []string          // JSON objects of `afmq eval-perplexity --json`
	Recoveries []string          // directories of `afmq recover` for the artifact
	Devices    []*device.Profile // devices to estimate memory and speed for
	Use        device.Use        // context and prompt on the devices; zeros for defaults

	Compare string // JSON object of `afmq compare --json` with the artifact among its models

	Gates       []string          // JSON objects of `afmq gate --json` for the artifact
	Samples     SampleOptions     // sample continuations
	Progress    progress.Reporter // nil for none
	DeviceNames []string          // names and files that Devices were read from, for the commands
}

// Report is the content of a page.
type Report struct {
	Title    string
	Subtitle string
	Sections []Section
}

// Section is a section of a report: its data, or the command that produces the data.
type Section struct {
	ID      string `json:"id"`
	Title   string `json:"title"`
	Command string `json:"command,omitempty"` // produces the missing data; empty if the option needs none
	Option  string `json:"option,omitempty"`  // flag of `afmq report` that reads the output of Command
	Data    any    `json:"data,omitempty"`
}

// Make reads and checks all inputs of opts. An error caused by a file is of kind fault.Input and
// names the file.
func Make(ctx context.Context, pool *compute.Pool, opts Options) (*Report, error) {
	s, err := gather(ctx, pool, opts)
	if err != nil {
		return nil, err
	}
	r := &Report{Title: nameOf(opts.Artifact), Subtitle: s.subtitle()}
	art := shellPath(opts.Artifact)
	for _, part := range []struct {
		id, title       string
		command, option string
		data            func() (any, error)
	}{
		{"summary", "Summary", "", "", s.summary},
		{"samples", "Samples", "", "--reference MODEL", s.sampleTexts},
		{"bits", "Layers", "", "", s.bits},
		{"size", "Size by part", "", "", s.size},
		{"sensitivity", "Sensitivity per layer", "afmq sensitivity MODEL --calib FILE --out scores.json", "--scores scores.json", s.sensitivity},
		{"weights", "Weights and look-up tables", "", "", s.weights},
		{"plan", "Choice of bits", "afmq plan scores.json --bpw N --out plan.json", "--plan plan.json", s.choice},
		{"curve", "Divergence against size", "afmq eval-perplexity " + art + " --data FILE --reference MODEL --json > eval.json", "--eval eval.json", s.curve},
		{"recovery", "Recovery by rank", "afmq recover " + art + " --teacher MODEL --data FILE --rank 8,16,32 --out DIR", "--recovery DIR", s.recovery},
		{"training", "Training", "afmq recover " + art + " --teacher MODEL --data FILE --out DIR", "--recovery DIR", s.training},
		{"evaluation", "Evaluation", "afmq eval-perplexity " + art + " --data FILE --reference MODEL --json > eval.json", "--eval eval.json", s.evaluation},
		{"compare", "Comparison", "afmq compare " + art + " OTHER... --data FILE --reference MODEL --json > compare.json", "--compare compare.json", s.compare},
		{"devices", "On devices", "afmq devices", "--device NAME", s.devices},
		{"provenance", "Provenance", "", "", s.provenance},
		{"commands", "Commands", "", "", s.commands},
	} {
		sec := Section{ID: part.id, Title: part.title}
		if sec.Data, err = part.data(); err != nil {
			return nil, err
		}
		if sec.Data == nil {
			sec.Command, sec.Option = part.command, part.option
		}
		r.Sections = append(r.Sections, sec)
	}
	return r, nil
}
