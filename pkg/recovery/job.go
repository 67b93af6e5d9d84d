package recovery

import (
	"encoding/json"
	"path/filepath"

	"afmq/internal/infile"
	"afmq/pkg/adapter"
)

// job describes the run: everything that its result depends on.
func (r *run) job() ([]byte, error) {
	o := r.opts
	job := map[string]any{
		"job": "recover/v1", "tool_version": o.ToolVersion,
		"artifact": r.manifest.ContentHash, "teacher": r.teacherDigest, "data": r.data.Files,
		"ranks": o.Ranks, "loss": o.Loss, "mix": o.Mix, "temperature": o.Temperature,
		"tokens": o.Tokens, "seq_len": o.SeqLen, "batch_tokens": o.BatchTokens, "rate": o.Rate, "warmup": max(o.Warmup, 0),
		"weight_decay": o.WeightDecay, "clip": max(o.Clip, 0), "seed": o.Seed, "validation": o.Validation, "float32": o.Float32,
		"init_tokens": o.InitTokens, "compute": o.Compute.String(),
	}
	if o.From != "" {
		sum, err := infile.Hash(filepath.Join(o.From, adapter.WeightsFile))
		if err != nil {
			return nil, err
		}
		job["from"] = sum
	} else {
		job["init"] = o.Init
		job["alpha"], job["rslora"], job["targets"], job["rank_pattern"] = o.Alpha, o.RSLoRA, o.Targets, o.Pattern
	}
	return json.Marshal(job)
}
