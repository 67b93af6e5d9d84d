// Package calibration embeds the built-in calibration text: 82 short documents of many kinds,
// about 110 KB, written for this project and under its license. It serves users who have no
// text of their own; text that resembles the model's future input gives better artifacts.
//
// The documents are in text/, in the format of golang.org/x/tools/txtar: a line "-- NAME --"
// starts a document. A name's extension says what the document is, such as .go or .fr.txt.
package calibration

import (
	"bytes"
	"embed"
	"encoding/json"
	"io/fs"
	"strings"
	"sync"

	"golang.org/x/tools/txtar"

	"afmq/internal/infile"
)

//go:embed text/*.txtar
var files embed.FS

// Document is one text.
type Document struct {
	Name string // unique, without directory
	Text string // without a line feed at the end
}

// Documents returns the documents in a fixed order. The caller must not change the slice.
var Documents = sync.OnceValue(func() []Document {
	var docs []Document
	names, err := fs.Glob(files, "text/*.txtar")
	if err != nil {
		panic(err) // the pattern is a constant
	}
	for _, name := range names {
		data, err := files.ReadFile(name)
		if err != nil {
			panic(err) // the file is embedded
		}
		for _, f := range txtar.Parse(data).Files {
			docs = append(docs, Document{f.Name, strings.TrimSuffix(string(f.Data), "\n")})
		}
	}
	return docs
})

// Texts returns the text of each document.
func Texts() []string {
	var out []string
	for _, d := range Documents() {
		out = append(out, d.Text)
	}
	return out
}

// JSONL returns the text as a .jsonl file, one {"text"} per line.
func JSONL() []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	for _, text := range Texts() {
		if err := e.Encode(map[string]string{"text": text}); err != nil {
			panic(err) // a string in a map can be encoded
		}
	}
	return b.Bytes()
}

// SHA256 identifies the text: the lower-case hex SHA-256 of [JSONL].
var SHA256 = sync.OnceValue(func() string { return infile.SHA256(JSONL()) })
