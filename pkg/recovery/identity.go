package recovery

import (
	"encoding/json"
	"path/filepath"

	"afmq/internal/infile"
	"afmq/internal/stage"
	"afmq/pkg/adapter"
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
)

// jobVersion changes whenever the same job would give other bytes: with the split of the
// data, the order of the sequences, the init or the optimizer.
const jobVersion = "recover/v3"

// jobNames are the flags that set the keys of the identity, and the inputs of the others.
var jobNames = []stage.Name{
	{Key: "ranks", Words: "--rank"},
	{Key: "rank_pattern", Words: "--rank-pattern"},
	{Key: "rank_allocation", Words: "--rank-allocation"},
	{Key: "targets", Words: "--targets"},
	{Key: "alpha", Words: "--alpha"},
	{Key: "rslora", Words: "--rslora"},
	{Key: "init", Words: "--init"},
	{Key: "init_tokens", Words: "--init-tokens"},
	{Key: "from", Words: "--from"},
	{Key: "loss", Words: "--loss"},
	{Key: "mix", Words: "--mix"},
	{Key: "temperature", Words: "--temperature"},
	{Key: "tokens", Words: "--tokens"},
	{Key: "seq_len", Words: "--seq-len"},
	{Key: "batch_tokens", Words: "--batch-tokens"},
	{Key: "rate", Words: "--rate"},
	{Key: "warmup", Words: "--warmup"},
	{Key: "weight_decay", Words: "--weight-decay"},
	{Key: "clip", Words: "--clip"},
	{Key: "seed", Words: "--seed"},
	{Key: "float32", Words: "--f32"},
	{Key: "float8", Words: "--f8"},
	{Key: "compute", Words: "--compute"},
	{Key: "teacher_top_k", Words: "--teacher-top-k"},
	{Key: "data", Words: "the text of --data"},
	{Key: "validation", Words: "--validation-tokens"},
	{Key: "artifact", Words: "the artifact"},
	{Key: "teacher", Words: "the teacher"},
}

// identity describes the run by everything that its result depends on, as a JSON object:
// options with their defaults filled in, and the content, not the path, of every input. A
// saved state is continued only by a run of equal identity, and recovery.json holds it as
// its job.
func (r *run) identity() ([]byte, error) {
	o := r.opts
	job, err := r.commonIdentity(jobVersion)
	if err != nil {
		return nil, err
	}
	job["ranks"], job["weight_decay"], job["float32"], job["init_tokens"] = o.Ranks, o.WeightDecay, o.Float32, o.InitTokens
	if o.TeacherTopK > 0 {
		job["teacher_top_k"] = o.TeacherTopK
	}
	if o.Float8 {
		job["float8"] = true
	}
	if o.RankAllocation == RanksByLoss {
		job["rank_allocation"] = o.RankAllocation
	}
	if o.From == "" {
		job["init"] = o.Init
		job["alpha"], job["rslora"], job["targets"], job["rank_pattern"] = o.Alpha, o.RSLoRA, o.Targets, o.Pattern
		return json.Marshal(job)
	}
	files, err := hashFiles(o.From, adapter.WeightsFile, adapter.ConfigFile)
	if err != nil {
		return nil, err
	}
	job["from"], job["from_config"] = files[adapter.WeightsFile], files[adapter.ConfigFile]
	return json.Marshal(job)
}

// commonIdentity returns what runs of adapters and of artifacts depend on.
func (r *run) commonIdentity(version string) (map[string]any, error) {
	o := r.opts
	// The content hash covers the artifact's tensors only.
	files, err := hashFiles(o.Artifact, artifact.ManifestFile, artifact.ConfigFile, artifact.TokenizerFile)
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"job": version, "tool_version": o.ToolVersion,
		"artifact": r.manifest.ContentHash, "artifact_manifest": files[artifact.ManifestFile],
		"artifact_config": files[artifact.ConfigFile], "artifact_tokenizer": files[artifact.TokenizerFile],
		"teacher": r.teacherDigest, "data": r.data.files, "data_formats": r.data.formats,
		"loss": o.Loss, "mix": o.Mix, "temperature": o.Temperature,
		"tokens": o.Tokens, "seq_len": o.SeqLen, "batch_tokens": o.BatchTokens, "rate": o.Rate, "warmup": max(o.Warmup, 0),
		"clip": max(o.Clip, 0), "seed": o.Seed, "validation": o.Validation,
		"compute": o.Compute.String(), "kernels": compute.KernelClass(o.Compute),
	}, nil
}

// hashFiles returns the hex SHA-256 of files in dir by their names.
func hashFiles(dir string, names ...string) (map[string]string, error) {
	sums := make(map[string]string, len(names))
	for _, name := range names {
		sum, err := infile.Hash(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		sums[name] = sum
	}
	return sums, nil
}
