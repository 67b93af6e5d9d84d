// Package report makes one page of HTML about an artifact: what it takes, what it costs,
// how its bits were chosen, what adapters win back, and where it comes from.
//
// The page needs nothing but itself: no script, no network, no font, and a content
// security policy that forbids all of them. It follows the reader's preference for light
// or dark, fits a phone, and prints. Beside every picture stands the table of its figures.
//
// What an artifact does not hold is given as files: scores, a plan, evaluations,
// directories of recovery. Each is read as hostile, and held to the artifact: a file about
// another model is refused, and evaluations on different text, protocol or context are
// shown apart. A section without data names the command that makes it.
//
// Equal input gives equal bytes.
package report

import (
	"context"

	"afmq/cmd/afmq/internal/device"
	"afmq/pkg/compute"
)

// Options say what a report is made of. Only Artifact is needed.
type Options struct {
	Artifact   string
	Scores     string            // of `afmq sensitivity`, for the model that the artifact was made from
	Plan       string            // that the artifact follows
	Evals      []string          // JSON objects of `afmq eval-perplexity --json`
	Recoveries []string          // directories of `afmq recover` on the artifact
	Devices    []*device.Profile // to estimate memory and speed on
	Use        device.Use        // of the model on them; zeros for defaults
}

// Report is what a page shows.
type Report struct {
	Title    string
	Subtitle string
	Sections []Section
}

// Section is a part of a report: data, or the command that would make it.
type Section struct {
	ID      string `json:"id"`
	Title   string `json:"title"`
	Command string `json:"command,omitempty"` // makes what is missing
	Option  string `json:"option,omitempty"`  // of `afmq report`, which takes what Command makes
	Data    any    `json:"data,omitempty"`
}

// Make reads and checks everything that opts name. Errors are fault.Input where a file is
// to blame, and name it.
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
		{"size", "Size by part", "", "", s.size},
		{"bits", "Bits per layer", "", "", s.bits},
		{"sensitivity", "Sensitivity per layer", "afmq sensitivity MODEL --calib FILE --out scores.json", "--scores scores.json", s.sensitivity},
		{"plan", "Choice of bits", "afmq plan scores.json --bpw N --out plan.json", "--plan plan.json", s.choice},
		{"curve", "Divergence against size", "afmq eval-perplexity " + art + " --data FILE --reference MODEL --json > eval.json", "--eval eval.json", s.curve},
		{"recovery", "Recovery by rank", "afmq recover " + art + " --teacher MODEL --data FILE --rank 8,16,32 --out DIR", "--recovery DIR", s.recovery},
		{"training", "Training", "afmq recover " + art + " --teacher MODEL --data FILE --out DIR", "--recovery DIR", s.training},
		{"evaluation", "Evaluation", "afmq eval-perplexity " + art + " --data FILE --reference MODEL --json > eval.json", "--eval eval.json", s.evaluation},
		{"devices", "On devices", "afmq devices", "--device NAME", s.devices},
		{"provenance", "Provenance", "", "", s.provenance},
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
