package infile

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"afmq/pkg/fault"
)

// The pointer is that of the specification, git-lfs/docs/spec.md.
const pointer = `version https://git-lfs.github.com/spec/v1
oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393
size 12345
`

func TestPointerIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for content, refused := range map[string]bool{
		pointer:                               true,
		pointer + strings.Repeat("x", 2<<10):  false, // a text about the format
		"version https://example.com/spec\n":  false,
		pointer[:20]:                          false,
		" " + pointer:                         false,
		strings.Replace(pointer, "v1", "", 1): false,
	} {
		if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
		_, err := Read(path, 1<<20)
		var fe *fault.Error
		if got := errors.As(err, &fe); got != refused || got && (fe.Kind != fault.Input || !strings.Contains(fe.Hint, "git lfs pull")) {
			t.Errorf("%.50q: %v", content, err)
		}
		if _, err := Hash(path); (err != nil) != refused {
			t.Errorf("the hash of %.50q: %v", content, err)
		}
	}
}
