package artifact

import (
	"errors"
	"io/fs"
	"os"

	"afmq/internal/infile"
	"afmq/pkg/fault"
	"afmq/pkg/model"
)

// notArtifact returns the error, of kind [fault.Input], for a path in place of an artifact that
// has no manifest.json. It says what the path is instead.
func notArtifact(dir string) error {
	switch info, err := os.Stat(dir); {
	case errors.Is(err, fs.ErrNotExist):
		return fault.Inputf(dir, "does not exist")
	case err != nil:
		return fault.Reading(dir, err)
	case !info.IsDir():
		missing := fault.Inputf(dir, "is not an artifact, which is a directory with %s", ManifestFile)
		if format, hint := infile.Foreign(dir); format != "" {
			return missing.WithHint("it is %s: %s", format, hint)
		}
		return missing.WithHint("`afmq quantize` makes one")
	}
	missing := fault.Inputf(dir, "is not an artifact: it has no %s", ManifestFile)
	switch cfg, err := model.LoadConfig(dir); {
	case err != nil:
		return missing.WithHint("`afmq quantize` makes an artifact")
	case cfg.Quantization != nil:
		return missing.WithHint("%s is that of an artifact, whose copy is incomplete", ConfigFile)
	}
	return missing.WithHint("it is a checkpoint; `afmq quantize` makes an artifact of it")
}
