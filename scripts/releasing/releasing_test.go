package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestVersionForm(t *testing.T) {
	for version, want := range map[string]bool{
		"0.2.0": true, "1.0.0-rc.1": true, "10.20.30": true, "1.0.0-0a": true,
		"": false, "v0.2.0": false, "0.2": false, "01.2.3": false, "0.2.0-": false, "0.2.0-01": false,
		"0.2.0 -X": false, "0.2.0\n": false, "../0.2.0": false, "0.2.0+meta": false,
	} {
		if got := versionForm.MatchString(version); got != want {
			t.Errorf("%q: %v", version, got)
		}
	}
}

// A wrong command line is refused before anything else is checked.
func TestRefusals(t *testing.T) {
	for _, args := range [][]string{nil, {"0.2.0", "more"}, {"latest"}} {
		err := run(args, allTargets)
		if err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", args, err)
		}
	}
}

// The archive for Windows has the same bytes each time, and every file.
func TestPackZip(t *testing.T) {
	when := time.Unix(1700000000, 999)
	files := map[string][]byte{"afmq.exe": []byte("binary"), "README.md": []byte("read"), "man/man1/a.1": []byte("a")}
	var first, second bytes.Buffer
	for b, zone := range map[*bytes.Buffer]*time.Location{&first: time.UTC, &second: time.FixedZone("", 3600)} {
		if err := packZip(b, "top", files, when.In(zone)); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Fatal("two archives of the same files differ")
	}
	z, err := zip.NewReader(bytes.NewReader(first.Bytes()), int64(first.Len()))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range z.File {
		names = append(names, f.Name)
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(data, files[strings.TrimPrefix(f.Name, "top/")]) || !f.Modified.Equal(time.Unix(1700000000, 0)) {
			t.Errorf("%s holds %q of %v, %v", f.Name, data, f.Modified, err)
		}
	}
	if want := []string{"top/README.md", "top/afmq.exe", "top/man/man1/a.1"}; !slices.Equal(names, want) {
		t.Errorf("%q", names)
	}
}

func TestPack(t *testing.T) {
	when := time.Unix(1700000000, 999).UTC()
	files := map[string][]byte{"afmq": []byte("binary"), "README.md": []byte("read"), "man/man1/a.1": []byte("a"), "completions/_afmq": {}}
	var first, second bytes.Buffer
	for _, b := range []*bytes.Buffer{&first, &second} {
		if err := pack(b, "top", files, when); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Fatal("two archives of the same files differ")
	}
	z, err := gzip.NewReader(&first)
	if err != nil {
		t.Fatal(err)
	}
	if !z.ModTime.IsZero() || z.Name != "" {
		t.Errorf("the gzip header holds %v and %q", z.ModTime, z.Name)
	}
	var names []string
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Gname != "" || !h.ModTime.Equal(time.Unix(1700000000, 0)) {
			t.Errorf("%s: %+v", h.Name, h)
		}
		if h.Typeflag == tar.TypeReg {
			data, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(data, files[strings.TrimPrefix(h.Name, "top/")]) {
				t.Errorf("%s holds %q, %v", h.Name, data, err)
			}
			if executable := h.Mode&0o111 != 0; executable != (h.Name == "top/afmq") {
				t.Errorf("%s has mode %o", h.Name, h.Mode)
			}
		}
	}
	want := []string{"top/", "top/README.md", "top/afmq", "top/completions/", "top/completions/_afmq", "top/man/", "top/man/man1/", "top/man/man1/a.1"}
	if !slices.Equal(names, want) {
		t.Errorf("%q", names)
	}
}
