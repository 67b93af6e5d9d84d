package main

import "testing"

func TestShellCommand(t *testing.T) {
	got := shellCommand([]string{"/usr/bin/python3", "my dir/bridge.py", "it's", "a\u00e9", "$HOME"})
	if want := "/usr/bin/python3 'my" + noBreak + "dir/bridge.py' 'it'\\''s' 'a\u00e9' '$HOME'"; got != want {
		t.Errorf("%s, expected %s", got, want)
	}
}
