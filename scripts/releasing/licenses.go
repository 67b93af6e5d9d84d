package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// licenses returns the license texts of Go and of every module that is linked into the
// program on any target. Binary distributions must include them.
func licenses() ([]byte, error) {
	dirs := map[string]string{} // module and version -> directory
	for _, target := range allTargets {
		goos, goarch, _ := strings.Cut(target, "/")
		out, err := output("env", "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+goarch, "go", "list", "-deps",
			"-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}\t{{.Dir}}{{end}}{{end}}", "./cmd/afmq")
		if err != nil {
			return nil, err
		}
		for _, line := range strings.Split(string(out), "\n") {
			if module, dir, ok := strings.Cut(line, "\t"); ok {
				dirs[module] = dir
			}
		}
	}
	goroot, err := output("go", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	dirs["Go"] = strings.TrimSpace(string(goroot))
	var modules []string
	for m := range dirs {
		modules = append(modules, m)
	}
	slices.Sort(modules)
	var b bytes.Buffer
	for _, m := range modules {
		files, err := licenseFiles(dirs[m])
		if err != nil {
			return nil, err
		}
		if len(files) == 0 {
			return nil, fmt.Errorf("%s has no license file in %s", m, dirs[m])
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			fmt.Fprintf(&b, "== %s: %s\n\n%s\n\n", m, filepath.Base(file), bytes.TrimSpace(text))
		}
	}
	return b.Bytes(), nil
}

// licenseFiles returns the license and notice files in a module's directory.
func licenseFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		name := strings.ToUpper(e.Name())
		if !e.IsDir() && (strings.HasPrefix(name, "LICEN") || strings.HasPrefix(name, "COPYING") || strings.HasPrefix(name, "NOTICE")) &&
			!strings.HasSuffix(name, ".GO") {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	return files, nil
}
