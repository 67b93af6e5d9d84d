package eval

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"afmq/internal/infile"
	"afmq/pkg/fault"
)

// maxTextBytes is the size of the largest data file that is read: it is held in memory.
const maxTextBytes = 8 << 30

// ReadTexts reads the texts of a data file, and returns with them the SHA-256 of the file in
// lower-case hex.
//
// A file whose name ends in ".jsonl" has one JSON object per line; its text is the value of
// the key "text". Blank lines and other keys are ignored. A line is refused if the key
// "text" is missing, occurs twice or is spelled in another case, if its value is not a
// string, and if the string escapes half of a surrogate pair (\ud800). Any other file is one
// text.
//
// The file must be UTF-8 without a byte order mark and hold more than white space. Errors are of kind [fault.Input]
// and name the file and the line.
func ReadTexts(file string) (texts []string, sha256Hex string, err error) {
	data, err := infile.Read(file, maxTextBytes)
	if err != nil {
		return nil, "", err
	}
	if texts, err = ParseTexts(file, data); err != nil {
		return nil, "", err
	}
	return texts, infile.SHA256(data), nil
}

// ParseTexts returns the texts in the content of a data file; see [ReadTexts].
func ParseTexts(file string, data []byte) ([]string, error) {
	if bytes.HasPrefix(data, []byte("\ufeff")) {
		return nil, fault.Inputf(file, "starts with a byte order mark (U+FEFF); remove it")
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, fault.Inputf(file, "holds no text")
	}
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		return nil, fault.Inputf(file, "is UTF-16; expected UTF-8").WithHint("iconv -f UTF-16 -t UTF-8 converts it; PowerShell 5 writes UTF-16 with >")
	}
	if err := checkUTF8(data); err != nil {
		return nil, fault.Inputf(file, "%v", err)
	}
	if !strings.EqualFold(filepath.Ext(file), ".jsonl") {
		return []string{string(data)}, nil
	}
	texts, err := jsonlTexts(data)
	switch bad := fault.Inputf(file, "%v", err); {
	case err == nil:
		return texts, nil
	case cutOff(data):
		return nil, bad.WithHint("the file ends within this line; cut it between lines, as head -n does")
	default:
		return nil, bad.WithHint("a .jsonl file has one {\"text\": …} a line; a text has another extension, such as .txt")
	}
}

// cutOff reports whether a .jsonl file is good but for a last line that is incomplete.
func cutOff(data []byte) bool {
	last := bytes.LastIndexByte(data, '\n') + 1
	_, err := jsonlTexts(data[:last])
	return err == nil && last > 0 && last < len(data) && !json.Valid(data[last:])
}

// checkUTF8 refuses binary files: a perplexity of one would look like any other. Text has no
// NUL, and many binary files have one before their first byte that is not UTF-8.
func checkUTF8(data []byte) error {
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n <= 1 {
			return fmt.Errorf("is not UTF-8 text: invalid byte 0x%02x at offset %d", data[i], i)
		}
		if r == 0 {
			return fmt.Errorf("is not text: NUL byte at offset %d", i)
		}
		i += n
	}
	return nil
}
