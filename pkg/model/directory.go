package model

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"afmq/internal/infile"
	"afmq/pkg/fault"
)

// ReadConfigFile returns the content of dir/config.json. If there is none, the error, of kind
// [fault.Input], says what dir is instead: a file, a model in another format, an adapter, a
// directory of models.
func ReadConfigFile(dir string) ([]byte, error) {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fault.Inputf(dir, "does not exist")
	case err != nil:
		return nil, fault.Reading(dir, err)
	case !info.IsDir():
		return nil, notDirectory(dir)
	}
	data, err := infile.Read(filepath.Join(dir, "config.json"), MaxConfigBytes)
	if errors.Is(err, fs.ErrNotExist) {
		if _, e := os.Lstat(filepath.Join(dir, "config.json")); errors.Is(e, fs.ErrNotExist) { // no dangling link
			return nil, notModel(dir)
		}
	}
	return data, err
}

// notDirectory returns the error for a file in place of a model's directory.
func notDirectory(path string) error {
	if format, hint := infile.Foreign(path); format != "" {
		return fault.Inputf(path, "is %s; expected a directory with config.json and model.safetensors", format).WithHint("%s", hint)
	}
	err := fault.Inputf(path, "is not a directory; expected one with config.json and model.safetensors")
	if dir := filepath.Dir(path); isFile(filepath.Join(dir, "config.json")) {
		return err.WithHint("give the directory, %s", dir)
	}
	return err
}

// notModel returns the error for a directory without config.json.
func notModel(dir string) error {
	const missing = "has no config.json"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fault.Reading(dir, err)
	}
	var adapters, models []string
	for _, e := range entries {
		switch name := e.Name(); {
		case name == "adapter_config.json":
			return fault.Inputf(dir, "is an adapter, not a model").WithHint("give the model, and the adapter with --adapter")
		case isFile(filepath.Join(dir, name, "config.json")):
			models = append(models, filepath.Join(dir, name))
		case isFile(filepath.Join(dir, name, "adapter_config.json")):
			adapters = append(adapters, filepath.Join(dir, name))
		}
	}
	if len(adapters) > 0 {
		return fault.Inputf(dir, "is a directory of adapters, not a model").WithHint("give the model, and an adapter with --adapter %s", adapters[0])
	}
	for _, e := range entries {
		if format, hint := infile.Foreign(e.Name()); format != "" {
			return fault.Inputf(dir, "%s; %s is %s", missing, e.Name(), format).WithHint("%s", hint)
		}
	}
	if len(models) > 0 {
		return fault.Inputf(dir, "%s", missing).WithHint("it holds models: %s", firstFew(models))
	}
	return fault.Inputf(dir, "%s", missing).WithHint("a model is a directory with config.json, model.safetensors and tokenizer.json")
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// firstFew lists names, of many the first three.
func firstFew(names []string) string {
	slices.Sort(names)
	if len(names) > 4 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:3], ", "), len(names)-3)
	}
	return strings.Join(names, ", ")
}
