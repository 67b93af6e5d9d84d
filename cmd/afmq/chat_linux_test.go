package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"afmq/internal/demo"
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

// In a terminal, Ctrl-C stops an answer, the arrow keys bring a line back, and Ctrl-D ends the chat.
func TestChatTerminal(t *testing.T) {
	dir := t.TempDir()
	if err := demo.Extract(filepath.Join(dir, "model")); err != nil {
		t.Fatal(err)
	}
	template := "{%- for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}[assistant]"
	if err := os.WriteFile(filepath.Join(dir, "chat.jinja"), []byte(template), 0o666); err != nil {
		t.Fatal(err)
	}
	master, terminal := openTerminal(t)
	c := program(t.Context(), dir, "chat", "model", "--chat-template", "chat.jinja", "--temperature", "1")
	c.Stdin, c.Stdout, c.Stderr = terminal, terminal, terminal
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	terminal.Close()
	var mu sync.Mutex
	var seen bytes.Buffer
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			mu.Lock()
			seen.Write(buf[:n])
			mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	shown := func() string {
		mu.Lock()
		defer mu.Unlock()
		return seen.String()
	}
	await := func(text string, times int) {
		t.Helper()
		for range 3000 {
			if strings.Count(shown(), text) >= times {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Fatalf("not %d times %q in %q", times, text, shown())
	}
	prompted := func() {
		t.Helper()
		for range 3000 {
			if strings.HasSuffix(shown(), "\n> ") {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Fatalf("no prompt after %q", shown())
	}
	write := func(s string) {
		t.Helper()
		if _, err := master.WriteString(s); err != nil {
			t.Fatal(err)
		}
	}
	await("> ", 1)
	write("Hello there\r")
	time.Sleep(50 * time.Millisecond) // the answer is under way, or has ended
	write("\x03")
	// Either Ctrl-C came in time, or the answer had ended by itself; then it ended the chat.
	await("stopped by ", 1)
	if strings.Contains(shown(), "stopped by interrupt") {
		prompted()
		write("\x1b[A again\r") // the line before, and more
		await("Hello there again", 1)
		await("stopped by ", 2)
		prompted()
		write("\x04")
	}
	done := make(chan error, 1)
	go func() { done <- c.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("%v: %q", err, shown())
		}
	case <-time.After(30 * time.Second):
		_ = c.Process.Kill()
		t.Errorf("the chat does not end: %q", shown())
	}
}
