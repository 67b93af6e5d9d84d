package coreai

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"

	"afmq/internal/disk"
	"afmq/internal/infile"
	"afmq/internal/stage"
	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/safetensors"
)

// tokenizerDir is the directory of a bundle that has the tokenizer.
const tokenizerDir = "tokenizer"

// tokenizerFiles are the files of an artifact that belong to its tokenizer, where it has them.
var tokenizerFiles = []string{
	"added_tokens.json", "chat_template.jinja", "chat_template.json", artifact.ConfigFile, "generation_config.json",
	"merges.txt", "special_tokens_map.json", artifact.TokenizerFile, "tokenizer.model", "tokenizer_config.json", "vocab.json",
}

// bundleMetadata is metadata.json, schema 0.2 of Apple's coreai-models.
type bundleMetadata struct {
	Version     string            `json:"metadata_version"`
	Kind        string            `json:"kind"`
	Name        string            `json:"name"`
	Assets      map[string]string `json:"assets"`
	Language    language          `json:"language"`
	Compression string            `json:"compression,omitempty"`
	UserData    map[string]string `json:"user_data"` // source is for an origin on Hugging Face
}

type language struct {
	Tokenizer         string              `json:"tokenizer"`
	VocabSize         int                 `json:"vocab_size"`
	MaxContextLength  int                 `json:"max_context_length"`
	EmbeddedTokenizer bool                `json:"embedded_tokenizer"`
	FunctionMap       map[string][]string `json:"function_map,omitempty"`
}

// writeBundle writes metadata.json, the tokenizer and adapters as inputs.
func (e *exporter) writeBundle(ctx context.Context, sd *stage.Dir, r *Result) error {
	m := bundleMetadata{
		Version: "0.2", Kind: "llm", Name: e.Name, Assets: map[string]string{"main": e.asset()},
		Language: language{
			Tokenizer: e.Name, VocabSize: e.s.Config.VocabSize, MaxContextLength: e.Context, EmbeddedTokenizer: true,
		},
		Compression: e.compression(),
		UserData:    map[string]string{"afmq_content_hash": r.ContentHash},
	}
	if e.Shape == Dynamic { // a static program's functions are found by their names
		m.Language.FunctionMap = map[string][]string{"main": {"main"}}
	}
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if err := sd.WriteFile("metadata.json", append(data, '\n')); err != nil {
		return err
	}
	if err := sd.Mkdir(tokenizerDir); err != nil {
		return err
	}
	for _, name := range tokenizerFiles {
		data, err := infile.Read(filepath.Join(e.s.Dir, name), artifact.MaxCopiedBytes)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := disk.WriteFile(filepath.Join(sd.Path(tokenizerDir), name), data); err != nil {
			return err
		}
	}
	if e.AdapterInputs {
		return e.writeAdapterInputs(ctx, sd)
	}
	return nil
}

// warnings says what the runner of Apple's coreai-models (commit 86b363d) will not take.
func (e *exporter) warnings() []string {
	var out []string
	// StaticShapeEngine takes the largest dimension of a cache for its length, and swift-transformers
	// has no tokenizer class without tokenizer_config.json.
	if n := max(e.s.Config.KVHeads*e.s.Config.HeadDim, e.s.Config.Layers); e.Shape == Static && e.Context <= n {
		out = append(out, fmt.Sprintf("Apple's runner takes the largest dimension of a cache for its length and does not run this bundle: %d is not above the %d channels or layers; choose a larger --ctx", e.Context, n))
	}
	if _, err := os.Stat(filepath.Join(e.s.Dir, "tokenizer_config.json")); errors.Is(err, fs.ErrNotExist) {
		out = append(out, "the artifact has no tokenizer_config.json, which Apple's runner needs; copy the checkpoint's to "+filepath.Join(e.Out, tokenizerDir))
	}
	return out
}

// compression describes the weights in a few words; it is empty if there are no palettes.
func (e *exporter) compression() string {
	low, high := 0, 0
	for i := range e.s.Layout {
		st := &e.s.Layout[i]
		if st.Form != artifact.Palette {
			continue
		}
		m, err := e.s.Palette(st)
		if err != nil {
			panic("coreai: " + err.Error()) // OpenVerified read it
		}
		if low == 0 || m.Bits < low {
			low = m.Bits
		}
		high = max(high, m.Bits)
	}
	switch low {
	case 0:
		return ""
	case high:
		return strconv.Itoa(low) + "-bit palettes"
	}
	return strconv.Itoa(low) + "- to " + strconv.Itoa(high) + "-bit palettes"
}

// writeAdapterInputs writes adapters/NAME.safetensors: the inputs of main_lora, in fp16.
func (e *exporter) writeAdapterInputs(ctx context.Context, sd *stage.Dir) error {
	const dir = "adapters"
	if err := sd.Mkdir(dir); err != nil {
		return err
	}
	c := &constants{byName: map[string]constant{}}
	inputs := e.adapterInputs(c)
	for _, a := range e.Adapters {
		var infos []safetensors.Info
		for _, in := range inputs {
			infos = append(infos, safetensors.Info{Name: in.Name, DType: safetensors.F16, Shape: in.Shape})
		}
		path := filepath.Join(sd.Path(dir), a.Name+".safetensors")
		w, err := safetensors.Create(path, infos, map[string]string{"afmq_base_content_hash": e.s.Manifest.ContentHash})
		if err != nil {
			return err
		}
		for _, in := range inputs {
			to := &halfWriter{e: e, name: in.Name + " of adapter " + a.Name, append: w.Append}
			if err := c.byName["input:"+a.Name+":"+in.Name].write(ctx, to); err != nil {
				w.Abort()
				return err
			}
		}
		if err := w.Close(); err != nil {
			return err
		}
	}
	return nil
}

// syncTree writes the files under dir, which another process wrote, to the disk.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return fault.Reading(path, err)
		}
		if d.IsDir() {
			return fault.Writing(path, disk.SyncDir(path))
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return fault.Writing(path, err)
		}
		defer f.Close()
		return fault.Writing(path, f.Sync())
	})
}

// sizeOf returns the bytes of the files under dir.
func sizeOf(dir string) (int64, error) {
	var n int64
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	})
	return n, fault.Reading(dir, err)
}

// halfWriter rounds float32 values that are written to it to fp16.
type halfWriter struct {
	e      *exporter
	name   string
	append func([]byte) error
}

func (h *halfWriter) Write(p []byte) (int, error) {
	values := make([]float32, len(p)/4)
	for i := range values {
		values[i] = math.Float32frombits(binary.LittleEndian.Uint32(p[4*i:]))
	}
	half := make([]uint16, len(values))
	if err := h.e.s.Round(half, values, h.name); err != nil {
		return 0, err
	}
	out := make([]byte, 0, 2*len(half))
	for _, x := range half {
		out = binary.LittleEndian.AppendUint16(out, x)
	}
	return len(p), h.append(out)
}
