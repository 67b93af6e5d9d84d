package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

const (
	mark      = ".afmq-" // between the target's name and what tells its temporaries apart
	digits    = 16       // random hexadecimal digits of a temporary file's name
	staged    = "partial"
	maxPrefix = 200 // bytes of the target's name in that of a temporary file, which file systems limit to 255
	attempts  = 100 // at a name that other processes keep taking
)

// tempPrefix returns what the names of all temporary files of the target path begin with.
func tempPrefix(path string) string {
	name := filepath.Base(path)
	if len(name) > maxPrefix {
		name = strings.ToValidUTF8(name[:maxPrefix], "") // drops half a rune at the end
	}
	return "." + name + mark
}

// isTemp reports whether name is that of a temporary file whose name begins with prefix.
func isTemp(name, prefix string) bool {
	if len(name) < digits || !strings.HasSuffix(name[:len(name)-digits], mark) || !strings.HasPrefix(name, prefix) {
		return false
	}
	return strings.Trim(name[len(name)-digits:], "0123456789abcdef") == ""
}

// createTemp creates and locks a temporary file for the target path.
func createTemp(path string, perm fs.FileMode) (*os.File, error) {
	prefix := filepath.Join(filepath.Dir(path), tempPrefix(path))
	for range attempts {
		name := fmt.Sprintf("%s%0*x", prefix, digits, rand.Uint64())
		f, err := openFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		Step("temporary created")
		if _, err = hold(f, name); err == nil {
			return f, nil
		}
		// Another writer of the target took the file for a leftover before it was locked.
		f.Close()
		os.Remove(name)
		if !errors.Is(err, ErrLocked) && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return nil, ErrLocked
}

// removeLeftovers removes the temporary files that killed writers of the target path left.
// That it cannot is not an error.
func removeLeftovers(path string) {
	dir := filepath.Dir(path)
	for _, name := range tempNames(dir, tempPrefix(path)) {
		removeLeftover(filepath.Join(dir, name))
	}
}

// RemoveTemps removes all temporary files in dir, of which the caller has exclusive use.
func RemoveTemps(dir string) error {
	for _, name := range tempNames(dir, ".") {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// tempNames returns the names in dir that are those of temporary files with the prefix.
func tempNames(dir, prefix string) []string {
	d, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	var temps []string
	for _, name := range names {
		if isTemp(name, prefix) {
			temps = append(temps, name)
		}
	}
	return temps
}

// removeLeftover removes one temporary file if it is this user's and nobody is writing it.
func removeLeftover(name string) {
	f, held, err := openHeld(name)
	if err != nil {
		return
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && held && ownedByUser(info) {
		os.Remove(name)
	}
}

// StagedPath returns the name of the staged file of the target path: a temporary file that
// a later process continues.
func StagedPath(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+mark+staged)
}

// IsStaged reports whether name is that of a staged file.
func IsStaged(name string) bool {
	return strings.HasPrefix(name, ".") && strings.HasSuffix(name, mark+staged)
}

// CreateStaged creates and locks the staged file of the target path, in place of one that
// an earlier process left. The error is ErrLocked if another writer is at work on it.
func CreateStaged(path string) (*os.File, error) {
	name := StagedPath(path)
	for range attempts {
		f, err := openFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
		switch {
		case err == nil:
			if _, err = hold(f, name); err == nil {
				return f, nil
			}
			f.Close() // another writer took it for a leftover before it was locked
		case errors.Is(err, fs.ErrExist):
			// Removed rather than truncated: it may have a second name, a hard link.
			if f, err = OpenLocked(name); err == nil {
				err = os.Remove(name)
				f.Close()
			}
			if errors.Is(err, ErrLocked) {
				return nil, err
			}
		}
		if err != nil && !errors.Is(err, ErrLocked) && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if _, err := os.Stat(filepath.Dir(name)); err != nil {
			return nil, err
		}
	}
	return nil, ErrLocked
}
