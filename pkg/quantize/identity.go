package quantize

import (
	"context"
	"encoding/json"
	"fmt"

	"afmq/internal/infile"
	"afmq/internal/stage"
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/safetensors"
	"afmq/pkg/sensitivity"
)

// jobIdentity is everything that the result of a run depends on, except for the weights of
// the modules that are not finished. Only a run of an equal identity continues from saved
// state. Keys and values are shown to the user when they differ.
type jobIdentity struct {
	Job          string                   `json:"job"`
	ToolVersion  string                   `json:"tool_version"`
	Bits         int                      `json:"bits"`
	GroupRows    int                      `json:"group_rows"`
	RowScale     bool                     `json:"row_scale"`
	Form         artifact.Form            `json:"form,omitempty"`
	Compensation string                   `json:"compensation"`
	Calibration  *textIdentity            `json:"calibration"`
	Request      *sensitivity.PlanOptions `json:"request"`
	Method       sensitivity.Method       `json:"method"`
	Source       string                   `json:"source,omitempty"` // digest of the weights; only with a request
	Compute      string                   `json:"compute"`
	Statistics   string                   `json:"statistics,omitempty"`
	Kernels      string                   `json:"kernels,omitempty"` // compute.KernelClass; model outputs of different classes differ in the last digits; only with text
	Modules      map[string]string        `json:"modules"`           // width by module; empty with a request
	Files        map[string]string        `json:"files"`             // SHA-256 of config.json and of the files that are copied
	Tensors      map[string]string        `json:"tensors"`           // type and shape of the checkpoint's tensors
}

// jobNames are the flags that set the keys of a jobIdentity, and the inputs of the others.
var jobNames = []stage.Name{
	{Key: "bits", Words: "--bits"},
	{Key: "request", Words: "the budget (--bpw or --max-bytes)"},
	{Key: "request.Target.bpw", Words: "--bpw"},
	{Key: "request.Target.max_bytes", Words: "--max-bytes"},
	{Key: "request.Target.of", Words: "--bpw-of"},
	{Key: "request.Bits", Words: "--bits"},
	{Key: "request.Forms", Words: "the forms to choose from (--grid, and --types or --bits)"},
	{Key: "request.Container.overhead", Words: "what the GGUF file has beside the matrices"},
	{Key: "request.Ties", Words: "--tie"},
	{Key: "request.Overrides", Words: "--override"},
	{Key: "method", Words: "--method"},
	{Key: "group_rows", Words: "--group-rows"},
	{Key: "row_scale", Words: "--row-scale"},
	{Key: "form", Words: "the form of the projections (--grid, and --types or --bits)"},
	{Key: "calibration", Words: "--calib"},
	{Key: "calibration.files", Words: "the text of --calib"},
	{Key: "calibration.seq_len", Words: "--seq-len"},
	{Key: "calibration.seed", Words: "--seed"},
	{Key: "request.Seed", Words: "--seed"},
	{Key: "calibration.tokens", Words: "--tokens"},
	{Key: "compensation", Words: "--compensate"},
	{Key: "compute", Words: "--compute"},
	{Key: "source", Words: "the checkpoint"},
	{Key: "files.config.json", Words: "config.json of the checkpoint"},
	{Key: "files.tokenizer.json", Words: "tokenizer.json of the checkpoint"},
	{Key: "modules.*", Words: "the width (--bits, --override or --plan) of"},
}

// textIdentity is what the manifest records of the calibration text, except for passages,
// which follow from the digest.
type textIdentity struct {
	Digest  string   `json:"digest"`
	Tokens  int      `json:"tokens"`
	SeqLen  int      `json:"seq_len"`
	Seed    int64    `json:"seed"`
	Files   []string `json:"files"`
	Builtin string   `json:"builtin,omitempty"`
}

// identity returns the identity of a run as JSON. The widths of a request follow from its
// scores, and so from all weights; it therefore includes their digest. Otherwise the weights
// of finished modules are compared with their records when the run resumes.
func (r *setup) identity(ctx context.Context, pool *compute.Pool) ([]byte, error) {
	src, opts := r.src, r.opts
	id := jobIdentity{
		Job: "quantize/v2", ToolVersion: opts.ToolVersion, Bits: opts.Bits, GroupRows: opts.GroupRows, RowScale: !opts.NoRowScale,
		Compensation: opts.Compensate, Request: opts.Request, Method: opts.Method, Form: opts.Form,
		Compute: opts.Compute.String(),
		Modules: map[string]string{}, Files: map[string]string{artifact.ConfigFile: infile.SHA256(src.RawConfig)}, Tensors: map[string]string{},
	}
	if opts.Form != "" { // they follow from the form, and a message about it is enough
		id.Bits = DefaultBits
	}
	if opts.family(r.widths) != "" { // there are no palettes
		id.RowScale = true
	}
	if r.widths == nil || r.sharded || r.stats != nil || opts.backward() {
		var err error
		if id.Source, err = artifact.DigestCheckpoint(ctx, pool, src.Dir, opts.Progress); err != nil {
			return nil, err
		}
		r.digest = id.Source
		if r.stats != nil && r.stats.Source != id.Source {
			return nil, fault.Inputf(opts.Stats, "the statistics are of other weights than those of %s", opts.Model).
				WithHint("give the checkpoint that they were collected from, or collect them again with afmq stats")
		}
	}
	if r.stats != nil {
		id.Statistics = r.stats.Digest
	}
	if r.text != nil {
		t := &r.text.Record
		id.Calibration = &textIdentity{Digest: t.Digest, Tokens: t.Tokens, SeqLen: t.SeqLen, Seed: t.Seed, Files: t.Files, Builtin: t.Builtin}
		id.Kernels = compute.KernelClass(opts.Compute)
	}
	for _, c := range src.Copies {
		id.Files[c.Name] = c.SHA256
	}
	for name, w := range r.widths {
		id.Modules[name] = w.String()
	}
	for _, w := range src.Tensors {
		for _, t := range append([]*safetensors.Tensor{w.Tensor}, w.Twins...) {
			id.Tensors[t.Name] = fmt.Sprintf("%s %v", t.DType, t.Shape)
		}
	}
	return json.Marshal(id)
}
