package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"afmq/internal/demo"
	"afmq/pkg/fault"
)

// openTerminal returns the two ends of a pseudo-terminal.
func openTerminal(t *testing.T) (master, terminal *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no pseudo-terminal:", err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Skip("no pseudo-terminal:", err)
	}
	return master, terminal
}

// typed is a chat whose standard input is a pseudo-terminal, and what it has shown there.
type typed struct {
	t      *testing.T
	c      *exec.Cmd
	master *os.File
	mu     sync.Mutex
	seen   bytes.Buffer
	ended  chan struct{} // closed when the program has ended
}

// chatDirectory returns a directory with the demo model and a chat template.
func chatDirectory(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := demo.Extract(filepath.Join(dir, "model")); err != nil {
		t.Fatal(err)
	}
	template := "{%- for m in messages %}{% if m.content == 'refuse' %}{{ raise_exception('no such message') }}{% endif %}[{{ m.role }}] {{ m.content }}\n{% endfor %}[assistant]"
	if err := os.WriteFile(filepath.Join(dir, "chat.jinja"), []byte(template), 0o666); err != nil {
		t.Fatal(err)
	}
	return dir
}

// startTyped starts a chat; stdout nil is the terminal.
func startTyped(t *testing.T, dir string, stdout *os.File) *typed {
	t.Helper()
	master, terminal := openTerminal(t)
	if stdout == nil {
		stdout = terminal
	}
	c := program(t.Context(), dir, "chat", "model", "--chat-template", "chat.jinja", "--temperature", "1")
	c.Stdin, c.Stdout, c.Stderr = terminal, stdout, terminal
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	y := &typed{t: t, c: c, master: master, ended: make(chan struct{})}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() }) // open, so that its state can be read after the end
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			y.mu.Lock()
			y.seen.Write(buf[:n])
			y.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	go func() { _ = c.Wait(); close(y.ended) }()
	return y
}

func (y *typed) shown() string {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.seen.String()
}

// until waits for a condition on what is shown.
func (y *typed) until(what string, holds func(shown string) bool) {
	y.t.Helper()
	for range 3000 {
		if holds(y.shown()) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	y.t.Fatalf("not %s: %q", what, y.shown())
}

func (y *typed) await(text string, times int) {
	y.t.Helper()
	y.until(fmt.Sprintf("%d times %q", times, text), func(s string) bool { return strings.Count(s, text) >= times })
}

// prompted waits until a message is expected, in raw mode.
func (y *typed) prompted() {
	y.t.Helper()
	y.until("a prompt", func(s string) bool { return strings.HasSuffix("\n"+s, "\n> ") })
}

func (y *typed) write(s string) {
	y.t.Helper()
	if _, err := y.master.WriteString(s); err != nil {
		y.t.Fatal(err)
	}
}

// state returns the mode of the terminal.
func (y *typed) state() unix.Termios {
	y.t.Helper()
	state, err := unix.IoctlGetTermios(int(y.master.Fd()), unix.TCGETS)
	if err != nil {
		y.t.Fatal(err)
	}
	return *state
}

// exits waits for the end of the chat and checks its exit code.
func (y *typed) exits(code int) {
	y.t.Helper()
	select {
	case <-y.ended:
		if got := y.c.ProcessState.ExitCode(); got != code {
			y.t.Errorf("exit code %d, expected %d: %q", got, code, y.shown())
		}
	case <-time.After(30 * time.Second):
		_ = y.c.Process.Kill()
		y.t.Errorf("the chat does not end: %q", y.shown())
	}
}

// stopsAnswer sends a message and stops its answer by Ctrl-C. It reports false if the answer ended by
// itself before; Ctrl-C has then ended the chat.
func (y *typed) stopsAnswer() bool {
	y.t.Helper()
	y.prompted()
	y.write("Hello there\r")
	time.Sleep(50 * time.Millisecond) // the answer is under way, or has ended
	y.write("\x03")
	y.await("stopped by ", 1)
	return strings.Contains(y.shown(), "stopped by interrupt")
}

// In a terminal, Ctrl-C stops an answer, the arrow keys bring a line back, a message that cannot be
// answered does not end the chat, and Ctrl-D does.
func TestChatTerminal(t *testing.T) {
	y := startTyped(t, chatDirectory(t), nil)
	if y.stopsAnswer() {
		y.prompted()
		y.write("\x1b[A again\r") // the line before, and more
		y.await("Hello there again", 1)
		y.await("stopped by ", 2)
		y.prompted()
		y.write("refuse\r")
		y.await("no such message", 1)
		y.prompted()
		y.write("\x04")
	}
	y.exits(0)
}

// A Ctrl-C that stopped an answer does not change how the chat ends later.
func TestChatEndsByItselfAfterInterrupt(t *testing.T) {
	dir := chatDirectory(t)
	for range 20 {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.Copy(io.Discard, r) }()
		y := startTyped(t, dir, w)
		w.Close()
		if !y.stopsAnswer() {
			y.exits(0)
			r.Close()
			continue
		}
		y.prompted()
		r.Close() // nobody reads the next answer
		y.write("Hello\r")
		y.exits(exitOf(fault.Output))
		y.await("standard output: cannot be written", 1)
		return
	}
	t.Skip("no answer was long enough to be stopped")
}

// Signals from outside end the chat at once, with the terminal as it was: SIGTERM with its exit code,
// SIGINT where a message is expected as Ctrl-C.
func TestChatSignals(t *testing.T) {
	dir := chatDirectory(t)
	for name, c := range map[string]struct {
		signal    syscall.Signal
		answering bool
		code      int
	}{
		"typing":              {syscall.SIGTERM, false, 143},
		"answering":           {syscall.SIGTERM, true, 143},
		"typing, interrupted": {syscall.SIGINT, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			_, terminal := openTerminal(t)
			fresh, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
			if err != nil {
				t.Fatal(err)
			}
			y := startTyped(t, dir, nil)
			y.prompted()
			if y.state().Lflag == fresh.Lflag {
				t.Error("the terminal is not in raw mode while a line is read")
			}
			y.write("Hello")
			y.await("Hello", 1)
			if c.answering {
				y.write("\r")
				y.until("an answer", func(s string) bool { return !strings.HasSuffix(strings.TrimRight(s, "\r\n"), "> Hello") })
			}
			if err := y.c.Process.Signal(c.signal); err != nil {
				t.Fatal(err)
			}
			y.exits(c.code)
			if got := y.state(); got != *fresh {
				t.Errorf("the terminal is left as %+v; it was %+v", got, *fresh)
			}
			if c.code == 143 {
				y.await("stopped by terminated", 1)
			}
		})
	}
}
