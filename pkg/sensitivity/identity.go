package sensitivity

import (
	"context"
	"encoding/json"

	"afmq/internal/stage"
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
)

// identity describes all that the scores depend on, as JSON whose keys and values can be
// shown to a person. Only a run of equal identity resumes.
func (j *scoreJob) identity(ctx context.Context) ([]byte, error) {
	source := j.opts.Digest
	if source == "" {
		var err error
		if source, err = artifact.DigestCheckpoint(ctx, j.pool, j.opts.Model, j.opts.Progress); err != nil {
			return nil, err
		}
	}
	shape, err := ReadShape(j.cfg, j.ckpt, j.opts.Model)
	if err != nil {
		return nil, err
	}
	tensors := map[string]string{}
	for name, t := range shape.DTypes {
		tensors[name] = t.String()
	}
	text, files, builtin, kernels := "", []string{}, "", ""
	seqLen, tokens := 0, 0
	if j.text != nil {
		kernels = compute.KernelClass(j.opts.Compute)
		text, files, builtin = j.text.Record.Digest, j.text.Record.Files, j.text.Record.Builtin
		seqLen, tokens = j.text.Record.SeqLen, j.text.Tokens()
	}
	o := &j.opts
	return json.Marshal(struct {
		Job         string            `json:"job"`
		ToolVersion string            `json:"tool_version"`
		Method      Method            `json:"method"`
		Bits        []int             `json:"bits"`
		Forms       []artifact.Form   `json:"forms,omitempty"`
		Ends        bool              `json:"embedding,omitempty"`
		GroupRows   int               `json:"group_rows"`
		RowScale    bool              `json:"row_scale"`
		Samples     int               `json:"samples"`
		Validate    int               `json:"validate"`
		Calibration string            `json:"calibration"`
		Files       []string          `json:"calibration_files"`
		Builtin     string            `json:"calibration_builtin,omitempty"`
		SeqLen      int               `json:"seq_len"`
		Tokens      int               `json:"calibration_tokens"`
		Seed        int64             `json:"seed"`
		Tokenizer   string            `json:"tokenizer"`
		Config      string            `json:"config"`
		Source      string            `json:"source"`
		Tensors     map[string]string `json:"tensors"`
		Compute     string            `json:"compute"`
		Kernels     string            `json:"kernels"`
	}{"sensitivity/v3", o.ToolVersion, o.Method, o.Bits, o.Forms, o.Ends, o.GroupRows, !o.NoRowScale, o.Samples, o.Validate, text, files, builtin, seqLen, tokens,
		j.seed(), j.tokenizer, string(j.rawConfig), source, tensors, o.Compute.String(), kernels})
}

// jobNames are the flags that set the keys of the identity, and the inputs of the others.
var jobNames = []stage.Name{
	{Key: "method", Words: "--method"},
	{Key: "bits", Words: "--bits"},
	{Key: "forms", Words: "the forms (--grid, and --types or --bits)"},
	{Key: "embedding", Words: "--embedding"},
	{Key: "group_rows", Words: "--group-rows"},
	{Key: "row_scale", Words: "--row-scale"},
	{Key: "samples", Words: "--samples"},
	{Key: "validate", Words: "--validate"},
	{Key: "seq_len", Words: "--seq-len"},
	{Key: "seed", Words: "--seed"},
	{Key: "calibration_files", Words: "the text of --calib"},
	{Key: "calibration_tokens", Words: "--tokens"},
	{Key: "compute", Words: "--compute"},
	{Key: "source", Words: "the checkpoint"},
	{Key: "tokenizer", Words: "tokenizer.json of the checkpoint"},
}

// seed returns the seed of the text and of all draws.
func (j *scoreJob) seed() int64 {
	if j.text != nil {
		return j.text.Record.Seed
	}
	return j.opts.Calibration.Seed
}
