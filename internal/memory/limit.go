package memory

import (
	"math"
	"os"
	"path"
	"strconv"
	"strings"
)

// DefaultShare is the share of the machine's memory that a job uses unless it is told otherwise.
const DefaultShare = 0.7

// Budget returns the bytes that a job may use: wanted, or for 0 the default share of [Total].
func Budget(wanted int64) int64 {
	if wanted > 0 {
		return wanted
	}
	if total := Total(); total > 0 {
		return int64(DefaultShare * float64(total))
	}
	return math.MaxInt64
}

// Total returns the memory of the machine or, where that is less, of the control group of the
// process, in bytes; 0 if the system does not say.
func Total() int64 {
	total := physical()
	if limit := groupLimit("/proc/self/cgroup", "/sys/fs/cgroup"); limit > 0 && (total == 0 || limit < total) {
		return limit
	}
	return total
}

// groupLimit returns the least memory limit of the control groups that the process is in and of
// those around them, of version 2 or 1; 0 for none. groups lists the groups of the process, and
// root is where their file systems are mounted (Linux, admin-guide/cgroup-v2, memory.max;
// cgroup-v1/memory, memory.limit_in_bytes).
func groupLimit(groups, root string) (least int64) {
	data, err := os.ReadFile(groups)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			continue
		}
		mount, file := root, "memory.max"
		if fields[1] != "" {
			if fields[1] != "memory" {
				continue
			}
			mount, file = path.Join(root, "memory"), "memory.limit_in_bytes"
		}
		// In a container the path may be that outside of it: the mounted root is its own group.
		for group := path.Clean("/" + fields[2]); ; group = path.Dir(group) {
			if n := readLimit(path.Join(mount, group, file)); n > 0 && (least == 0 || n < least) {
				least = n
			}
			if group == "/" {
				break
			}
		}
	}
	return least
}

// readLimit returns the limit in a file; 0 for none. Version 1 writes a number near the largest for
// no limit.
func readLimit(name string) int64 {
	data, err := os.ReadFile(name)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64) // "max" is no number
	if err != nil || n >= 1<<60 {
		return 0
	}
	return n
}
