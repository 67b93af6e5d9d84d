//go:build unix

package recovery

import (
	"os"
	"os/exec"
	"syscall"
)

// ownGroup keeps the signals of a terminal from the workers: this process tells them to stop.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// stopWorker tells torchrun to stop, which tells its workers.
func stopWorker(p *os.Process) error { return p.Signal(syscall.SIGTERM) }
