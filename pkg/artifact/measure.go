package artifact

import (
	"afmq/pkg/ggufmodel"
	"afmq/pkg/model"
	"afmq/pkg/safetensors"
)

// Measure returns the bits per weight of the checkpoint, the artifact or the GGUF file at path, and
// the parameters of its model. It reads headers and, of an artifact, the manifest, but no weights.
// Errors are of kind [fault.Input].
func Measure(path string) (bpw BitsPerWeight, parameters int64, err error) {
	layout, err := layoutOf(path)
	if err != nil {
		return bpw, 0, err
	}
	for i := range layout {
		parameters += layout[i].Weights()
	}
	return MeasureBits(layout), parameters, nil
}

// layoutOf returns how the model at path stores each tensor.
func layoutOf(path string) ([]StoredTensor, error) {
	if ggufmodel.Is(path) {
		g, err := ggufmodel.Open(path)
		if err != nil {
			return nil, err
		}
		defer g.Close()
		layout := make([]StoredTensor, len(g.Tensors))
		for i := range g.Tensors {
			layout[i] = storedGGUF(&g.Tensors[i])
		}
		return layout, nil
	}
	cfg, err := model.LoadConfig(path)
	if err != nil {
		return nil, err
	}
	if IsArtifact(path) {
		m, err := ReadManifest(path)
		if err != nil {
			return nil, err
		}
		return StoredLayout(cfg, m.Plan.GroupRows, m.Tensors)
	}
	ckpt, err := safetensors.OpenCheckpoint(path)
	if err != nil {
		return nil, err
	}
	defer ckpt.Close()
	finder := NewTensorFinder(path, ckpt, cfg)
	var layout []StoredTensor
	for _, spec := range cfg.Tensors() {
		t, _, err := finder.Dense(spec)
		if err != nil {
			return nil, err
		}
		layout = append(layout, storedPlain(spec, t))
	}
	return layout, nil
}

// storedPlain describes a tensor of a checkpoint.
func storedPlain(spec model.TensorSpec, t *safetensors.Tensor) StoredTensor {
	return StoredTensor{Spec: spec, Form: Plain, Bits: 8 * t.DType.Size(), Bytes: int64(len(t.Bytes())), Names: []string{t.Name}}
}
