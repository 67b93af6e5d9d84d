package quantize

import (
	"encoding/json"
	"fmt"

	"afmq/internal/infile"
	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/safetensors"
	"afmq/pkg/sensitivity"
)

// item is one tensor of the model with what becomes of it.
type item struct {
	artifact.SourceTensor
	sensitivity.Width
	outs []safetensors.Info // in the order in which they are written
}

// job is everything about a run that is known before any weight is read.
type job struct {
	opts   Options
	src    *artifact.Source
	items  []item
	infos  []safetensors.Info       // of all items
	config []byte                   // the artifact's config.json
	header int64                    // bytes of model.safetensors before the first tensor
	total  int64                    // bytes of model.safetensors
	text   *sensitivity.Calibration // nil without calibration
}

// newJob plans a run in which every matrix has its width.
func newJob(src *artifact.Source, opts Options, text *sensitivity.Calibration, widths map[string]sensitivity.Width) (*job, error) {
	j := &job{opts: opts, src: src, text: text}
	var exceptions []artifact.ModuleBits
	for _, w := range src.Tensors {
		it := item{SourceTensor: w, Width: sensitivity.Width{Form: artifact.Plain}}
		if wd, ok := widths[w.Spec.Module()]; ok && len(w.Spec.Shape) == 2 {
			it.Width = wd
			if b, ok := artifact.Exception(w.Spec.Role, wd.Form, wd.Bits, opts.Bits); ok {
				exceptions = append(exceptions, artifact.ModuleBits{Name: w.Spec.Module(), Bits: b})
			}
		}
		it.outs = artifact.StoredInfos(w.Spec, w.Tensor.DType, it.Form, it.Bits, opts.GroupRows, opts.RowScale)
		j.infos = append(j.infos, it.outs...)
		j.items = append(j.items, it)
	}
	var err error
	if j.config, err = artifact.EncodeConfig(src.RawConfig, opts.Bits, opts.GroupRows, exceptions); err != nil {
		return nil, err
	}
	j.header, j.total, err = safetensors.FileSize(j.infos, artifact.Metadata())
	return j, err
}

// identity returns what must be equal for a run to go on with another's state, as JSON
// whose keys and values can be shown to a person when they differ. widths is nil for a
// request, whose outcome follows from the rest and from the weights, of which weights is the
// digest then. That the source's weights are those that finished modules were made of is
// checked when a run goes on.
func identity(src *artifact.Source, opts Options, text *sensitivity.Calibration, widths map[string]sensitivity.Width, weights string) ([]byte, error) {
	id := struct {
		Job          string                   `json:"job"`
		ToolVersion  string                   `json:"tool_version"`
		Bits         int                      `json:"bits"`
		GroupRows    int                      `json:"group_rows"`
		RowScale     bool                     `json:"row_scale"`
		Compensation string                   `json:"compensation"`
		Calibration  string                   `json:"calibration"`
		Request      *sensitivity.PlanOptions `json:"request"`
		Method       sensitivity.Method       `json:"method"`
		Source       string                   `json:"source,omitempty"`
		Compute      string                   `json:"compute"`
		Modules      map[string]string        `json:"modules"`
		Files        map[string]string        `json:"files"`
		Tensors      map[string]string        `json:"tensors"`
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

// needBytes is the space that the finished directory and the journal take, the
// manifest and the journal by an upper bound.
func (j *job) needBytes() int64 {
	n := j.total + int64(len(j.config))
	for _, c := range j.src.Copies {
		n += c.Bytes
	}
	n += 64 << 10
	for _, it := range j.items {
		for _, o := range it.outs {
			n += 2 * int64(len(o.Name)+256)
		}
		n += 2 * int64(len(it.Spec.Name)+256) * int64(1+len(it.Twins))
	}
	return n
}

// sourceBytes is the size of the item in the checkpoint, without twins.
func (it *item) sourceBytes() int64 {
	return int64(it.Tensor.NumElements()) * int64(it.Tensor.DType.Size())
}

// inputf reports what is wrong with the source of an item.
func (it *item) inputf(format string, args ...any) error {
	return fault.Inputf(it.Tensor.Path(), "tensor %q: %s", it.Tensor.Name, fmt.Sprintf(format, args...))
}
