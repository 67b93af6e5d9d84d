package adapter

import (
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"afmq/internal/infile"
	"afmq/internal/kernel"
	"afmq/pkg/fault"
	"afmq/pkg/model"
	"afmq/pkg/safetensors"
)

// The files of an adapter, as PEFT names them.
const (
	ConfigFile  = "adapter_config.json"
	WeightsFile = "adapter_model.safetensors"
)

// Keys in the metadata of adapter_model.safetensors: the content hash of the base
// artifact, and the hex SHA-256 of the files that the adapter was trained on, joined by
// commas.
const (
	BaseKey = "afmq_base_content_hash"
	DataKey = "afmq_training_files"
)

// maxAdapterConfig is the size of the largest adapter_config.json that is read. It may list every
// module by name.
const maxAdapterConfig = 16 << 20

// TensorNames returns the names of the two tensors of a module's adapter.
func TensorNames(module string) (a, b string) {
	prefix := "base_model.model." + module
	return prefix + ".lora_A.weight", prefix + ".lora_B.weight"
}

// Read reads the LoRA adapter in dir, as PEFT or afmq writes it, for a model of this config. It
// must have every tensor that adapter_config.json implies, in its exact shape, as F16, BF16, F32 or
// F8_E4M3 and with finite values, and no other. Errors are of kind [fault.Input].
func Read(dir string, cfg *model.Config) (*Adapter, error) {
	if err := checkDir(dir); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, ConfigFile)
	data, err := infile.ReadBounded(path, maxAdapterConfig)
	if err != nil {
		return nil, err
	}
	config, err := ParseConfig(path, data, cfg)
	if err != nil {
		return nil, err
	}
	file, err := safetensors.Open(filepath.Join(dir, WeightsFile))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	a := &Adapter{Dir: dir, Config: *config, Modules: map[string]Weights{}}
	if err := a.load(file, cfg); err != nil {
		return nil, err
	}
	return a, nil
}

func (a *Adapter) load(file *safetensors.File, cfg *model.Config) error {
	path := filepath.Join(a.Dir, WeightsFile)
	info, err := os.Stat(path)
	if err != nil {
		return fault.Reading(path, err)
	}
	a.Bytes = info.Size()
	if a.Base = file.Metadata()[BaseKey]; a.Base != "" && !infile.IsSHA256(a.Base) {
		return fault.Inputf(path, "%s: %.80q is not a SHA-256 in lower-case hex", BaseKey, a.Base)
	}
	if files := file.Metadata()[DataKey]; files != "" {
		a.Data = strings.Split(files, ",")
	}
	if a.Passages, err = parsePassages(file.Metadata()[PassagesKey]); err != nil {
		return fault.Inputf(path, "%v", err)
	}
	exponent, err := readExponent(file.Metadata()[ExponentKey])
	if err != nil {
		return fault.Inputf(path, "%v", err)
	}
	used, eight := map[string]bool{}, true
	matrix := func(name string, rows, cols int) (v []float32, dtype safetensors.DType, err error) {
		used[name] = true
		t, ok := file.Tensor(name)
		if !ok {
			return nil, dtype, fault.Inputf(path, "tensor %q is missing", name)
		}
		if !slices.Equal(t.Shape, []int{rows, cols}) {
			return nil, dtype, fault.Inputf(path, "tensor %q has shape %v; %s and the model require [%d %d]", name, t.Shape, ConfigFile, rows, cols).
				WithHint("an adapter runs with the model that it was trained on; this one has other shapes")
		}
		if types := append(safetensors.FloatTypes(), safetensors.F8E4M3); !slices.Contains(types, t.DType) {
			return nil, dtype, fault.Inputf(path, "tensor %q is %s; expected %s", name, t.DType, safetensors.DTypeNames(types))
		}
		if err := t.CheckFinite(); err != nil {
			return nil, dtype, err
		}
		a.TensorBytes += int64(len(t.Bytes()))
		v = make([]float32, rows*cols)
		dtype = t.DType
		if dtype == safetensors.F8E4M3 {
			dtype = safetensors.F16 // which has all of its values
		} else {
			eight = false
		}
		return v, dtype, t.Float32(v, 0)
	}
	return safetensors.Guard(path, func() error {
		for _, spec := range cfg.Tensors() {
			module := spec.Module()
			if spec.Role != model.Projection || !slices.Contains(a.Config.Modules, module) {
				continue
			}
			rank := a.Config.RankOf(module)
			nameA, nameB := TensorNames(module)
			var w Weights
			var err error
			if w.A, w.DType, err = matrix(nameA, rank, spec.Shape[1]); err != nil {
				return err
			}
			var other safetensors.DType
			if w.B, other, err = matrix(nameB, spec.Shape[0], rank); err != nil {
				return err
			}
			if other != w.DType {
				w.DType = safetensors.F32 // the only type that represents the values of both
			}
			a.Modules[module] = w
		}
		for _, name := range file.Names() {
			if !used[name] {
				return fault.Inputf(path, "tensor %q is not of a module that %s names", name, ConfigFile)
			}
		}
		if exponent == 0 {
			return nil
		}
		if !eight {
			return fault.Inputf(path, "%s is for tensors of F8_E4M3 only", ExponentKey)
		}
		a.moveBack(exponent)
		return nil
	})
}

// Write writes the two files of the adapter a to the existing directory a.Dir: the weights rounded
// to dtype, F16, F32 or F8_E4M3, with the content hash a.Base of the artifact that it belongs to. A
// value outside the range of the type is an error that names it. adapter_config.json is written last,
// by writeFile, so that an adapter that has it is complete.
//
// In F8_E4M3, whose normal numbers begin at 2^-6, A and B are stored times 2^e and lora_alpha over 4^e,
// with the largest e for which all values fit, so that PEFT, which converts the type, computes the
// same product. [Read] takes e from the metadata and undoes it.
func Write(a *Adapter, cfg *model.Config, dtype safetensors.DType, writeFile func(path string, data []byte) error) error {
	c, modules := &a.Config, a.Modules
	metadata := map[string]string{"format": "pt", BaseKey: a.Base}
	if dtype == safetensors.F8E4M3 {
		f := newFloat8(a.Modules, c.RankOf)
		if err := f.check(); err != nil {
			return fmt.Errorf("adapter %w", err)
		}
		stored := f.config(a.Config)
		for _, alpha := range append(slices.Collect(maps.Values(stored.Alphas)), stored.Alpha) {
			if !usableAlpha(alpha) {
				return fmt.Errorf("adapter: its values and a lora_alpha of %v are outside the range of F8_E4M3", a.Config.Alpha)
			}
		}
		c, modules, metadata[ExponentKey] = &stored, f.modules, strconv.Itoa(f.exponent)
	}
	var infos []safetensors.Info
	var values [][]float32
	for _, spec := range cfg.Tensors() {
		module := spec.Module()
		if spec.Role != model.Projection || !slices.Contains(c.Modules, module) {
			continue
		}
		w, rank := modules[module], c.RankOf(module)
		nameA, nameB := TensorNames(module)
		infos = append(infos,
			safetensors.Info{Name: nameA, DType: dtype, Shape: []int{rank, spec.Shape[1]}},
			safetensors.Info{Name: nameB, DType: dtype, Shape: []int{spec.Shape[0], rank}})
		values = append(values, w.A, w.B)
	}
	if len(a.Data) > 0 {
		metadata[DataKey] = strings.Join(a.Data, ",")
	}
	if len(a.Passages) > 0 {
		metadata[PassagesKey] = strings.Join(a.Passages, ",")
	}
	w, err := safetensors.Create(filepath.Join(a.Dir, WeightsFile), infos, metadata)
	if err != nil {
		return err
	}
	for i, v := range values {
		data, err := encodeFloats(v, dtype)
		if err == nil {
			err = w.Append(data)
		}
		if err != nil {
			w.Abort()
			return fmt.Errorf("adapter tensor %q: %w", infos[i].Name, err)
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return writeFile(filepath.Join(a.Dir, ConfigFile), c.Encode(cfg))
}

// encodeFloats returns the bytes of values, rounded to a type.
func encodeFloats(v []float32, dtype safetensors.DType) ([]byte, error) {
	if dtype == safetensors.F32 {
		return binary.Append(nil, binary.LittleEndian, v)
	}
	if dtype == safetensors.F8E4M3 {
		b := make([]byte, len(v))
		for i, x := range v {
			b[i] = safetensors.E4M3(x)
		}
		return b, nil
	}
	half := make([]uint16, len(v))
	kernel.F32ToF16(half, v)
	for i, h := range half {
		if h&0x7c00 == 0x7c00 {
			return nil, fmt.Errorf("%v at index %d is outside the range of F16", v[i], i)
		}
	}
	return binary.Append(nil, binary.LittleEndian, half)
}
