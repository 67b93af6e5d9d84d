package coreai

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"math"
	"os"
	"strconv"
	"strings"

	"afmq/pkg/artifact"
	"afmq/pkg/export/internal/source"
	"afmq/pkg/fault"
)

// job is what the bridge compiles; it is written as job.json.
type job struct {
	Schema      string              `json:"schema"`
	Shape       Shape               `json:"shape"`
	Asset       string              `json:"asset"` // name of the directory that the bridge writes
	Description string              `json:"description"`
	Metadata    map[string]string   `json:"metadata"`
	Model       program             `json:"model"`
	Functions   []function          `json:"functions"`
	Constants   map[string]constant `json:"constants"`
}

// program describes the model.
type program struct {
	Layers            int     `json:"layers"`
	Hidden            int     `json:"hidden"`
	Heads             int     `json:"heads"`
	KVHeads           int     `json:"kv_heads"`
	HeadDim           int     `json:"head_dim"`
	Vocab             int     `json:"vocab"`
	Epsilon           float64 `json:"rms_norm_eps"`
	Windows           []int   `json:"windows"` // by layer; 0 for all positions
	Context           int     `json:"context"`
	Embedding         string  `json:"embedding"`
	Head              string  `json:"head"`
	EmbeddingExponent int     `json:"embedding_exponent"`
	HeadExponent      int     `json:"head_exponent"`
}

// function is one function of a dynamic program, or the prefix of those of a static one.
type function struct {
	Name    string  `json:"name"`
	Adapter string  `json:"adapter"` // empty for the base alone
	Inputs  []input `json:"adapter_inputs,omitempty"`
}

// input is a low-rank factor that a function takes as an input.
type input struct {
	Name  string `json:"name"`
	Shape []int  `json:"shape"`
}

// constant is one constant in constants.bin.
type constant struct {
	Type   string `json:"type"` // uint1 to uint8 (packed), int8, float16 or float32
	Shape  []int  `json:"shape"`
	Offset int64  `json:"offset"`
	Bytes  int64  `json:"bytes"`

	write func(context.Context, io.Writer) error
}

// constantAlign is the alignment of constants in the file, for the bridge's mapping.
const constantAlign = 64

// constants collects the constants of a job in the order of the file.
type constants struct {
	byName map[string]constant
	order  []string
	size   int64
}

// add appends a constant of n bytes.
func (c *constants) add(name, kind string, shape []int, n int64, write func(context.Context, io.Writer) error) {
	if _, ok := c.byName[name]; ok {
		return
	}
	at := (c.size + constantAlign - 1) / constantAlign * constantAlign
	c.byName[name] = constant{kind, shape, at, n, write}
	c.order = append(c.order, name)
	c.size = at + n
}

// floats appends a constant of float32 values; the bridge rounds them for an fp16 program.
func (c *constants) floats(name string, shape []int, write func(context.Context, io.Writer) error) {
	c.add(name, "float32", shape, 4*elements(shape), write)
}

func elements(shape []int) int64 {
	n := int64(1)
	for _, d := range shape {
		n *= int64(d)
	}
	return n
}

// writeTo writes constants.bin.
func (c *constants) writeTo(ctx context.Context, path string, advance func(int64)) error {
	f, err := os.Create(path)
	if err != nil {
		return fault.Writing(path, err)
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	var at int64
	for _, name := range c.order {
		k := c.byName[name]
		if _, err := w.Write(make([]byte, k.Offset-at)); err != nil {
			return fault.Writing(path, err)
		}
		count := &counter{w: w}
		if err := k.write(ctx, count); err != nil {
			if count.failed {
				return fault.Writing(path, err)
			}
			return err
		}
		at = k.Offset + k.Bytes
		advance(k.Bytes)
	}
	if err := w.Flush(); err != nil {
		return fault.Writing(path, err)
	}
	return fault.Writing(path, f.Close())
}

// counter remembers whether an error is one of writing.
type counter struct {
	w      io.Writer
	failed bool
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.failed = c.failed || err != nil
	return n, err
}

// newJob collects what the bridge needs.
func (e *exporter) newJob() (*job, *constants, error) {
	cfg, s := e.s.Config, e.s
	c := &constants{byName: map[string]constant{}}
	for i := range s.Layout {
		if err := e.tensor(c, &s.Layout[i]); err != nil {
			return nil, nil, err
		}
	}
	e.rotations(c)
	j := &job{
		Schema: "afmq.coreai-job/v1", Shape: e.Shape, Asset: e.asset(),
		Description: "Language model with palettized weights", Metadata: e.s.Metadata(e.ToolVersion), Constants: c.byName,
		Model: program{
			Layers: cfg.Layers, Hidden: cfg.HiddenSize, Heads: cfg.Heads, KVHeads: cfg.KVHeads, HeadDim: cfg.HeadDim,
			Vocab: cfg.VocabSize, Epsilon: cfg.RMSNormEps, Context: e.Context,
			Embedding: s.Embedding().Spec.Name, Head: s.Head().Spec.Name,
			EmbeddingExponent: s.Exponent(s.Embedding()), HeadExponent: s.Exponent(s.Head()),
		},
	}
	for layer := range cfg.Layers {
		j.Model.Windows = append(j.Model.Windows, cfg.Window(layer))
	}
	j.Functions = e.functionsOf()
	for i := range e.Adapters {
		if err := e.adapterConstants(c, &e.Adapters[i]); err != nil {
			return nil, nil, err
		}
	}
	if e.AdapterInputs {
		j.Functions = append(j.Functions, function{Name: "main_lora", Inputs: e.adapterInputs(c)})
	}
	return j, c, nil
}

// functionsOf returns the functions of the base and of each adapter.
func (e *exporter) functionsOf() []function {
	if e.Shape == Static {
		out := []function{{}}
		for _, a := range e.Adapters {
			out = append(out, function{Name: "adapter_" + a.Name + "_", Adapter: a.Name})
		}
		return out
	}
	out := []function{{Name: "main"}}
	for _, a := range e.Adapters {
		out = append(out, function{Name: "main_" + a.Name, Adapter: a.Name})
	}
	return out
}

// tensor adds the constants of one tensor of the artifact, in its stored form.
func (e *exporter) tensor(c *constants, st *artifact.StoredTensor) error {
	name, shape := st.Spec.Name, st.Spec.Shape
	switch st.Form {
	case artifact.Palette:
		for _, p := range e.paletteParts(st) {
			p.add(c)
		}
	case artifact.RowInt8:
		_, scale, err := e.s.Int8(st)
		if err != nil {
			return err
		}
		e.s.Int8Exponent(st, scale)
		c.add(name+artifact.SuffixInt8, "int8", shape, elements(shape), func(_ context.Context, w io.Writer) error {
			q, _, err := e.s.Int8(st)
			if err != nil {
				return err
			}
			return source.WriteInt8(w, q)
		})
		c.floats(name+artifact.SuffixScale, shape[:1], func(_ context.Context, w io.Writer) error {
			return source.WriteFloats(w, e.s.ScaledInt8(st, scale))
		})
	default:
		c.floats(name, shape, func(ctx context.Context, w io.Writer) error {
			return e.s.Plain(ctx, st, func(values []float32) error {
				if err := e.fits(values, name); err != nil {
					return err
				}
				return source.WriteFloats(w, values)
			})
		})
	}
	return nil
}

// fits checks that values are not too large for fp16.
func (e *exporter) fits(values []float32, name string) error {
	return e.s.Round(make([]uint16, len(values)), values, name)
}

// part is one constant of a palette.
type part struct {
	name, kind string
	shape      []int
	bytes      int64
	write      func(io.Writer) error
}

// elementBits returns the number of bits of an element.
func (p part) elementBits() int {
	switch p.kind {
	case "float16":
		return 16
	case "int8":
		return 8
	}
	bits, err := strconv.Atoi(strings.TrimPrefix(p.kind, "uint"))
	if err != nil {
		panic(err) // paletteParts made it
	}
	return bits
}

func (p part) add(c *constants) {
	c.add(p.name, p.kind, p.shape, p.bytes, func(_ context.Context, w io.Writer) error { return p.write(w) })
}

// paletteParts returns the indices, tables and row scales of a palette as Core AI stores them.
// The artifact was verified, so that it can be read.
func (e *exporter) paletteParts(st *artifact.StoredTensor) []part {
	name := st.Spec.Name
	m, err := e.s.Palette(st)
	if err != nil {
		panic("coreai: " + err.Error()) // OpenVerified read it
	}
	parts := []part{
		{name + artifact.SuffixIndices, "uint" + strconv.Itoa(m.Bits), []int{m.Rows, m.Cols}, int64((m.Rows*m.Cols*m.Bits + 7) / 8),
			func(w io.Writer) error { return source.WriteIndices(w, m) }},
		{name + artifact.SuffixLUT, "float16", []int{m.Groups(), 1 << m.Bits}, int64(2 * len(m.LUT)),
			func(w io.Writer) error { return source.WriteHalves(w, m.LUT) }},
	}
	if m.RowScale != nil {
		parts = append(parts, part{name + artifact.SuffixRowScale, "float16", []int{m.Rows}, int64(2 * m.Rows),
			func(w io.Writer) error { return source.WriteHalves(w, m.RowScale) }})
	}
	return parts
}

// rotations adds the tables of the rotary embedding, [context, headDim/2].
func (e *exporter) rotations(c *constants) {
	cfg := e.s.Config
	for _, t := range []struct {
		name string
		f    func(float64) float64
	}{{"rope.cos", math.Cos}, {"rope.sin", math.Sin}} {
		c.floats(t.name, []int{e.Context, cfg.HeadDim / 2}, func(_ context.Context, w io.Writer) error {
			inv, factor := cfg.Rope.Frequencies(cfg.HeadDim, e.Context)
			row := make([]float32, len(inv))
			for p := range e.Context {
				for i, a := range inv {
					row[i] = float32(factor * t.f(float64(p)*a))
				}
				if err := source.WriteFloats(w, row); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// encode returns job.json.
func (j *job) encode() ([]byte, error) { return json.MarshalIndent(j, "", " ") }
