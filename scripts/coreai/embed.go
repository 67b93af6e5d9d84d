// Package bridge holds the Python program that compiles and runs Core AI programs, and the exact
// versions of the packages that it needs. Apple publishes the compiler as a Python package only.
package bridge

import "embed"

// Files are bridge.py and its modules, and requirements.txt.
//
//go:embed *.py requirements.txt
var Files embed.FS
