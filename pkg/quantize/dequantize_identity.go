package quantize

import (
	"context"
	"encoding/json"
	"path/filepath"

	"afmq/internal/stage"
	"afmq/pkg/adapter"
	"afmq/pkg/artifact"
)

// dequantizeIdentity is everything that the checkpoint depends on. The manifest has the
// digest of every file of the artifact.
type dequantizeIdentity struct {
	Job         string            `json:"job"`
	ToolVersion string            `json:"tool_version"`
	Manifest    string            `json:"manifest"` // SHA-256
	Adapter     map[string]string `json:"adapter"`  // SHA-256 by file; empty without an adapter
	DType       string            `json:"dtype"`
}

// dequantizeNames are the inputs that set the keys of a dequantizeIdentity.
var dequantizeNames = []stage.Name{
	{Key: "adapter", Words: "--adapter"},
	{Key: "adapter." + adapter.WeightsFile, Words: "the adapter"},
	{Key: "dtype", Words: "--dtype"},
	{Key: "manifest", Words: "the artifact, by its manifest,"},
}

// identity returns the identity of a run as JSON.
func (d *dequantizer) identity(ctx context.Context, opts DequantizeOptions) ([]byte, error) {
	manifest, err := artifact.HashFile(ctx, filepath.Join(d.a.Dir, artifact.ManifestFile), artifact.ManifestFile, nil)
	if err != nil {
		return nil, err
	}
	id := dequantizeIdentity{Job: "dequantize/v3", ToolVersion: opts.ToolVersion, Manifest: manifest.SHA256, Adapter: map[string]string{}, DType: d.dtype.String()}
	if opts.Adapter != "" {
		for _, name := range []string{adapter.ConfigFile, adapter.WeightsFile} {
			digest, err := artifact.HashFile(ctx, filepath.Join(opts.Adapter, name), name, nil)
			if err != nil {
				return nil, err
			}
			id.Adapter[name] = digest.SHA256
		}
	}
	return json.Marshal(id)
}
