package stage

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sort"
	"strconv"
	"strings"
	"unicode"

	"afmq/pkg/fault"
)

// maxStateBytes bounds the size of the job and the journal of an earlier run. They grow
// with the number of tensors, not with their size.
const maxStateBytes = 1 << 30

// sameJob reports whether the staging directory has the state of the same job. The state
// of a different job is an error. A state without job.json or out/ is ignored.
func (d *Dir) sameJob(job []byte) (bool, error) {
	path := d.sub(jobName)
	old, err := readBounded(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if !bytes.Equal(old, job) {
		return false, fault.Inputf(d.root, "holds the state of an interrupted run of another job: %s", difference(old, job)).
			WithHint("repeat the former command to finish it, or add --restart to discard it")
	}
	if _, err := os.Lstat(d.sub(resultName)); err == nil {
		// Killed just before CommitFile published its file.
		os.Mkdir(d.sub(outName), 0o777)
	}
	for _, name := range []string{outName, stateName} {
		if info, err := os.Lstat(d.sub(name)); err != nil || !info.IsDir() {
			return false, nil // without out/ the earlier run had published
		}
	}
	return true, nil
}

func readBounded(path string) ([]byte, error) {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return nil, fault.Reading(path, err)
	case !info.Mode().IsRegular():
		return nil, fault.Inputf(path, "is not a regular file")
	case info.Size() > maxStateBytes:
		return nil, fault.Inputf(path, "has %d bytes; the limit is %d", info.Size(), int64(maxStateBytes))
	}
	data, err := os.ReadFile(path)
	return data, fault.Reading(path, err)
}

// difference describes the first key, in alphabetical order, in which two jobs differ.
func difference(old, now []byte) string {
	a, b := map[string]string{}, map[string]string{}
	if !flattenObject(old, a) || !flattenObject(now, b) {
		return "one of their descriptions is not a JSON object"
	}
	keys := make([]string, 0, len(a)+len(b))
	for k := range a {
		keys = append(keys, k)
	}
	for k := range b {
		if _, both := a[k]; !both {
			keys = append(keys, k)
		}
	}
	sort.Strings(keys)
	for _, k := range keys {
		x, inOld := a[k]
		y, inNow := b[k]
		switch {
		case !inOld:
			return fmt.Sprintf("%s was absent and is now %s", k, y)
		case !inNow:
			return fmt.Sprintf("%s was %s and is now absent", k, x)
		case x != y:
			return fmt.Sprintf("%s was %s and is now %s", k, x, y)
		}
	}
	return "their descriptions have equal values in different encodings"
}

// flattenObject stores the values of a JSON object in m under their dotted paths. It
// returns false if data is not an object.
func flattenObject(data []byte, m map[string]string) bool {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v map[string]any
	if d.Decode(&v) != nil || v == nil {
		return false
	}
	flatten("", v, m)
	return true
}

func flatten(prefix string, v map[string]any, m map[string]string) {
	for k, x := range v {
		if strings.ContainsFunc(k, unicode.IsControl) {
			k = strconv.Quote(k)
		}
		if nested, ok := x.(map[string]any); ok && len(nested) > 0 {
			flatten(prefix+k+".", nested, m)
			continue
		}
		text, err := json.Marshal(x)
		if err != nil {
			text = []byte(fmt.Sprint(x))
		}
		m[prefix+k] = string(text)
	}
}
