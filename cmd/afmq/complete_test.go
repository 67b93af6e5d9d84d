package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// completions asks for the completions of the last word, as the script of a shell does. It
// returns them without descriptions, and the directive.
func completions(t *testing.T, words ...string) ([]string, cobra.ShellCompDirective) {
	t.Helper()
	var out, stderr bytes.Buffer
	if code := run(append([]string{cobra.ShellCompNoDescRequestCmd}, words...), &out, &stderr); code != 0 {
		t.Fatalf("%q: exit code %d: %s", words, code, &stderr)
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	last := lines[len(lines)-1]
	if len(last) < 2 || last[0] != ':' {
		t.Fatalf("%q: no directive in %q", words, out.String())
	}
	directive := 0
	for _, digit := range last[1:] {
		directive = 10*directive + int(digit-'0')
	}
	return lines[:len(lines)-1], cobra.ShellCompDirective(directive)
}

// Flags and arguments complete to what they take.
func TestCompletion(t *testing.T) {
	const (
		files  = cobra.ShellCompDirectiveDefault
		none   = cobra.ShellCompDirectiveNoFileComp
		dirs   = cobra.ShellCompDirectiveFilterDirs
		ext    = cobra.ShellCompDirectiveFilterFileExt
		values = cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	)
	for _, tc := range []struct {
		line      string // a word that begins is its last, "" after a space
		directive cobra.ShellCompDirective
		want      string
	}{
		{"quantize ", dirs, ""},
		{"inspect my", ext, "gguf"},
		{"diff ", ext, "gguf"},
		{"diff a ", ext, "gguf"},
		{"diff a b ", none, ""},
		{"plan ", ext, "json"},
		{"plan scores.json ", none, ""},
		{"report ", dirs, ""},
		{"version ", none, ""},
		{"quantize m --calib ", files, ""},
		{"quantize m --calib bu", files, "builtin"},
		{"quantize m --calib bx", files, ""},
		{"export a --to c", values, "coreml coreai compressed-tensors"},
		{"export a --to gguf --as ", values, "f16 bf16 f32"},
		{"export a --to coreai --shape ", values, "dynamic static"},
		{"export a --check-data ", files, ""},
		{"export a --reference ", dirs, ""},
		{"devices rasp", files, "raspberry-pi-5"},
		{"completion z", none, "zsh"},
		{"help quan", none, "quantize"},
		{"quantize m --out ", dirs, ""},
		{"quantize m -o ", dirs, ""},
		{"plan s --out ", files, ""},
		{"quantize m --plan ", ext, "json"},
		{"quantize m --calib ", files, ""},
		{"gate m --junit ", ext, "xml"},
		{"gate m --reference ", dirs, ""},
		{"report m --recovery ", dirs, ""},
		{"report m --eval ", ext, "json"},
		{"report m --compare ", ext, "json"},
		{"compare ", ext, "gguf"},
		{"compare m n ", ext, "gguf"},
		{"compare m --tasks ", files, ""},
		{"compare m --format ", values, "text markdown"},
		{"compare m --protocol ", values, "chunk llamacpp stride"},
		{"recover a --loss ", values, "kl ce mix"},
		{"recover a --loss=m", values, "mix"},
		{"recover a --init ", values, "svd plain zero"},
		{"quantize m --method ", values, "fisher kl hessian weight"},
		{"quantize m --grid ", values, "palette gguf"},
		{"quantize m --types iq", values, "iq4_nl iq4_xs"},
		{"quantize m --compensate ", values, "loss gptq none"},
		{"quantize m --bits 2", values, "2 2,4 2,3,4"},
		{"eval-perplexity m --protocol ", values, "chunk llamacpp stride"},
		{"plan s --device rasp", files, "raspberry-pi-5"},
		{"generate m --prompt ", none, ""},
		{"--threads ", none, ""},
		{"quantize m --max-b", none, "--max-bytes"},
	} {
		got, directive := completions(t, strings.Split(tc.line, " ")...)
		if directive != tc.directive || strings.Join(got, " ") != tc.want {
			t.Errorf("%q completes to %q, directive %d; expected %q, %d", tc.line, got, directive, tc.want, tc.directive)
		}
	}
}

// --adapter completes to directories with an adapter, with or without a name before them.
func TestAdapterCompletion(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, dir := range []string{"recovered/rank-16", "recovered/rank-8", "lone"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "adapter_config.json"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll("runs/monday/deep", 0o755); err != nil {
		t.Fatal(err)
	}
	const (
		whole = cobra.ShellCompDirectiveNoFileComp
		part  = whole | cobra.ShellCompDirectiveNoSpace
	)
	for _, tc := range []struct {
		word      string
		directive cobra.ShellCompDirective
		want      string
	}{
		{"", whole, "lone recovered/rank-16 recovered/rank-8"},
		{"rec", whole, "recovered/rank-16 recovered/rank-8"},
		{"recovered/", whole, "recovered/rank-16 recovered/rank-8"},
		{"recovered/rank-1", whole, "recovered/rank-16"},
		{"r16=recovered/rank-1", whole, "r16=recovered/rank-16"},
		{"x=", whole, "x=lone x=recovered/rank-16 x=recovered/rank-8"},
		{"runs", part, "runs/"},
		{"runs/", part, "runs/monday/"},
		{"nothing", part, ""},
	} {
		got, directive := completions(t, "generate", "m", "--adapter", filepath.FromSlash(tc.word))
		slices.Sort(got)
		if directive != tc.directive || filepath.ToSlash(strings.Join(got, " ")) != tc.want {
			t.Errorf("%q completes to %q, directive %d; expected %q, %d", tc.word, got, directive, tc.want, tc.directive)
		}
	}
}

// The values that complete are those that the help lists.
func TestCompletedValuesAreInTheHelp(t *testing.T) {
	found := map[string]bool{}
	for _, cmd := range newRootCommand(&app{}).Commands() {
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Name == "reference-compute" { // "as --compute"
				found[f.Name] = true
				return
			}
			for _, v := range flagValues[f.Name] {
				found[f.Name] = true
				if f.Name != "bits" && !strings.Contains(f.Usage, v) {
					t.Errorf("%s --%s completes to %s, which its help does not name", cmd.Name(), f.Name, v)
				}
			}
		})
	}
	for name := range flagValues {
		if !found[name] {
			t.Errorf("no command has --%s", name)
		}
	}
}
