package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// makeArchive builds the program for a target and writes its archive into dir. It returns
// the archive's name and its SHA-256 in hex.
func makeArchive(dir, version, target string, common map[string][]byte, when time.Time) (string, string, error) {
	if !slices.Contains(allTargets, target) {
		return "", "", fmt.Errorf("unknown target %q; choose from %s", target, strings.Join(allTargets, ", "))
	}
	base := "afmq-" + version + "-" + strings.ReplaceAll(target, "/", "-")
	program := filepath.Join(dir, "program")
	if err := build(program, version, target); err != nil {
		return "", "", err
	}
	form := tarball
	if strings.HasPrefix(target, "windows/") {
		form = zipped
	}
	files := maps.Clone(common)
	var err error
	if files[form.program], err = os.ReadFile(program); err != nil {
		return "", "", err
	}
	if err := os.Remove(program); err != nil {
		return "", "", err
	}
	var packed bytes.Buffer
	if err := form.pack(&packed, base, files, when); err != nil {
		return "", "", err
	}
	name := base + form.extension
	return name, fmt.Sprintf("%x", sha256.Sum256(packed.Bytes())), os.WriteFile(filepath.Join(dir, name), packed.Bytes(), 0o644)
}

// archiveForm is a form of archive.
type archiveForm struct {
	extension string
	program   string // name of the program in it
	pack      func(w io.Writer, top string, files map[string][]byte, when time.Time) error
}

var (
	tarball = archiveForm{".tar.gz", "afmq", pack}
	zipped  = archiveForm{".zip", "afmq.exe", packZip} // for Windows
)

// pack writes files under the directory top as a gzipped tar whose bytes depend only on its
// arguments: entries are sorted, with directories first, have one time and no owner, and the
// gzip header has no name and no time. The file called afmq is executable.
func pack(w io.Writer, top string, files map[string][]byte, when time.Time) error {
	z, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	t := tar.NewWriter(z)
	header := func(name string, mode, size int64, kind byte) error {
		return t.WriteHeader(&tar.Header{
			Typeflag: kind, Name: name, Mode: mode, Size: size, ModTime: when.Truncate(time.Second), Format: tar.FormatUSTAR,
		})
	}
	entries := map[string]bool{top + "/": true}
	for name := range files {
		full := path.Join(top, name)
		entries[full] = true
		for d := path.Dir(full); d != top; d = path.Dir(d) {
			entries[d+"/"] = true
		}
	}
	for _, entry := range slices.Sorted(maps.Keys(entries)) {
		if strings.HasSuffix(entry, "/") {
			if err := header(entry, 0o755, 0, tar.TypeDir); err != nil {
				return err
			}
			continue
		}
		data := files[strings.TrimPrefix(entry, top+"/")]
		mode := int64(0o644)
		if path.Base(entry) == "afmq" {
			mode = 0o755
		}
		if err := header(entry, mode, int64(len(data)), tar.TypeReg); err != nil {
			return err
		}
		if _, err := t.Write(data); err != nil {
			return err
		}
	}
	if err := t.Close(); err != nil {
		return err
	}
	return z.Close()
}

// packZip writes files under the directory top as a zip archive whose bytes depend only on its
// arguments: entries are sorted and have one time.
func packZip(w io.Writer, top string, files map[string][]byte, when time.Time) error {
	z := zip.NewWriter(w)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		f, err := z.CreateHeader(&zip.FileHeader{
			Name: path.Join(top, name), Method: zip.Deflate, Modified: when.UTC().Truncate(time.Second),
		})
		if err != nil {
			return err
		}
		if _, err := f.Write(files[name]); err != nil {
			return err
		}
	}
	return z.Close()
}
