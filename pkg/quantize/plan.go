package quantize

import (
	"encoding/json"
	"fmt"

	"afmq/internal/fault"
	"afmq/internal/stage"
	"afmq/pkg/infer"
	"afmq/pkg/safetensors"
	"afmq/pkg/sensitivity"
)

// arithmetic is what the manifest records of how values were chosen: float32
// inputs, sums in float64 in a fixed order.
const arithmetic = "f32"

// item is one tensor of the model with what becomes of it.
type item struct {
	weight
	sensitivity.Width
	outs []safetensors.Info // in the order in which they are written
}

// job is everything about a run that is known before any weight is read.
type job struct {
	opts     Options
	src      *source
	items    []item
	infos    []safetensors.Info       // of all items
	config   []byte                   // the artifact's config.json
	header   int64                    // bytes of model.safetensors before the first tensor
	total    int64                    // bytes of model.safetensors
	identity []byte                   // what must be equal for a run to go on with another's state
	text     *sensitivity.Calibration // nil without calibration
}

func newJob(src *source, opts Options, text *sensitivity.Calibration) (*job, error) {
	widths, err := sensitivity.Widths(src.cfg, opts.Bits, opts.Overrides)
	if err != nil {
		return nil, err
	}
	j := &job{opts: opts, src: src, text: text}
	var exceptions []moduleBits
	for _, w := range src.weights {
		it := item{weight: w, Width: sensitivity.Width{Form: infer.Plain}}
		if wd, ok := widths[sensitivity.ModuleName(w.spec.Name)]; ok && len(w.spec.Shape) == 2 {
			it.Width = wd
			if b, ok := exception(w.spec.Role, wd.Form, wd.Bits, opts.Bits); ok {
				exceptions = append(exceptions, moduleBits{sensitivity.ModuleName(w.spec.Name), b})
			}
		}
		it.outs = infer.StoredInfos(w.spec, w.src.DType, it.Form, it.Bits, opts.GroupRows, opts.RowScale)
		j.infos = append(j.infos, it.outs...)
		j.items = append(j.items, it)
	}
	if j.config, err = artifactConfig(src.rawConfig, opts.Bits, opts.GroupRows, exceptions); err != nil {
		return nil, err
	}
	if j.header, j.total, err = safetensors.FileSize(j.infos, infer.ArtifactMetadata()); err != nil {
		return nil, err
	}
	j.identity, err = j.describe()
	return j, err
}

// describe returns the identity of the job as JSON whose keys and values can be
// shown to a person when they differ. That the source's weights are the same is
// checked by their digests when a run goes on.
func (j *job) describe() ([]byte, error) {
	files := map[string]string{configFile: hexSum(j.src.rawConfig)}
	for _, c := range j.src.copies {
		files[c.Name] = c.SHA256
	}
	modules := map[string]string{}
	for _, it := range j.items {
		if len(it.spec.Shape) == 2 {
			modules[sensitivity.ModuleName(it.spec.Name)] = it.Width.String()
		}
	}
	tensors := map[string]string{}
	for _, it := range j.items {
		for _, t := range append([]*safetensors.Tensor{it.src}, it.twin...) {
			tensors[t.Name] = fmt.Sprintf("%s %v", t.DType, t.Shape)
		}
	}
	calibration := ""
	if j.text != nil {
		calibration = j.text.Record.Digest
	}
	return json.Marshal(struct {
		Job          string            `json:"job"`
		ToolVersion  string            `json:"tool_version"`
		Bits         int               `json:"bits"`
		GroupRows    int               `json:"group_rows"`
		RowScale     bool              `json:"row_scale"`
		Compensation string            `json:"compensation"`
		Calibration  string            `json:"calibration"`
		Modules      map[string]string `json:"modules"`
		Files        map[string]string `json:"files"`
		Tensors      map[string]string `json:"tensors"`
	}{"quantize/v1", j.opts.ToolVersion, j.opts.Bits, j.opts.GroupRows, j.opts.RowScale, j.opts.Compensate, calibration, modules, files, tensors})
}

// needBytes is the space that the finished directory and the journal take, the
// manifest and the journal by an upper bound.
func (j *job) needBytes() int64 {
	n := j.total + int64(len(j.config))
	for _, c := range j.src.copies {
		n += c.Bytes
	}
	n += 64 << 10
	for _, it := range j.items {
		for _, o := range it.outs {
			n += 2 * int64(len(o.Name)+256)
		}
		n += 2 * int64(len(it.spec.Name)+256) * int64(1+len(it.twin))
	}
	return n
}

func (j *job) open() (*stage.Dir, error) {
	return stage.Open(j.opts.Out, j.identity, stage.Options{NeedBytes: j.needBytes(), Restart: j.opts.Restart})
}

// sourceBytes is the size of the item in the checkpoint, without twins.
func (it *item) sourceBytes() int64 {
	return int64(it.src.NumElements()) * int64(it.src.DType.Size())
}

// inputf reports what is wrong with the source of an item.
func (it *item) inputf(format string, args ...any) error {
	return fault.Inputf(it.src.Path(), "tensor %q: %s", it.src.Name, fmt.Sprintf(format, args...))
}
