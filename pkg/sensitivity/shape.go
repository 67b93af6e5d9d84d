package sensitivity

import (
	"fmt"

	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/model"
	"afmq/pkg/safetensors"
)

// Shape determines the size of an artifact: the configuration of a model and the data types
// of the tensors in its checkpoint.
type Shape struct {
	Config *model.Config
	DTypes map[string]safetensors.DType // by canonical name
}

// ReadShape returns the shape of an open checkpoint; dir is the name in errors. A tensor that
// is missing, or is not F16, BF16 or F32, is an error of kind fault.Input.
func ReadShape(cfg *model.Config, ckpt *safetensors.Checkpoint, dir string) (*Shape, error) {
	s := &Shape{Config: cfg, DTypes: map[string]safetensors.DType{}}
	for _, spec := range cfg.Tensors() {
		t, ok := ckpt.Tensor(spec.Name)
		for _, alias := range cfg.Aliases(spec.Name) {
			if !ok {
				t, ok = ckpt.Tensor(alias)
			}
		}
		if !ok {
			return nil, fault.Inputf(dir, "tensor %q is missing", spec.Name)
		}
		if _, float := parseDType(t.DType.String()); !float {
			return nil, fault.Inputf(t.Path(), "tensor %q is %s; only F16, BF16 and F32 can be quantized", t.Name, t.DType)
		}
		s.DTypes[spec.Name] = t.DType
	}
	return s, nil
}

// Storage holds the parameters of palettes that all modules of an artifact share.
type Storage struct {
	GroupRows int  // output rows that share a look-up table
	RowScale  bool // every palettized row has an fp16 scale
}

// infos returns the tensors of an artifact whose modules have these widths, in the order of
// the file.
func (s *Shape) infos(st Storage, widths map[string]Width) []safetensors.Info {
	var out []safetensors.Info
	for _, spec := range s.Config.Tensors() {
		w, ok := widths[spec.Module()]
		out = append(out, s.storedInfos(spec, st, w, ok)...)
	}
	return out
}

// storedInfos returns the tensors that store one tensor of the model. Only matrices have
// widths; all else is stored unchanged.
func (s *Shape) storedInfos(spec model.TensorSpec, st Storage, w Width, hasWidth bool) []safetensors.Info {
	if !hasWidth || len(spec.Shape) != 2 {
		w = Width{Form: artifact.Plain}
	}
	return artifact.StoredInfos(spec, s.DTypes[spec.Name], w.Form, w.Bits, st.GroupRows, st.RowScale)
}

// headerBytes returns the length of the file's header before it is padded to a multiple of 8
// bytes. safetensors reports the padded length; how many characters can be added to the
// metadata before that grows is the padding.
func (s *Shape) headerBytes(st Storage, widths map[string]Width) (int64, error) {
	infos, metadata := s.infos(st, widths), artifact.Metadata()
	padded, _, err := safetensors.FileSize(infos, metadata)
	if err != nil {
		return 0, err
	}
	for padding := range int64(8) {
		metadata["format"] += " "
		longer, _, err := safetensors.FileSize(infos, metadata)
		if err != nil {
			return 0, err
		}
		if longer > padded {
			return padded - padding, nil
		}
	}
	return 0, fmt.Errorf("sensitivity: a safetensors header is padded by more than 7 bytes")
}

// Size is the size of an artifact.
type Size struct {
	FileBytes      int64 // of model.safetensors, header included
	ProjectionBits int64 // of the projections, tables and scales included
	Projections    int64 // weights of the projections
	Bytes          int64 // of all stored tensors, without the header
	Weights        int64 // parameters of the model
	BPW            artifact.BitsPerWeight
}

// Measure computes the size of an artifact with these widths.
func (s *Shape) Measure(st Storage, widths map[string]Width) (Size, error) {
	infos := s.infos(st, widths)
	_, total, err := safetensors.FileSize(infos, artifact.Metadata())
	if err != nil {
		return Size{}, err
	}
	layout, err := s.layout(st, infos)
	if err != nil {
		return Size{}, err
	}
	size := Size{FileBytes: total, BPW: artifact.MeasureBits(layout)}
	for i := range layout {
		l := &layout[i]
		size.Bytes += l.Bytes
		size.Weights += l.Weights()
		if l.Counted() {
			size.ProjectionBits += 8 * l.Bytes
			size.Projections += l.Weights()
		}
	}
	return size, nil
}

// Layout returns the stored form of every tensor of the model in an artifact with these
// widths.
func (s *Shape) Layout(st Storage, widths map[string]Width) ([]artifact.StoredTensor, error) {
	return s.layout(st, s.infos(st, widths))
}

func (s *Shape) layout(st Storage, infos []safetensors.Info) ([]artifact.StoredTensor, error) {
	digests := make([]artifact.TensorDigest, len(infos))
	for i, info := range infos {
		digests[i] = artifact.TensorDigest{Name: info.Name, DType: info.DType.String(), Shape: info.Shape}
	}
	return artifact.StoredLayout(s.Config, st.GroupRows, digests)
}

// moduleBytes returns the data bytes of one matrix of the model in an artifact.
func (s *Shape) moduleBytes(spec model.TensorSpec, st Storage, w Width) (int64, error) {
	n := int64(0)
	for _, info := range artifact.StoredInfos(spec, s.DTypes[spec.Name], w.Form, w.Bits, st.GroupRows, st.RowScale) {
		b, err := artifact.TensorDigest{Name: info.Name, DType: info.DType.String(), Shape: info.Shape}.Size()
		if err != nil {
			return 0, err
		}
		n += b
	}
	return n, nil
}
