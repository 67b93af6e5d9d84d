package recovery

import (
	"encoding/binary"
	"os"
	"slices"

	"afmq/internal/infile"
	"afmq/pkg/fault"
	"afmq/pkg/safetensors"
)

// tokensTensor is the name of the tensor in a file of token ids.
const tokensTensor = "tokens"

// readTokenFile returns the token ids of a file and its hex SHA-256, and checks that both are
// of the same bytes.
func readTokenFile(file string, vocab int) (ids []int32, sum string, err error) {
	before, err := os.Stat(file)
	if err != nil {
		return nil, "", fault.Reading(file, err)
	}
	if sum, err = infile.Hash(file); err != nil {
		return nil, "", err
	}
	if ids, err = readTokens(file, vocab); err != nil {
		return nil, "", err
	}
	if after, err := os.Stat(file); err != nil || !infile.Same(before, after) {
		return nil, "", infile.Changed(file)
	}
	return ids, sum, nil
}

// readTokens reads the tensor "tokens", of one dimension and an integer type.
func readTokens(file string, vocab int) (ids []int32, err error) {
	f, err := safetensors.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	t, ok := f.Tensor(tokensTensor)
	if !ok || len(t.Shape) != 1 || len(f.Names()) != 1 {
		return nil, fault.Inputf(file, "a file of token ids holds one tensor %q of one dimension", tokensTensor)
	}
	var at func(b []byte, i int) uint64
	le := binary.LittleEndian
	switch t.DType {
	case safetensors.U16:
		at = func(b []byte, i int) uint64 { return uint64(le.Uint16(b[2*i:])) }
	case safetensors.I32, safetensors.U32:
		at = func(b []byte, i int) uint64 { return uint64(le.Uint32(b[4*i:])) }
	case safetensors.I64, safetensors.U64:
		at = func(b []byte, i int) uint64 { return le.Uint64(b[8*i:]) }
	default:
		return nil, fault.Inputf(file, "tensor %q is %s; expected U16, I32, U32, I64 or U64", tokensTensor, t.DType)
	}
	ids = make([]int32, t.NumElements())
	err = safetensors.Guard(file, func() error {
		b := t.Bytes()
		for i := range ids {
			id := at(b, i)
			if id >= uint64(vocab) {
				return fault.Inputf(file, "tensor %q: the token id at index %d is outside the vocabulary of %d", tokensTensor, i, vocab)
			}
			ids[i] = int32(id)
		}
		return nil
	})
	return ids, err
}

// divide returns the documents between separators, which belong to none.
func divide(ids []int32, separator int32) (out [][]int32) {
	if separator < 0 {
		return [][]int32{ids}
	}
	for len(ids) > 0 {
		n := slices.Index(ids, separator)
		if n < 0 {
			n = len(ids)
		}
		if n > 0 {
			out = append(out, ids[:n])
		}
		ids = ids[min(n+1, len(ids)):]
	}
	return out
}
