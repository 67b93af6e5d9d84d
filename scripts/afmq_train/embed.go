// Package worker holds the Python program that makes the steps of a recovery under torchrun, and
// the exact versions of the packages that it needs.
package worker

import "embed"

// Files are the modules of the Python package afmq_train, and requirements.txt.
//
//go:embed *.py requirements.txt
var Files embed.FS
