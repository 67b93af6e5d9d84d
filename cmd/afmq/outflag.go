package main

import (
	"strings"

	"github.com/spf13/pflag"

	"afmq/pkg/fault"
)

// outForm is what a command writes to --out.
type outForm string

const (
	outDir   outForm = "dir"   // a directory
	outFile  outForm = "file"  // a file; "-" stands for standard output
	outNamed outForm = "named" // a file or a directory
	outState outForm = "state" // a file whose name the state of an interrupted run bears, too
)

// outFormKey is the annotation of --out that holds its outForm.
const outFormKey = "afmq_out_form"

// standardOutput is the value of --out that stands for standard output.
const standardOutput = "-"

// registerOut adds --out and its shorthand -o.
func registerOut(f *pflag.FlagSet, out *string, form outForm, usage string) {
	f.VarP((*outPath)(out), "out", "o", usage)
	must(f.SetAnnotation("out", outFormKey, []string{string(form)}))
}

// outPath is the value of --out.
type outPath string

func (p *outPath) String() string { return string(*p) }
func (p *outPath) Type() string   { return "string" }

// Set refuses what becomes of -out DIR and -out=DIR, which pflag reads as -o ut.
func (p *outPath) Set(s string) error {
	if s == "ut" || strings.HasPrefix(s, "ut=") {
		return fault.Usagef("-o%s: long flags have two dashes", s).WithHint("write --out; ./%s is a path of that name", s)
	}
	*p = outPath(s)
	return nil
}

// checkOut refuses "-", standard output, as the output of a command that does not write to it,
// and where it would mix with JSON.
func checkOut(f *pflag.FlagSet, command string, wantJSON bool) error {
	out := f.Lookup("out")
	if out != nil && out.Value.String() == standardOutput {
		switch outForm(out.Annotations[outFormKey][0]) {
		case outDir:
			return fault.Usagef("--out -: %s writes a directory, which cannot go to standard output", command).
				WithHint("name the directory to create")
		case outNamed:
			return fault.Usagef("--out -: %s writes files by name, which cannot go to standard output", command).
				WithHint("name the file or directory to create")
		case outState:
			return fault.Usagef("--out -: %s keeps what it resumes from beside its output file, which needs a name", command).
				WithHint("name the file to write")
		}
		if wantJSON {
			return fault.Usagef("--out - and --json exclude each other: both print on standard output").
				WithHint("name a file with --out; with --json, standard output has the result")
		}
	}
	for _, name := range []string{"baseline", "junit"} {
		if flag := f.Lookup(name); flag != nil && flag.Value.String() == standardOutput {
			return fault.Usagef("--%s -: %s reads and writes a file here; name it", name, command)
		}
	}
	return nil
}
