package gguf

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// Files made to use much memory take at most a few times their size, and errors that quote a key
// stay short.
func TestMemory(t *testing.T) {
	const size = 1 << 18
	const times, base = 12, 1 << 18
	head := func(tensors, keys uint64) []byte {
		return le.AppendUint64(le.AppendUint64(le.AppendUint32([]byte(magic), latest), tensors), keys)
	}
	array := func(t valueType, n uint64) []byte {
		b := le.AppendUint32(appendString(head(0, 1), "k"), uint32(typeArray))
		return le.AppendUint64(le.AppendUint32(b, uint32(t)), n)
	}
	files := map[string][]byte{
		"strings":         append(array(typeString, size/8), make([]byte, size)...),
		"arrays":          append(array(typeArray, size/12), make([]byte, size)...),
		"strings cut off": append(array(typeString, size/8+1), make([]byte, size+7)...),
		"float64":         append(array(typeFloat64, size/8), make([]byte, size)...),
		"a long key":      append(appendString(head(0, 1), strings.Repeat("k", maxKey)), 99, 0, 0, 0),
	}
	keys, tensors := head(0, size/15), head(size/30, 0)
	for i := range size / 30 {
		name := string([]byte{byte(i), byte(i >> 8), byte(i >> 16)})
		tensors = append(appendString(tensors, name), make([]byte, 16)...)
	}
	for i := range size / 15 {
		keys = append(appendString(keys, string([]byte{1 + byte(i%250), byte(i / 250)})), 0, 0, 0, 0, 7)
	}
	files["keys"], files["tensors"] = keys, tensors
	for name, file := range files {
		path := filepath.Join(t.TempDir(), "f")
		must(t, os.WriteFile(path, file, 0o666))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f, err := Open(path)
		runtime.ReadMemStats(&after)
		if err == nil {
			f.Close()
		} else if len(err.Error()) > 1000 {
			t.Errorf("%s: an error of %d bytes", name, len(err.Error()))
		}
		if got := after.TotalAlloc - before.TotalAlloc; got > times*uint64(len(file))+base {
			t.Errorf("%s: %d bytes allocated for a file of %d: %v", name, got, len(file), err)
		}
	}
}
