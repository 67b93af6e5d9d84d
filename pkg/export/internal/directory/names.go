package directory

import (
	"strings"

	"afmq/pkg/fault"
)

const nameCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_"

// CheckNames returns an error of kind fault.Usage unless the names of adapters differ and can name
// directories.
func CheckNames(names []string) error {
	seen := map[string]bool{}
	for _, name := range names {
		if strings.Trim(name, nameCharacters) != "" || strings.Trim(name, ".") == "" {
			return fault.Usagef("adapter name %q: expected letters, digits, ., - and _", name)
		}
		// File systems that ignore case would have one directory for both.
		if seen[strings.ToLower(name)] {
			return fault.Usagef("two adapters have the name %q", name)
		}
		seen[strings.ToLower(name)] = true
	}
	return nil
}
