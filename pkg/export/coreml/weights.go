package coreml

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
)

// The layout of weight.bin: a header of 64 bytes, then for each blob a record of 64 bytes and
// its data. Records and data begin at multiples of 64 (coremltools' mlmodel/src/MILBlob/Blob/
// StorageFormat.hpp).
const (
	blobAlign    = 64
	blobSentinel = 0xDEADBEEF
	blobVersion  = 2
)

// blob is one constant of weight.bin.
type blob struct {
	key      string // identifies the content
	dtype    dataType
	elements int
	record   int64 // offset of its record, by which the program refers to it
	size     int64 // bytes of its data
	write    func(ctx context.Context, w io.Writer) error
}

// weightFile is weight.bin. The blobs are placed when they are added and computed when the
// file is written, so that only one is in memory at a time.
type weightFile struct {
	blobs []blob
	byKey map[string]int
	size  int64
}

func newWeightFile() *weightFile {
	return &weightFile{byKey: map[string]int{}, size: blobAlign}
}

// add places a constant of n elements and returns the offset of its record. A constant whose
// key is there already is stored once: functions share their weights.
func (f *weightFile) add(key string, t dataType, n int, write func(ctx context.Context, w io.Writer) error) int64 {
	if i, ok := f.byKey[key]; ok {
		return f.blobs[i].record
	}
	b := blob{key: key, dtype: t, elements: n, record: f.size, size: (int64(n)*int64(t.bits()) + 7) / 8, write: write}
	f.byKey[key] = len(f.blobs)
	f.blobs = append(f.blobs, b)
	f.size = aligned(b.record + blobAlign + b.size)
	return b.record
}

func aligned(n int64) int64 { return (n + blobAlign - 1) / blobAlign * blobAlign }

// writeTo writes the file. advance is called with the number of bytes after each blob.
func (f *weightFile) writeTo(ctx context.Context, to io.Writer, advance func(int64)) error {
	w := &countingWriter{w: bufio.NewWriterSize(to, 1<<20)}
	head := make([]byte, blobAlign)
	binary.LittleEndian.PutUint32(head, uint32(len(f.blobs)))
	binary.LittleEndian.PutUint32(head[4:], blobVersion)
	if _, err := w.Write(head); err != nil {
		return err
	}
	for i := range f.blobs {
		if err := ctx.Err(); err != nil {
			return err
		}
		b := &f.blobs[i]
		if _, err := w.Write(b.header()); err != nil {
			return err
		}
		start := w.n
		if err := b.write(ctx, w); err != nil {
			return err
		}
		if w.n-start != b.size {
			panic("coreml: " + b.key + " has another size than was planned")
		}
		if _, err := w.Write(make([]byte, aligned(w.n)-w.n)); err != nil {
			return err
		}
		advance(blobAlign + b.size)
	}
	return w.w.Flush()
}

// header encodes the record of a blob.
func (b *blob) header() []byte {
	h := make([]byte, blobAlign)
	binary.LittleEndian.PutUint32(h, blobSentinel)
	binary.LittleEndian.PutUint32(h[4:], blobTypes[b.dtype])
	binary.LittleEndian.PutUint64(h[8:], uint64(b.size))
	binary.LittleEndian.PutUint64(h[16:], uint64(b.record+blobAlign))
	binary.LittleEndian.PutUint64(h[24:], uint64(8*b.size-int64(b.elements)*int64(b.dtype.bits()))) // unused bits
	return h
}

type countingWriter struct {
	w *bufio.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
