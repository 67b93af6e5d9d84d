package gate

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strings"
	"unicode/utf8"

	"afmq/internal/disk"
	"afmq/internal/fault"
	"afmq/internal/infile"
	"afmq/pkg/infer"
)

// BaselineSchema is the version of a baseline that this package writes. It reads no other.
const BaselineSchema = "afmq.baseline/v1"

// Baseline is what was recorded of a model on a text. It holds no time and no path.
type Baseline struct {
	Schema      string `json:"schema"`
	ToolVersion string `json:"tool_version"`
	Setting
	Model        Subject             `json:"model"`
	Tokens       int                 `json:"tokens"` // scored, in all windows
	NatsPerToken float64             `json:"nats_per_token"`
	KLMean       *float64            `json:"kl_mean"` // nats per token; null without a reference
	Windows      []infer.WindowScore `json:"windows"` // in the order of the text
}

// Setting is all that figures depend on beside the model. Only figures of equal settings
// can be compared.
type Setting struct {
	Data      string         `json:"data"`      // hex SHA-256 of the text's file
	Tokenizer string         `json:"tokenizer"` // hex SHA-256 of tokenizer.json
	Protocol  infer.Protocol `json:"protocol"`
	Ctx       int            `json:"ctx"`
	Stride    int            `json:"stride,omitempty"`
	Compute   string         `json:"compute"`   // arithmetic of the matrix products
	Reference *string        `json:"reference"` // digest of the 16-bit checkpoint; null without one
}

// Subject is a model that is judged.
type Subject struct {
	Kind    string   `json:"kind"`    // "artifact" or "checkpoint"
	Digest  string   `json:"digest"`  // content hash of an artifact, digest of a checkpoint
	Adapter *string  `json:"adapter"` // hex SHA-256 of an adapter's weights; null without one
	Bytes   int64    `json:"bytes"`   // of the safetensors files, the adapter's aside
	BPW     *float64 `json:"bpw"`     // bits per weight of the projections; null for a checkpoint
}

// Differs says in what now differs from the setting of the baseline, the first difference
// in the order of the fields; empty if figures can be compared. A reference that only one
// of them has is no difference: divergences are then not compared.
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

// NewBaseline records an evaluation. It needs two windows or more; file is what the error,
// fault.Input, names.
func NewBaseline(file, toolVersion string, s Setting, m Subject, e *infer.Evaluation) (*Baseline, error) {
	b := &Baseline{
		Schema: BaselineSchema, ToolVersion: toolVersion, Setting: s, Model: m,
		Tokens: e.Tokens, NatsPerToken: e.NatsPerToken, Windows: e.Windows,
	}
	if e.Comparison != nil {
		b.KLMean = &e.KL.Mean
	}
	if len(b.Windows) < 2 {
		return nil, fault.Inputf(file, "gives %d window of %d tokens; a gate needs 2 or more", len(b.Windows), s.Ctx).
			WithHint("score a longer text, or take a smaller --ctx")
	}
	return b, nil
}

// Encode returns the bytes of the file: a window a line.
func (b *Baseline) Encode() ([]byte, error) {
	head := *b
	head.Windows = []infer.WindowScore{}
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

// Write writes the file whole or not at all; one that is there is replaced.
func (b *Baseline) Write(path string) error {
	data, err := b.Encode()
	if err != nil {
		return err
	}
	return disk.WriteFile(path, data)
}

// maxBaseline bounds what is read: a million windows take some 70 MB.
const maxBaseline = 256 << 20

// ReadBaseline reads and checks a baseline. Errors are fault.Input.
func ReadBaseline(path string) (*Baseline, error) {
	data, err := infile.Read(path, maxBaseline)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Inputf(path, "does not exist").WithHint("--update writes it")
	}
	if err != nil {
		return nil, err
	}
	return ParseBaseline(path, data)
}

// ParseBaseline is ReadBaseline of bytes; file is what errors name. Keys that it does not
// know are passed over: a later program may have added them.
func ParseBaseline(file string, data []byte) (*Baseline, error) {
	bad := func(format string, args ...any) (*Baseline, error) {
		return nil, fault.Inputf(file, "is no baseline: "+format, args...)
	}
	if !utf8.Valid(data) {
		return bad("it is not valid UTF-8")
	}
	if err := infer.CheckJSON(data); err != nil {
		return bad("%v", err)
	}
	b := &Baseline{}
	if err := json.Unmarshal(data, b); err != nil {
		return bad("%v", err)
	}
	if b.Schema != BaselineSchema {
		return bad("its schema is %q; this program reads %q", b.Schema, BaselineSchema)
	}
	if err := b.check(); err != nil {
		return bad("%v", err)
	}
	return b, nil
}

func (b *Baseline) check() error {
	digests := map[string]string{"data": b.Data, "tokenizer": b.Tokenizer, "model.digest": b.Model.Digest}
	if b.Reference != nil {
		digests["reference"] = *b.Reference
	}
	for _, key := range []string{"data", "tokenizer", "model.digest", "reference"} {
		if d, ok := digests[key]; ok && (len(d) != 2*sha256.Size || strings.Trim(d, "0123456789abcdef") != "") {
			return fmt.Errorf("%s %.80q is not a SHA-256 in lower-case hex", key, d)
		}
	}
	if _, err := infer.ParseProtocol(string(b.Protocol)); err != nil {
		return err
	}
	if b.Ctx < 2 || b.Ctx > 1<<30 || b.Stride < 0 || b.Compute == "" {
		return fmt.Errorf("it has a context of %d, a stride of %d and compute %q", b.Ctx, b.Stride, b.Compute)
	}
	if len(b.Windows) < 2 {
		return fmt.Errorf("it has %d windows; a gate needs 2 or more", len(b.Windows))
	}
	if (b.KLMean != nil) != (b.Reference != nil) {
		return errors.New("it has a reference or a mean divergence, not both")
	}
	tokens, nats, kl := 0, 0.0, 0.0
	for i, w := range b.Windows {
		if w.Tokens < 1 || w.Tokens > b.Ctx || !(math.Abs(w.Nats) < 1e6) || (w.KL != nil) != (b.KLMean != nil) || w.KL != nil && !(*w.KL >= 0 && *w.KL < 1e6) {
			return fmt.Errorf("window %d cannot be", i+1)
		}
		tokens += w.Tokens
		nats += float64(w.Tokens) * w.Nats
		if w.KL != nil {
			kl += float64(w.Tokens) * *w.KL
		}
	}
	if tokens != b.Tokens || !near(nats/float64(tokens), b.NatsPerToken) || b.KLMean != nil && !near(kl/float64(tokens), *b.KLMean) {
		return errors.New("its windows do not add up to its totals")
	}
	return nil
}

// near reports whether two means are the same up to the rounding of their sums.
func near(a, b float64) bool { return math.Abs(a-b) <= 1e-9*max(1, math.Abs(a)) }
