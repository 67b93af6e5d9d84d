//go:build !(linux || darwin || windows)

package disk

import "errors"

// renameNoReplace is not known here.
var renameNoReplace = func(from, to string) error { return errors.ErrUnsupported }
