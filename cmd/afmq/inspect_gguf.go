package main

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"afmq/pkg/gguf"
)

type inspectGGUFObject struct {
	Schema string `json:"schema"`
	Path   string `json:"path"`
	*gguf.Description
}

// inspectGGUF prints what a GGUF file has.
func (a *app) inspectGGUF(path string) error {
	f, err := gguf.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	o := inspectGGUFObject{"afmq.inspect-gguf/v1", path, f.Describe()}
	return a.print(o, func(w io.Writer) error { return printGGUFHeader(w, o.Description) })
}

func printGGUFHeader(w io.Writer, d *gguf.Description) error {
	err := table(w, func(w io.Writer) {
		fmt.Fprintf(w, "kind\tGGUF file, version %d: %s\n", d.Version, printable(d.Kind))
		fmt.Fprintf(w, "architecture\t%s\n", printable(d.Architecture))
		fmt.Fprintf(w, "parameters\t%s\n", thousands(d.Parameters))
		fmt.Fprintf(w, "weights\t%s, %.3f bits per parameter\n", size(d.WeightBytes), d.BitsPerParam)
		for _, t := range d.Types {
			fmt.Fprintf(w, "  %s\t%s in %d tensors, %.4g bits each\n", t.Type, size(t.Bytes), t.Tensors, t.Bits)
		}
		fmt.Fprintf(w, "file\t%s\n", size(d.Bytes))
	})
	if err != nil {
		return err
	}
	return table(w, func(w io.Writer) {
		fmt.Fprint(w, "\nkey\ttype\tvalue\n")
		for _, k := range d.Metadata {
			fmt.Fprintf(w, "%s\t%s\t%s\n", printable(k.Key), k.Type, printable(k.Value))
		}
		fmt.Fprint(w, "\ntensor\ttype\tshape\tsize\n")
		for _, t := range d.Tensors {
			fmt.Fprintf(w, "%s\t%s\t%v\t%s\n", printable(t.Name), t.Type, t.Shape, size(t.Bytes))
		}
	})
}

// printable returns text of a file on one line, without characters that control a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return utf8.RuneError
		}
		return r
	}, s)
}
