package gate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"unicode/utf8"

	"afmq/internal/disk"
	"afmq/internal/infile"
	"afmq/pkg/eval"
	"afmq/pkg/fault"
)

// BaselineSchema is the version of the baselines that this package reads and writes.
const BaselineSchema = "afmq.baseline/v1"

// Baseline records the figures of a model on every window of a text. It holds no time and
// no path.
type Baseline struct {
	Schema      string `json:"schema"`
	ToolVersion string `json:"tool_version"`
	Setting
	Model        Subject            `json:"model"`
	Tokens       int                `json:"tokens"` // scored, in all windows
	NatsPerToken float64            `json:"nats_per_token"`
	KLMean       *float64           `json:"kl_mean"` // nats per token; null without a reference
	Windows      []eval.WindowScore `json:"windows"` // in the order of the text
}

// Setting is everything besides the model that the figures depend on. Only figures of equal
// settings can be compared.
type Setting struct {
	Data      string        `json:"data"`      // hex SHA-256 of the text's file
	Tokenizer string        `json:"tokenizer"` // hex SHA-256 of tokenizer.json
	Protocol  eval.Protocol `json:"protocol"`
	Ctx       int           `json:"ctx"`
	Stride    int           `json:"stride,omitempty"`
	Compute   string        `json:"compute"`   // arithmetic of the matrix products
	Reference *string       `json:"reference"` // digest of the 16-bit checkpoint; null without one
}

// Subject is a model that is judged.
type Subject struct {
	Kind    string   `json:"kind"`    // "artifact" or "checkpoint"
	Digest  string   `json:"digest"`  // content hash of an artifact, digest of a checkpoint
	Adapter *string  `json:"adapter"` // hex SHA-256 of an adapter's weights; null without one
	Bytes   int64    `json:"bytes"`   // of the safetensors files, the adapter's aside
	BPW     *float64 `json:"bpw"`     // bits per weight of the projections; null for a checkpoint
}

// Differs describes the first field, in their order, in which now differs from the setting
// of the baseline; empty if the figures can be compared. A reference that only one of them
// has is not a difference: divergences are not compared then.
func (b *Setting) Differs(now *Setting) string {
	say := func(what string, then, now any) string {
		return fmt.Sprintf("was made with %s %v; now it is %v", what, then, now)
	}
	switch {
	case b.Data != now.Data:
		return say("data of SHA-256", b.Data, now.Data)
	case b.Tokenizer != now.Tokenizer:
		return say("a tokenizer.json of SHA-256", b.Tokenizer, now.Tokenizer)
	case b.Protocol != now.Protocol:
		return say("protocol", b.Protocol, now.Protocol)
	case b.Ctx != now.Ctx:
		return say("a context of", b.Ctx, now.Ctx)
	case b.Stride != now.Stride:
		return say("a stride of", b.Stride, now.Stride)
	case b.Compute != now.Compute:
		return say("compute", b.Compute, now.Compute)
	case b.Reference != nil && now.Reference != nil && *b.Reference != *now.Reference:
		return say("a reference of digest", *b.Reference, *now.Reference)
	}
	return ""
}

// NewBaseline records an evaluation, which must have [MinWindows] windows or more; file is
// the text that the error, a fault.Input, names.
func NewBaseline(file, toolVersion string, s Setting, m Subject, e *eval.Result) (*Baseline, error) {
	b := &Baseline{
		Schema: BaselineSchema, ToolVersion: toolVersion, Setting: s, Model: m,
		Tokens: e.Tokens, NatsPerToken: e.NatsPerToken, Windows: e.Windows,
	}
	if e.Comparison != nil {
		b.KLMean = &e.KL.Mean
	}
	if n := len(b.Windows); n < MinWindows {
		return nil, fault.Inputf(file, "gives %d of the %d windows that a gate needs, with %d tokens in a window", n, MinWindows, s.Ctx).
			WithHint("%s", longer)
	}
	return b, nil
}

// tokens returns the scored tokens of every window.
func (b *Baseline) tokens() []int {
	out := make([]int, len(b.Windows))
	for i, w := range b.Windows {
		out[i] = w.Tokens
	}
	return out
}

// column returns one figure of every window.
func (b *Baseline) column(figure func(*eval.WindowScore) float64) []float64 {
	out := make([]float64, len(b.Windows))
	for i := range b.Windows {
		out[i] = figure(&b.Windows[i])
	}
	return out
}

func windowNats(w *eval.WindowScore) float64 { return w.Nats }

// windowKL needs a baseline with a mean divergence: every window then has one.
func windowKL(w *eval.WindowScore) float64 { return *w.KL }

// Encode returns the bytes of the file, with one window on a line.
func (b *Baseline) Encode() ([]byte, error) {
	head := *b
	head.Windows = []eval.WindowScore{}
	text, err := json.MarshalIndent(head, "", " ")
	if err != nil {
		return nil, err
	}
	text, ok := bytes.CutSuffix(text, []byte("[]\n}"))
	if !ok {
		return nil, errors.New("the windows are not the last key of a baseline")
	}
	out := append(text, "[\n"...)
	for i, w := range b.Windows {
		line, err := json.Marshal(w)
		if err != nil {
			return nil, err
		}
		out = append(append(out, "  "...), line...)
		if i < len(b.Windows)-1 {
			out = append(out, ',')
		}
		out = append(out, '\n')
	}
	return append(out, " ]\n}\n"...), nil
}

// Write writes the file atomically and replaces an existing one. Figures that [ParseBaseline]
// would refuse are an error of kind [fault.Input].
func (b *Baseline) Write(path string) error {
	if err := b.check(); err != nil {
		return fault.Inputf(path, "cannot record this model: %v", err)
	}
	data, err := b.Encode()
	if err != nil {
		return err
	}
	return disk.WriteFile(path, data)
}

// maxBaseline bounds the size of a file that is read: a million windows take about 70 MB.
const maxBaseline = 256 << 20

// ReadBaseline reads and checks a baseline. Errors are fault.Input.
func ReadBaseline(path string) (*Baseline, error) {
	data, err := infile.Read(path, maxBaseline)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Inputf(path, "does not exist").WithHint("--update records it")
	}
	if err != nil {
		return nil, err
	}
	return ParseBaseline(path, data)
}

// ParseBaseline is ReadBaseline of bytes; file is the name in errors. Unknown keys are
// ignored: a later version may have added them.
func ParseBaseline(file string, data []byte) (*Baseline, error) {
	bad := func(format string, args ...any) (*Baseline, error) {
		return nil, fault.Inputf(file, "is not a baseline: "+format, args...)
	}
	if !utf8.Valid(data) {
		return bad("it is not valid UTF-8")
	}
	if err := infile.CheckJSON(data); err != nil {
		return bad("%v", err)
	}
	b := &Baseline{}
	err := json.Unmarshal(data, b)
	if b.Schema != BaselineSchema { // decoded despite values of another type
		return bad("its schema is %q; this program reads %q", b.Schema, BaselineSchema)
	}
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) {
		key := kind.Field[strings.LastIndex(kind.Field, ".")+1:] // without embedded structs
		return bad("its %s is a %s", key, kind.Value)
	}
	if err != nil {
		return bad("%v", err)
	}
	if err := b.check(); err != nil {
		return bad("%v", err)
	}
	return b, nil
}
