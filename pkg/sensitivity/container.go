package sensitivity

import "fmt"

// Container is a file to which an artifact is exported, with one tensor for each matrix.
type Container struct {
	Name     string `json:"name"`     // for people: "the GGUF file"
	Overhead int64  `json:"overhead"` // bytes of everything but the matrices
	Align    int64  `json:"align"`    // every matrix is padded to a multiple of so many bytes
}

// aligned returns the bytes that a matrix takes.
func (c *Container) aligned(n int64) int64 { return (n + c.Align - 1) / c.Align * c.Align }

func (c *Container) check() error {
	const most = 1 << 50 // sums do not overflow
	if c != nil && (c.Overhead < 0 || c.Overhead > most || c.Align < 1 || c.Align > most) {
		return fmt.Errorf("container: overhead %d, alignment %d", c.Overhead, c.Align)
	}
	return nil
}

// bytes returns the size of the file for an artifact with these widths.
func (c *Container) bytes(s *Shape, st Storage, widths map[string]Width) (int64, error) {
	total := c.Overhead
	for _, spec := range s.Config.Tensors() {
		w, ok := widths[spec.Module()]
		if !ok || len(spec.Shape) != 2 {
			continue
		}
		n, err := s.moduleBytes(spec, st, w)
		if err != nil {
			return 0, err
		}
		total += c.aligned(n)
	}
	return total, nil
}
