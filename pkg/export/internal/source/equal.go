package source

import (
	"bytes"
	"errors"
	"io"
)

// errDiffers ends a comparison.
var errDiffers = errors.New("differs")

// Equal reports whether the next bytes of r are those that write writes, n of them. Bytes of r
// beyond are not read. The error is that of write; a reader that ends early or fails is a
// difference.
func Equal(r io.Reader, write func(io.Writer) error) (equal bool, n int64, err error) {
	c := &comparer{r: r}
	err = write(c)
	if errors.Is(err, errDiffers) {
		return false, c.n, nil
	}
	return err == nil, c.n, err
}

// comparer is a writer that compares what is written with what it reads.
type comparer struct {
	r   io.Reader
	n   int64
	buf [4096]byte // small: most comparisons end at the first bytes
}

func (c *comparer) Write(p []byte) (int, error) {
	for at := 0; at < len(p); {
		n := min(len(p)-at, len(c.buf))
		if _, err := io.ReadFull(c.r, c.buf[:n]); err != nil || !bytes.Equal(c.buf[:n], p[at:at+n]) {
			return at, errDiffers
		}
		at += n
		c.n += int64(n)
	}
	return len(p), nil
}
