package coreml

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/encoding/protowire"

	"afmq/internal/infile"
	"afmq/pkg/artifact"
	"afmq/pkg/export/internal/source"
	"afmq/pkg/fault"
)

// maxModelBytes is the size of the largest model.mlmodel that is read; it holds the program
// without its weights.
const maxModelBytes = 1 << 30

// storedConstant is a constant of a program that is in weight.bin.
type storedConstant struct {
	result string // name of the operation's result
	input  string // name of the operation's input, or "val" of a const
	offset int64  // of its record in weight.bin
}

// check reads the package in dir and compares every palette and every 8-bit matrix of the
// artifact with what the package stores for it. It returns the number of palettes.
func check(ctx context.Context, dir string, a *artifact.Reader) (int, error) {
	path := filepath.Join(dir, modelFile)
	data, err := infile.Read(path, maxModelBytes)
	if err != nil {
		return 0, err
	}
	constants, err := storedConstants(data)
	if err != nil {
		return 0, fault.Inputf(path, "is not a Core ML program: %v", err)
	}
	offsets := map[string]int64{}
	for _, c := range constants {
		offsets[c.result+" "+c.input] = c.offset
	}
	f, err := os.Open(filepath.Join(dir, weightsFile))
	if err != nil {
		return 0, fault.Reading(filepath.Join(dir, weightsFile), err)
	}
	defer f.Close()
	c := checker{w: newWeights(a), file: f, offsets: offsets}
	palettes := 0
	for i := range a.Layout {
		st := &a.Layout[i]
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if err := c.w.Guard(func() error { return c.matrix(st) }); err != nil {
			return 0, err
		}
		if st.Form == artifact.Palette {
			palettes++
		}
	}
	return palettes, nil
}

type checker struct {
	w       *weights
	file    *os.File
	offsets map[string]int64 // by "result input"
}

// matrix compares one matrix of the artifact with its constants.
func (c *checker) matrix(st *artifact.StoredTensor) error {
	id := identifier(st.Spec.Name)
	switch st.Form {
	case artifact.Palette:
		m, err := c.w.Palette(st)
		if err != nil {
			return err
		}
		dense := id
		if m.RowScale != nil {
			dense += "_palette"
			if err := c.equal(id, "scale", half16, func(w io.Writer) error { return source.WriteHalves(w, m.RowScale) }); err != nil {
				return err
			}
		}
		if err := c.equal(dense, "indices", indexTypes[m.Bits], func(w io.Writer) error { return source.WriteIndices(w, m) }); err != nil {
			return err
		}
		return c.equal(dense, "lut", half16, func(w io.Writer) error { return source.WriteHalves(w, m.LUT) })
	case artifact.RowInt8:
		q, _, err := c.w.Int8(st)
		if err != nil {
			return err
		}
		return c.equal(id, "data", int8s, func(w io.Writer) error { return source.WriteInt8(w, q) })
	}
	return nil
}

// equal compares a constant with what write writes.
func (c *checker) equal(result, input string, t dataType, write func(io.Writer) error) error {
	at, ok := c.offsets[result+" "+input]
	if !ok {
		return fault.Inputf(c.file.Name(), "%s of %s is not in the program", input, result)
	}
	head := make([]byte, blobAlign)
	if _, err := c.file.ReadAt(head, at); err != nil {
		return fault.Reading(c.file.Name(), err)
	}
	size, start := binary.LittleEndian.Uint64(head[8:]), binary.LittleEndian.Uint64(head[16:])
	if binary.LittleEndian.Uint32(head) != blobSentinel || binary.LittleEndian.Uint32(head[4:]) != blobTypes[t] ||
		start != uint64(at)+blobAlign || size > 1<<62 {
		return fault.Inputf(c.file.Name(), "%s of %s has no valid record at byte %d", input, result, at)
	}
	same, n, err := source.Equal(io.NewSectionReader(c.file, int64(start), int64(size)), write)
	if err == nil && (!same || n != int64(size)) {
		return fault.Inputf(c.file.Name(), "%s of %s differs from the artifact", input, result)
	}
	return err
}

// storedConstants returns the constants of all functions of an encoded model that are in
// weight.bin.
func storedConstants(model []byte) ([]storedConstant, error) {
	var out []storedConstant
	err := descend(model, []protowire.Number{502, 2, 2, 3, 2, 3}, func(op []byte) error {
		var result string
		var found []storedConstant
		err := fields(op, func(field protowire.Number, v []byte) error {
			switch field {
			case 3: // a result
				return fields(v, func(n protowire.Number, name []byte) error {
					if n == 1 {
						result = string(name)
					}
					return nil
				})
			case 2, 5: // an input, an attribute
				path := []protowire.Number{2, 1, 2, 5}
				if field == 5 {
					path = []protowire.Number{2, 5}
				}
				return fileValue(v, path, &found)
			}
			return nil
		})
		for _, c := range found {
			c.result = result
			out = append(out, c)
		}
		return err
	})
	return out, err
}

// fileValue appends the BlobFileValue of a map entry, if its value has one on this path.
func fileValue(entry []byte, path []protowire.Number, found *[]storedConstant) error {
	var key string
	if err := fields(entry, func(n protowire.Number, v []byte) error {
		if n == 1 {
			key = string(v)
		}
		return nil
	}); err != nil {
		return err
	}
	return descend(entry, path, func(blob []byte) error {
		at, err := varintField(blob, 2)
		*found = append(*found, storedConstant{input: key, offset: int64(at)})
		return err
	})
}

// descend calls f for every message on a path of fields.
func descend(m []byte, path []protowire.Number, f func([]byte) error) error {
	if len(path) == 0 {
		return f(m)
	}
	return fields(m, func(n protowire.Number, v []byte) error {
		if n == path[0] {
			return descend(v, path[1:], f)
		}
		return nil
	})
}

// fields calls f for every field of a message that has a length.
func fields(m []byte, f func(n protowire.Number, v []byte) error) error {
	for len(m) > 0 {
		n, t, size := protowire.ConsumeTag(m)
		if size < 0 {
			return protowire.ParseError(size)
		}
		m = m[size:]
		if t != protowire.BytesType {
			if size = protowire.ConsumeFieldValue(n, t, m); size < 0 {
				return protowire.ParseError(size)
			}
			m = m[size:]
			continue
		}
		v, size := protowire.ConsumeBytes(m)
		if size < 0 {
			return protowire.ParseError(size)
		}
		if err := f(n, v); err != nil {
			return err
		}
		m = m[size:]
	}
	return nil
}

// varintField returns the value of an integer field of a message.
func varintField(m []byte, field protowire.Number) (uint64, error) {
	for len(m) > 0 {
		n, t, size := protowire.ConsumeTag(m)
		if size < 0 {
			return 0, protowire.ParseError(size)
		}
		m = m[size:]
		if n == field && t == protowire.VarintType {
			v, size := protowire.ConsumeVarint(m)
			if size < 0 {
				return 0, protowire.ParseError(size)
			}
			return v, nil
		}
		if size = protowire.ConsumeFieldValue(n, t, m); size < 0 {
			return 0, protowire.ParseError(size)
		}
		m = m[size:]
	}
	return 0, fmt.Errorf("field %d is missing", field)
}
