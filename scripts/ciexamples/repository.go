package main

import (
	"io/fs"
	"os"
	"path/filepath"

	"afmq/internal/demo"
)

// prepare makes the repository described on the page, with the embedded model.
func prepare(dir string) error {
	for _, sub := range []string{"text", "tools", "models"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	if err := demo.Extract(filepath.Join(dir, "models/my-model")); err != nil {
		return err
	}
	source, err := os.Getwd()
	if err != nil {
		return err
	}
	if err := os.Symlink(source, filepath.Join(dir, "tools/afmq")); err != nil {
		return err
	}
	if err := writeTexts(filepath.Join(dir, "text/calib.jsonl"), 1, 10); err != nil {
		return err
	}
	return writeTexts(filepath.Join(dir, "text/held-out.jsonl"), 2, 24)
}

// checkOut copies the committed files, or all files.
func checkOut(repository, dir string, all bool) error {
	names := []string{"models", "text", "baseline.json"}
	if all {
		names = append(names, "bin", "build")
	}
	for _, name := range names {
		if err := copyAll(filepath.Join(repository, name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "tools"), 0o755); err != nil {
		return err
	}
	link, err := os.Readlink(filepath.Join(repository, "tools/afmq"))
	if err != nil {
		return err
	}
	return os.Symlink(link, filepath.Join(dir, "tools/afmq"))
}

func copyAll(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if d.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return os.WriteFile(target, data, info.Mode().Perm())
	})
}
