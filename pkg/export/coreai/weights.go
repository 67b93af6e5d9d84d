package coreai

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"

	"afmq/pkg/artifact"
	"afmq/pkg/export/internal/source"
	"afmq/pkg/fault"
	"afmq/pkg/progress"
)

// payload is a constant whose bytes an asset must contain.
type payload struct {
	part
	probe
	found bool
}

// compareWeights searches the program of an asset for the bytes of every palette and every
// 8-bit matrix of the artifact, and returns the number of palettes. The asset's format is
// Apple's; its constants are runs of bytes, which the artifact's must equal.
func (w *workspace) compareWeights(ctx context.Context, path string) (int, error) {
	payloads, palettes, err := w.payloads()
	if err != nil {
		return 0, err
	}
	f, err := os.Open(path)
	if err != nil {
		return 0, fault.Reading(path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, fault.Reading(path, err)
	}
	w.Progress.Stage(progress.Stage{Name: StageCompare, Work: info.Size()})
	defer w.Progress.Done()
	if err := w.s.Guard(func() error { return search(ctx, f, payloads, w.Progress.Advance) }); err != nil {
		return 0, err
	}
	for _, p := range payloads {
		if !p.found && !p.uniform() {
			return 0, fmt.Errorf("%s: %s is not in the compiled program as the artifact has it", w.asset(), p.name)
		}
	}
	return palettes, nil
}

// payloads returns the constants that the asset must contain.
func (w *workspace) payloads() ([]*payload, int, error) {
	var out []*payload
	palettes := 0
	for i := range w.s.Layout {
		st := &w.s.Layout[i]
		switch st.Form {
		case artifact.Palette:
			palettes++
			for _, p := range w.paletteParts(st) {
				out = append(out, &payload{part: p})
			}
		case artifact.RowInt8:
			q, scale, err := w.s.Int8(st)
			if err != nil {
				return nil, 0, err
			}
			half := make([]uint16, len(scale))
			if err := w.s.Round(half, w.s.ScaledInt8(st, scale), st.Spec.Name+artifact.SuffixScale); err != nil {
				return nil, 0, err
			}
			out = append(out,
				&payload{part: part{st.Spec.Name + artifact.SuffixInt8, "int8", st.Spec.Shape, int64(len(q)),
					func(to io.Writer) error { return source.WriteInt8(to, q) }}},
				&payload{part: part{st.Spec.Name + artifact.SuffixScale, "float16", st.Spec.Shape[:1], int64(2 * len(half)),
					func(to io.Writer) error { return source.WriteHalves(to, half) }}})
		}
	}
	for _, p := range out {
		p.probe = probe{bits: p.elementBits(), end: elements(p.shape) * int64(p.elementBits())}
		if err := p.part.write(&p.probe); err != nil {
			return nil, 0, err
		}
	}
	return out, palettes, nil
}

// Limits of the search.
const (
	anchorBytes = 8
	anchorRange = 1 << 16 // the anchor is among that many first bytes
	searchBlock = 1 << 20
)

// probe finds what the search looks for of the payload that is written to it: the eight bytes
// with the most different values. A run of zeros, of which a program may have many, is it only
// if the payload starts with anchorRange of them.
type probe struct {
	bits int   // of an element
	end  int64 // the bits of all elements; the last byte is padded with zeros

	anchor  []byte // fewer than eight bytes of a payload that has no more
	at      int64  // offset of the anchor in the payload
	variety int    // different values in the anchor

	n       int64
	window  []byte  // the last bytes, at most eight
	head    [3]byte // whose period is 1 byte, or 2 of fp16, or 3 of 3- and 6-bit indices
	differs bool    // some byte is not that of the period before
}

func (p *probe) Write(b []byte) (int, error) {
	for i, x := range b {
		if p.differs && p.n >= anchorRange {
			p.n += int64(len(b) - i)
			break
		}
		p.repeat(x)
		p.n++
		if p.n <= anchorRange {
			p.extend(x)
		}
	}
	return len(b), nil
}

// repeat compares the next byte with that of the period before.
func (p *probe) repeat(x byte) {
	if p.n < int64(len(p.head)) {
		p.head[p.n] = x
		return
	}
	want := p.head[p.n%p.period()]
	if rest := p.end - 8*p.n; rest < 8 {
		want &= 1<<rest - 1
	}
	p.differs = p.differs || x != want
}

// period is the number of bytes after which equal elements repeat.
func (p *probe) period() int64 {
	n := 1
	for 8*n%p.bits != 0 {
		n++
	}
	return int64(n)
}

// extend moves the window to the next byte, and the anchor to the window if that is better.
func (p *probe) extend(x byte) {
	if len(p.window) == anchorBytes {
		p.window = p.window[1:]
	}
	p.window = append(p.window, x)
	variety := 0
	for i, y := range p.window {
		if bytes.IndexByte(p.window[:i], y) < 0 {
			variety++
		}
	}
	if len(p.window) > len(p.anchor) || variety > p.variety {
		p.anchor, p.at, p.variety = bytes.Clone(p.window), p.n-int64(len(p.window)), variety
	}
}

// uniform reports whether all elements are equal. The compiler stores one of them, which the
// search cannot tell from other bytes.
func (p *probe) uniform() bool {
	known := min(p.end, 8*int64(len(p.head)))
	for i := int64(p.bits); i < known; i++ {
		if p.bit(i) != p.bit(i%int64(p.bits)) {
			return false
		}
	}
	return !p.differs
}

// bit returns a bit of head.
func (p *probe) bit(i int64) byte { return p.head[i/8] >> (i % 8) & 1 }

// search marks the payloads that the file contains.
func search(ctx context.Context, f io.ReaderAt, payloads []*payload, advance func(int64)) error {
	byPair := make([][]*payload, 1<<16) // by the first two bytes of the anchor
	for _, p := range payloads {
		if !p.uniform() {
			k := binary.LittleEndian.Uint16(p.anchor)
			byPair[k] = append(byPair[k], p)
		}
	}
	buf := make([]byte, searchBlock+anchorBytes-1)
	for at := int64(0); ; at += searchBlock {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := f.ReadAt(buf, at)
		if err != nil && err != io.EOF {
			return err
		}
		for i := 0; i+2 <= n && i < searchBlock; i++ {
			for _, p := range byPair[binary.LittleEndian.Uint16(buf[i:])] {
				if p.found || !bytes.HasPrefix(buf[i:n], p.anchor) {
					continue
				}
				if p.found, err = equalAt(f, at+int64(i)-p.at, p); err != nil {
					return err
				}
			}
		}
		advance(int64(min(n, searchBlock)))
		if n < len(buf) {
			return nil
		}
	}
}

// equalAt reports whether the file has the payload at an offset.
func equalAt(f io.ReaderAt, at int64, p *payload) (bool, error) {
	if at < 0 {
		return false, nil
	}
	equal, _, err := source.Equal(io.NewSectionReader(f, at, p.bytes), p.part.write)
	return equal, err
}
