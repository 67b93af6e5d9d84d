package quantize

import (
	"encoding/json"
	"fmt"

	"afmq/internal/infile"
	"afmq/pkg/artifact"
	"afmq/pkg/safetensors"
	"afmq/pkg/sensitivity"
)

// identity returns what must be equal for a run to go on with another's state, as JSON
// whose keys and values can be shown to a person when they differ. widths is nil for a
// request, whose outcome follows from the rest and from the weights, of which weights is the
// digest then. That the source's weights are those that finished modules were made of is
// checked when a run goes on.
func identity(src *artifact.Source, opts Options, text *sensitivity.Calibration, widths map[string]sensitivity.Width, weights string) ([]byte, error) {
	id := struct {
		Job          string               `json:"job"`
		ToolVersion  string               `json:"tool_version"`
		Bits         int                  `json:"bits"`
		GroupRows    int                  `json:"group_rows"`
		RowScale     bool                 `json:"row_scale"`
		Compensation string               `json:"compensation"`
		Calibration  string               `json:"calibration"`
		Request      *sensitivity.Request `json:"request"`
		Method       sensitivity.Method   `json:"method"`
		Source       string               `json:"source,omitempty"`
		Compute      string               `json:"compute"`
		Modules      map[string]string    `json:"modules"`
		Files        map[string]string    `json:"files"`
		Tensors      map[string]string    `json:"tensors"`
	}{
		Job: "quantize/v1", ToolVersion: opts.ToolVersion, Bits: opts.Bits, GroupRows: opts.GroupRows, RowScale: opts.RowScale,
		Compensation: opts.Compensate, Request: opts.Request, Method: opts.Method, Compute: opts.Compute.String(), Source: weights,
		Modules: map[string]string{}, Files: map[string]string{artifact.ConfigFile: infile.SHA256(src.RawConfig)}, Tensors: map[string]string{},
	}
	if text != nil {
		id.Calibration = text.Record.Digest
	}
	for _, c := range src.Copies {
		id.Files[c.Name] = c.SHA256
	}
	for name, w := range widths {
		id.Modules[name] = w.String()
	}
	for _, w := range src.Tensors {
		for _, t := range append([]*safetensors.Tensor{w.Tensor}, w.Twins...) {
			id.Tensors[t.Name] = fmt.Sprintf("%s %v", t.DType, t.Shape)
		}
	}
	return json.Marshal(id)
}
