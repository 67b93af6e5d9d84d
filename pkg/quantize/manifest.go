package quantize

import (
	"fmt"

	"afmq/internal/infile"
	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/palettize"
)

// manifest describes the finished artifact.
func (j *job) manifest(records []record, weights artifact.FileDigest) (*artifact.Manifest, error) {
	m := &artifact.Manifest{
		Schema: artifact.ManifestSchema, ToolVersion: j.opts.ToolVersion, Arithmetic: j.opts.Compute.String(),
		Tokenizer: j.src.TokenizerDigest(),
		Plan: artifact.QuantizationRecord{
			Bits: j.opts.Bits, GroupRows: j.opts.GroupRows, RowScale: !j.opts.NoRowScale, Compensation: j.opts.Compensate,
			Grid: j.family, Choice: j.opts.choice(),
		},
		Files: append([]artifact.FileDigest{
			weights,
			{Name: artifact.ConfigFile, Bytes: int64(len(j.config)), SHA256: infile.SHA256(j.config)},
		}, j.src.Copies...),
	}
	if j.text != nil {
		m.Calibration, m.Seed = &j.text.Record, j.text.Record.Seed
	}
	var source []artifact.TensorDigest
	byName := map[string]record{}
	for i, r := range records {
		m.Tensors = append(m.Tensors, r.Tensors...)
		source = append(source, r.Source...)
		byName[j.items[i].Spec.Name] = r
	}
	m.Source = artifact.NewSourceDigest(infile.SHA256(j.src.RawConfig), source)
	if j.stats != nil && m.Source.Digest != j.stats.Source {
		return nil, fault.Inputf(j.opts.Stats, "the statistics are of other weights than those of %s", j.opts.Model).
			WithHint("give the checkpoint that they were collected from, or collect them again with afmq stats")
	}
	layout, err := artifact.StoredLayout(j.src.Config, j.opts.GroupRows, m.Tensors)
	if err != nil {
		return nil, fmt.Errorf("describing the artifact: %w", err)
	}
	for i := range layout {
		if st := &layout[i]; len(st.Spec.Shape) == 2 {
			r := byName[st.Spec.Name]
			pm := artifact.NewModuleRecord(st, palettize.Report{SquaredError: r.SquaredError, SquaredNorm: r.SquaredNorm}.RelError())
			pm.OutputError, pm.Warning = r.OutputError, r.Warning
			m.Plan.Modules = append(m.Plan.Modules, pm)
		}
	}
	m.BPW = artifact.MeasureBits(layout)
	if m.Ledger, err = artifact.NewLedger(m.Tensors, j.total); err != nil {
		return nil, fmt.Errorf("describing the artifact: %w", err)
	}
	if m.Ledger.Container != j.header {
		return nil, fault.Writing(j.opts.Out, fmt.Errorf("the ledger does not add up: the container has %d bytes, the header %d", m.Ledger.Container, j.header))
	}
	return m, nil
}
