package memory

import (
	"os"
	"path/filepath"
	"testing"
)

func TestGroupLimit(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	write("none", "0::/a/b\n")
	write("v1", "9:name=systemd:/\n4:memory:/a/b\n3:cpu,cpuacct:/\n0::/\n")
	write("damaged", "x\n\n:::")
	write("fs/a/memory.max", "8589934592\n")
	write("fs/a/b/memory.max", "max\n")
	write("fs/memory/memory.limit_in_bytes", "9223372036854771712\n")
	write("fs/memory/a/b/memory.limit_in_bytes", "4294967296\n")
	for _, c := range []struct {
		groups string
		want   int64
	}{{"none", 8 << 30}, {"v1", 4 << 30}, {"damaged", 0}, {"missing", 0}} {
		if got := groupLimit(filepath.Join(dir, c.groups), filepath.Join(dir, "fs")); got != c.want {
			t.Errorf("%s: %d, want %d", c.groups, got, c.want)
		}
	}
}

func TestBudget(t *testing.T) {
	if got := Budget(123); got != 123 {
		t.Errorf("%d", got)
	}
	total := Total()
	if total <= 0 {
		t.Skip("this system does not say")
	}
	if got := Budget(0); got <= 0 || got >= total {
		t.Errorf("the default is %d of %d", got, total)
	}
}

// Values survive Idle, on the heap and in files, and no file is left.
func TestStore(t *testing.T) {
	dir := t.TempDir()
	s := NewStore(4000, dir)
	var all [][]float32
	for i, n := range []int{1000, 1, 5000, 3} {
		v, err := s.Floats(n)
		if err != nil {
			t.Fatal(err)
		}
		for k := range v {
			if v[k] != 0 {
				t.Fatal("not zero")
			}
			v[k] = float32(i*10000 + k)
		}
		s.Idle(v)
		all = append(all, v)
	}
	if got := s.OnDisk(); got != 4*5004 {
		t.Errorf("%d bytes on disk", got)
	}
	for i, v := range all {
		for k, x := range v {
			if x != float32(i*10000+k) {
				t.Fatalf("slice %d, element %d: %v", i, k, x)
			}
		}
	}
	s.Close()
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestStoreRefuses(t *testing.T) {
	if _, err := NewStore(0, filepath.Join(t.TempDir(), "missing")).Floats(10); err == nil {
		t.Error("a directory that is missing: no error")
	}
	if _, err := NewStore(0, t.TempDir()).Floats(1 << 50); err == nil {
		t.Error("a petabyte: no error")
	}
}
