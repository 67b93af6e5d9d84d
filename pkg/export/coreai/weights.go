package coreai

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"

	"afmq/pkg/artifact"
	"afmq/pkg/export/internal/source"
	"afmq/pkg/fault"
	"afmq/pkg/progress"
)

// payload is a constant whose bytes an asset must contain.
type payload struct {
	name  string
	size  int64
	write func(io.Writer) error
	first []byte // its first bytes, at most eight
	// uniform payloads have equal elements; the compiler stores one element of them.
	uniform bool
	found   bool
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
		if !p.found && !p.uniform {
			return 0, fault.Inputf(path, "%s is not in the compiled program as the artifact has it", p.name)
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
				out = append(out, &payload{name: p.name, size: p.bytes, write: p.write})
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
				&payload{name: st.Spec.Name + artifact.SuffixInt8, size: int64(len(q)), write: func(to io.Writer) error { return source.WriteInt8(to, q) }},
				&payload{name: st.Spec.Name + artifact.SuffixScale, size: int64(2 * len(half)), write: func(to io.Writer) error { return source.WriteHalves(to, half) }})
		}
	}
	for _, p := range out {
		probe := &probe{}
		if err := p.write(probe); err != nil {
			return nil, 0, err
		}
		p.first, p.uniform = probe.first, probe.uniform()
	}
	return out, palettes, nil
}

// probe remembers the first bytes that are written to it, and whether all later ones repeat them.
type probe struct {
	first   []byte
	n       int
	differs bool
}

func (p *probe) Write(b []byte) (int, error) {
	for i, x := range b {
		if len(p.first) < 8 {
			p.first = append(p.first, x)
		} else if x != p.first[(p.n+i)%8] {
			p.differs = true
			break
		}
	}
	p.n += len(b)
	return len(b), nil
}

// uniform reports whether all bytes repeat the first two, the size of the largest element.
func (p *probe) uniform() bool {
	if p.differs {
		return false
	}
	for i, x := range p.first {
		if x != p.first[i%2] {
			return false
		}
	}
	return true
}

// search marks the payloads that the file contains.
func search(ctx context.Context, f io.ReaderAt, payloads []*payload, advance func(int64)) error {
	byFirst := map[uint64][]*payload{}
	var filter [1 << 16]bool // by the first two bytes
	for _, p := range payloads {
		if p.uniform {
			continue
		}
		var key [8]byte
		if copy(key[:], p.first) < 8 {
			return errors.New("coreai: a constant of fewer than 8 bytes that are not equal") // tables have at least 2 entries, groups of rows divide them
		}
		k := binary.LittleEndian.Uint64(key[:])
		byFirst[k] = append(byFirst[k], p)
		filter[uint16(k)] = true
	}
	const block = 1 << 20
	buf := make([]byte, block+7)
	for at := int64(0); ; at += block {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := f.ReadAt(buf, at)
		if err != nil && err != io.EOF {
			return err
		}
		for i := 0; i+8 <= n && i < block; i++ {
			if !filter[binary.LittleEndian.Uint16(buf[i:])] {
				continue
			}
			for _, p := range byFirst[binary.LittleEndian.Uint64(buf[i:])] {
				if !p.found {
					if p.found, err = equalAt(f, at+int64(i), p); err != nil {
						return err
					}
				}
			}
		}
		advance(int64(min(n, block)))
		if n < len(buf) {
			return nil
		}
	}
}

var errDiffers = errors.New("differs")

// equalAt reports whether the file has the payload at an offset.
func equalAt(f io.ReaderAt, at int64, p *payload) (bool, error) {
	err := p.write(&comparer{r: bufio.NewReader(io.NewSectionReader(f, at, p.size))})
	if errors.Is(err, errDiffers) {
		return false, nil
	}
	return err == nil, err
}

// comparer is a writer that compares what is written with what it reads.
type comparer struct {
	r   io.Reader
	buf []byte
}

func (c *comparer) Write(p []byte) (int, error) {
	for at := 0; at < len(p); {
		n := min(len(p)-at, 1<<16)
		if len(c.buf) < n {
			c.buf = make([]byte, n)
		}
		if _, err := io.ReadFull(c.r, c.buf[:n]); err != nil || !bytes.Equal(c.buf[:n], p[at:at+n]) {
			return at, errDiffers
		}
		at += n
	}
	return len(p), nil
}
