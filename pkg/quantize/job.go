package quantize

import (
	"fmt"

	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/grid"
	"afmq/pkg/model"
	"afmq/pkg/safetensors"
	"afmq/pkg/sensitivity"
)

// item is one tensor of the model and its stored form.
type item struct {
	artifact.SourceTensor
	sensitivity.Width
	outs []safetensors.Info // stored tensors, in the order in which they are written
}

// job is the plan of a run: everything that is known before a weight is read.
type job struct {
	opts     Options
	src      *artifact.Source
	items    []item
	first    int                      // index of items[0] among the tensors of the model; of a shard
	infos    []safetensors.Info       // of all items
	config   []byte                   // the artifact's config.json
	header   int64                    // bytes of model.safetensors before the first tensor
	total    int64                    // bytes of model.safetensors
	text     *sensitivity.Calibration // nil without calibration; of statistics, its record alone
	stats    *sensitivity.Stats       // nil without statistics
	key      recordKey                // of the records in the journal
	identity []byte                   // of the run, as JSON
	family   string                   // of the grids; empty for palettes
}

// grid returns the grid of a matrix that is on one.
func (j *job) grid(it *item) (grid.Grid, bool) {
	if it.Form == artifact.Palette {
		return grid.Palette{Bits: it.Bits, GroupRows: j.opts.GroupRows, RowScale: !j.opts.NoRowScale}, true
	}
	return it.Form.Grid(artifact.ScaleType(it.Tensor.DType))
}

// runs returns, for every input of modules, how many columns error compensation keeps together.
func (j *job) runs() map[string]int {
	runs := map[string]int{}
	for i := range j.items {
		if g, ok := j.grid(&j.items[i]); ok {
			in := inputOf(j.items[i].Spec)
			runs[in] = max(runs[in], g.Run()) // one is a multiple of the other
		}
	}
	return runs
}

// newJob plans a run with these widths.
func newJob(src *artifact.Source, opts Options, text *sensitivity.Calibration, widths map[string]sensitivity.Width, identity []byte) (*job, error) {
	key, err := newRecordKey(identity, widths)
	if err != nil {
		return nil, err
	}
	j := &job{opts: opts, src: src, text: text, key: key, identity: identity, family: opts.family(widths)}
	var exceptions []artifact.ModuleBits
	for _, w := range src.Tensors {
		it := item{SourceTensor: w, Width: sensitivity.Width{Form: artifact.Plain}}
		if wd, ok := widths[w.Spec.Module()]; ok && len(w.Spec.Shape) == 2 {
			it.Width = wd
			if b, ok := artifact.Exception(w.Spec.Role, wd.Form, wd.Bits, opts.Bits); ok {
				exceptions = append(exceptions, artifact.ModuleBits{Name: w.Spec.Module(), Bits: b})
			}
		}
		it.outs = artifact.StoredInfos(w.Spec, w.Tensor.DType, it.Form, it.Bits, opts.GroupRows, !opts.NoRowScale)
		j.infos = append(j.infos, it.outs...)
		j.items = append(j.items, it)
	}
	if j.config, err = artifact.EncodeConfig(src.RawConfig, opts.Bits, opts.GroupRows, exceptions); err != nil {
		return nil, err
	}
	j.header, j.total, err = safetensors.FileSize(j.infos, artifact.Metadata())
	return j, err
}

// needBytes returns the size of the finished directory and the journal, with an upper bound
// for manifest and journal.
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

// firstOfInput reports whether a projection is the first in the order of the file that has its
// input.
func (it *item) firstOfInput() bool {
	switch it.Spec.Kind {
	case "k_proj", "v_proj", "up_proj":
		return false
	}
	return true
}

// residual reports whether the output of a projection is added to the residual stream, without a norm
// between.
func residual(cfg *model.Config, spec model.TensorSpec) bool {
	return cfg.Norms == model.PreNorm && (spec.Kind == "o_proj" || spec.Kind == "down_proj")
}

// sourceBytes returns the size of the item in the checkpoint, without its copies under other
// names.
func (it *item) sourceBytes() int64 {
	return int64(it.Tensor.NumElements()) * int64(it.Tensor.DType.Size())
}

// inputf returns an error about the source of an item.
func (it *item) inputf(format string, args ...any) error {
	return fault.Inputf(it.Tensor.Path(), "tensor %q: %s", it.Tensor.Name, fmt.Sprintf(format, args...))
}
