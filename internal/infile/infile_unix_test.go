//go:build linux || darwin

package infile

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"afmq/pkg/fault"
)

// Reading a pipe without a writer or an endless device would block forever.
func TestEndless(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o666); err != nil {
		t.Skip(err)
	}
	for _, path := range []string{pipe, "/dev/zero", "/dev/null"} {
		_, err := Read(path, 1<<40)
		if fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), "is not a regular file") {
			t.Errorf("%s: %v", path, err)
		}
	}
}
