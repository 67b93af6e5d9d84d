package eval

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
)

// jsonStart matches the start of a JSON array of objects, or of an object.
var jsonStart = regexp.MustCompile(`^\s*(\[\s*)?\{\s*"`)

// FormWarning returns a line for people if the texts of a data file, as [ReadTexts] returned
// them, are a JSON document that was read as one plain text; otherwise it returns "".
func FormWarning(file string, texts []string) string {
	switch ext := filepath.Ext(file); {
	case strings.EqualFold(ext, ".jsonl") || len(texts) != 1:
		return ""
	case strings.EqualFold(ext, ".json"), jsonStart.MatchString(texts[0]):
		return fmt.Sprintf("%s is JSON, and is read as one plain text, syntax included; a .jsonl file has one {\"text\": …} a line", file)
	}
	return ""
}
