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

	"afmq/internal/fault"
)

// maxStateBytes bounds what is read of an earlier run's job and journal: they grow
// with the number of tensors, not with their size.
const maxStateBytes = 1 << 30

// sameJob says whether the root holds the state of the same job. That of another
// is an error; a state without a job, or without out/, is none.
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
			WithHint("give the former command again to finish it, or --restart to discard it")
	}
	for _, name := range []string{outName, stateName} {
		if info, err := os.Lstat(d.sub(name)); err != nil || !info.IsDir() {
			return false, nil // without out/ it had published
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
		return nil, fault.Inputf(path, "has %d bytes, more than any run writes", info.Size())
	}
	data, err := os.ReadFile(path)
	return data, fault.Reading(path, err)
}

// difference says in which key, the first in the order of their names, two jobs
// differ.
func difference(old, now []byte) string {
	a, b := map[string]string{}, map[string]string{}
	if !flattenObject(old, a) || !flattenObject(now, b) {
		return "its description cannot be read"
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
			return fmt.Sprintf("%s was not there and is now %s", k, y)
		case !inNow:
			return fmt.Sprintf("%s was %s and is not there now", k, x)
		case x != y:
			return fmt.Sprintf("%s was %s and is now %s", k, x, y)
		}
	}
	return "its description is written in another way"
}

// flattenObject puts the values of a JSON object into m, by dotted path.
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
