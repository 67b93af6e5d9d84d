package main

import (
	"os"

	"golang.org/x/sys/windows"
)

// obeysEscapes makes a console obey the escape sequences of the bar, and reports whether it does.
func obeysEscapes(f *os.File) bool {
	var mode uint32
	h := windows.Handle(f.Fd())
	if windows.GetConsoleMode(h, &mode) != nil {
		return false
	}
	return windows.SetConsoleMode(h, mode|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING) == nil
}
