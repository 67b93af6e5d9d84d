//go:build linux || darwin

package main

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Without a terminal, SIGTERM and SIGINT end a chat with their exit codes: while a message is awaited, and
// while one is answered.
func TestChatStopped(t *testing.T) {
	dir := workplace(t)
	template := filepath.Join(t.TempDir(), "chat.jinja")
	if err := os.WriteFile(template, []byte("{% for m in messages %}{{ m.content }} {% endfor %}"), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		for _, tokens := range []string{"3", "400"} {
			t.Run(sig.String()+"/"+tokens, func(t *testing.T) {
				in, input, err := os.Pipe()
				if err != nil {
					t.Fatal(err)
				}
				output, out, err := os.Pipe()
				if err != nil {
					t.Fatal(err)
				}
				defer output.Close()
				defer input.Close() // open until the end: the chat must not wait for it
				c := program(t.Context(), dir, "chat", "model", "--chat-template", template, "--max-tokens", tokens, "--quiet")
				c.Stdin, c.Stdout = in, out
				wait := collect(c)
				in.Close()
				out.Close()
				if _, err := io.WriteString(input, "The old man\n"); err != nil {
					t.Fatal(err)
				}
				answer := bufio.NewReader(output)
				if _, err := answer.ReadByte(); err != nil { // the answer is under way
					t.Fatal(err)
				}
				if tokens == "3" { // the answer has ended
					if _, err := answer.ReadString('\n'); err != nil {
						t.Fatal(err)
					}
					time.Sleep(20 * time.Millisecond)
				}
				go func() { _, _ = io.Copy(io.Discard, answer) }()
				if err := c.Process.Signal(sig); err != nil {
					t.Fatal(err)
				}
				dead := time.AfterFunc(30*time.Second, func() { _ = c.Process.Kill() })
				res := wait()
				dead.Stop()
				if res.code != 128+int(sig) || !strings.Contains(res.stderr, "stopped by "+sig.String()) {
					t.Errorf("exit code %d (%v): %s", res.code, res.err, res.stderr)
				}
				oneLine(t, res)
			})
		}
	}
}
