//go:build !unix

package recovery

import (
	"os"
	"os/exec"
)

func ownGroup(*exec.Cmd) {}

func stopWorker(p *os.Process) error { return p.Kill() }
