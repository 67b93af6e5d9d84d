//go:build !windows

package main

import "os"

// obeysEscapes reports whether a terminal obeys the escape sequences of the bar.
func obeysEscapes(*os.File) bool { return true }
