package sensitivity

import (
	"context"
	"encoding/json"

	"afmq/pkg/artifact"
	"afmq/pkg/compute"
)

// identity describes all that the scores depend on, as JSON whose keys and values can be
// shown to a person. Only a run of equal identity resumes.
func (j *scoreJob) identity(ctx context.Context) ([]byte, error) {
	source, err := artifact.DigestCheckpoint(ctx, j.pool, j.opts.Model, j.opts.Progress)
	if err != nil {
		return nil, err
	}
	shape, err := ReadShape(j.cfg, j.ckpt, j.opts.Model)
	if err != nil {
		return nil, err
	}
	tensors := map[string]string{}
	for name, t := range shape.DTypes {
		tensors[name] = t.String()
	}
	text, files, kernels := "", []string{}, ""
	if j.text != nil {
		kernels = compute.KernelClass(j.opts.Compute)
		text, files = j.text.Record.Digest, j.text.Record.Files
	}
	o := &j.opts
	return json.Marshal(struct {
		Job         string            `json:"job"`
		ToolVersion string            `json:"tool_version"`
		Method      Method            `json:"method"`
		Bits        []int             `json:"bits"`
		GroupRows   int               `json:"group_rows"`
		RowScale    bool              `json:"row_scale"`
		Samples     int               `json:"samples"`
		Validate    int               `json:"validate"`
		Calibration string            `json:"calibration"`
		Files       []string          `json:"calibration_files"`
		Seed        int64             `json:"seed"`
		Tokenizer   string            `json:"tokenizer"`
		Config      string            `json:"config"`
		Source      string            `json:"source"`
		Tensors     map[string]string `json:"tensors"`
		Compute     string            `json:"compute"`
		Kernels     string            `json:"kernels"`
	}{"sensitivity/v2", o.ToolVersion, o.Method, o.Bits, o.GroupRows, !o.NoRowScale, o.Samples, o.Validate, text, files,
		j.seed(), j.tokenizer, string(j.rawConfig), source, tensors, o.Compute.String(), kernels})
}

// seed returns the seed of the text and of all draws.
func (j *scoreJob) seed() int64 {
	if j.text != nil {
		return j.text.Record.Seed
	}
	return j.opts.Calibration.Seed
}
