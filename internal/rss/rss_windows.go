package rss

import (
	"unsafe"

	"golang.org/x/sys/windows"
)

// counters is PROCESS_MEMORY_COUNTERS of psapi.h; sizes are in bytes.
type counters struct {
	size                       uint32 // of this structure
	pageFaults                 uint32
	peakWorkingSet             uintptr
	workingSet                 uintptr
	quotaPeakPagedPoolUsage    uintptr
	quotaPagedPoolUsage        uintptr
	quotaPeakNonPagedPoolUsage uintptr
	quotaNonPagedPoolUsage     uintptr
	pagefileUsage              uintptr
	peakPagefileUsage          uintptr
}

// getMemoryInfo is GetProcessMemoryInfo, which Windows 7 and later have in kernel32.
var getMemoryInfo = windows.NewLazySystemDLL("kernel32.dll").NewProc("K32GetProcessMemoryInfo")

// Peak returns the peak working set of the process in bytes, including mapped pages, or 0 if
// the system does not report it.
func Peak() int64 {
	c := counters{size: uint32(unsafe.Sizeof(counters{}))}
	if getMemoryInfo.Find() != nil {
		return 0
	}
	ok, _, _ := getMemoryInfo.Call(uintptr(windows.CurrentProcess()), uintptr(unsafe.Pointer(&c)), uintptr(c.size))
	if ok == 0 {
		return 0
	}
	return int64(c.peakWorkingSet)
}
