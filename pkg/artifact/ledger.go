package artifact

import (
	"fmt"
	"math"
	"strings"
)

// Ledger accounts for every byte of an artifact's model.safetensors.
type Ledger struct {
	Indices   int64 `json:"indices"`          // packed palette indices
	LUT       int64 `json:"lut"`              // look-up tables
	RowScale  int64 `json:"row_scale"`        // one factor per row of a palettized matrix
	Embedding int64 `json:"embedding"`        // int8 rows and their scales: embedding and untied head
	Blocks    int64 `json:"blocks,omitempty"` // matrices in blocks of ggml
	Codes     int64 `json:"codes,omitempty"`  // packed codes of other grids
	Scales    int64 `json:"scales,omitempty"` // scales, biases and zero points of their groups
	Other     int64 `json:"other"`            // norms, biases and matrices kept as they were
	Container int64 `json:"container"`        // the header of the file
	Total     int64 `json:"total"`            // the sum, which is the file's size
}

// NewLedger classifies the bytes of an artifact's tensors by their names. fileBytes is the size
// of the file; bytes that belong to no tensor are the container's. Tensors that exceed the file
// are an error.
func NewLedger(tensors []TensorDigest, fileBytes int64) (Ledger, error) {
	l := Ledger{Total: fileBytes}
	left := fileBytes
	for _, t := range tensors {
		n, err := t.Size()
		if err != nil {
			return Ledger{}, err
		}
		if n > left {
			return Ledger{}, fmt.Errorf("tensor %q: the tensors exceed the %d bytes of the file", t.Name, fileBytes)
		}
		left -= n
		switch {
		case strings.HasSuffix(t.Name, SuffixIndices):
			l.Indices += n
		case strings.HasSuffix(t.Name, SuffixLUT):
			l.LUT += n
		case strings.HasSuffix(t.Name, SuffixRowScale):
			l.RowScale += n
		case strings.HasSuffix(t.Name, SuffixInt8), strings.HasSuffix(t.Name, SuffixScale):
			l.Embedding += n
		default:
			l.addGrid(t.Name, n)
		}
	}
	l.Container = left
	return l, nil
}

// addGrid classifies a tensor that is none of palettes and int8 rows.
func (l *Ledger) addGrid(name string, n int64) {
	_, form := splitForm(name)
	_, block := form.Block()
	switch {
	case block:
		l.Blocks += n
	case form.OnGrid():
		l.Codes += n
	case form == "scales" || form == "biases" || form == "zero_points":
		l.Scales += n
	default:
		l.Other += n
	}
}

// Size returns the size of the tensor's data in bytes. An unknown type, a negative extent and a
// size beyond an int64 are errors.
func (t TensorDigest) Size() (int64, error) {
	var n int64
	switch t.DType {
	case "BOOL", "U8", "I8":
		n = 1
	case "F16", "BF16", "I16", "U16":
		n = 2
	case "F32", "I32", "U32":
		n = 4
	case "F64", "I64", "U64":
		n = 8
	default:
		return 0, fmt.Errorf("tensor %q: unknown type %.20q", t.Name, t.DType)
	}
	if len(t.Shape) > maxTensorDims {
		return 0, fmt.Errorf("tensor %q: %d dimensions", t.Name, len(t.Shape))
	}
	zero := false
	for _, d := range t.Shape {
		if d < 0 {
			return 0, fmt.Errorf("tensor %q: negative extent %d", t.Name, d)
		}
		if d == 0 {
			zero = true
			continue
		}
		if n > math.MaxInt64/int64(d) {
			return 0, fmt.Errorf("tensor %q: shape %v is too large", t.Name, t.Shape)
		}
		n *= int64(d)
	}
	if zero {
		n = 0
	}
	return n, nil
}
