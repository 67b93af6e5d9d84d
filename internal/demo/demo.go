// Package demo carries a small trained checkpoint inside the binary: 1.07 M
// parameters in the AFM shape (4 layers, d 128, 6 query and 2 KV heads of 32,
// FFN 352, vocabulary 2048, tied embedding, QK-norm), trained for this project.
// It is what `afmq demo` compresses and what the tests run on.
package demo

import (
	"embed"
	"io/fs"
	"os"
)

//go:embed model/*
var files embed.FS

// FS returns the checkpoint's files, config.json and its siblings, at the root.
func FS() fs.FS {
	sub, err := fs.Sub(files, "model")
	if err != nil {
		panic(err) // the path is a constant that the embed directive guarantees
	}
	return sub
}

// Extract writes the checkpoint as a Hugging Face style directory to dir, which
// must not exist yet or be empty.
func Extract(dir string) error {
	return os.CopyFS(dir, FS())
}
