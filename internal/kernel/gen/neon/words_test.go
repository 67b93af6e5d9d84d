package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestWordsAgreeWithAssembler compares every instruction that is written as a word with the encoding
// that GNU as gives for its comment.
func TestWordsAgreeWithAssembler(t *testing.T) {
	as, err := exec.LookPath("aarch64-linux-gnu-as")
	if err != nil {
		t.Skip("no aarch64-linux-gnu-as (Debian: binutils-aarch64-linux-gnu)")
	}
	line := regexp.MustCompile(`WORD \$0x([0-9a-f]{8}) // (.*)`)
	var words []uint32
	var source strings.Builder
	for _, f := range []*file{gemmFile(), weightsFile(), elementwiseFile()} {
		for _, m := range line.FindAllStringSubmatch(f.assembly(), -1) {
			w, err := strconv.ParseUint(m[1], 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			words = append(words, uint32(w))
			source.WriteString(m[2] + "\n")
		}
		if n := strings.Count(f.assembly(), "WORD"); n != len(line.FindAllString(f.assembly(), -1)) {
			t.Fatalf("%s: a word of %d has no comment", f.name, n)
		}
	}
	if len(words) < 1000 {
		t.Fatalf("only %d words", len(words))
	}
	object := filepath.Join(t.TempDir(), "words.o")
	cmd := exec.Command(as, "-o", object, "-")
	cmd.Stdin, cmd.Stderr = strings.NewReader(source.String()), os.Stderr
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	f, err := elf.Open(object)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	code, err := f.Section(".text").Data()
	if err != nil {
		t.Fatal(err)
	}
	got := make([]uint32, len(code)/4)
	if err := binary.Read(bytes.NewReader(code), binary.LittleEndian, got); err != nil {
		t.Fatal(err)
	}
	if len(got) != len(words) {
		t.Fatalf("%d instructions assembled, %d written", len(got), len(words))
	}
	for i, comment := range strings.Split(strings.TrimSpace(source.String()), "\n") {
		if got[i] != words[i] {
			t.Errorf("%s is %#08x, the generator has %#08x", comment, got[i], words[i])
		}
	}
}
