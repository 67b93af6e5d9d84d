// Package demo embeds a small trained checkpoint: 1.07 M parameters in the architecture of
// Apple's on-device model (4 layers, d 128, 6 query and 2 KV heads of 32, FFN 352,
// vocabulary 2048, tied embedding, QK-norm), trained for this project. `afmq demo`
// compresses it, and tests use it.
package demo

import (
	"embed"
	"io/fs"
	"os"
)

//go:embed model/*
var files embed.FS

// FS returns a file system with the files of the checkpoint, such as config.json, at its
// root.
func FS() fs.FS {
	sub, err := fs.Sub(files, "model")
	if err != nil {
		panic(err) // the path is a constant that the embed directive guarantees
	}
	return sub
}

// Extract writes the checkpoint to the directory dir in Hugging Face's layout. It creates dir
// if necessary and refuses to overwrite a file.
func Extract(dir string) error {
	return os.CopyFS(dir, FS())
}
