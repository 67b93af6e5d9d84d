//go:build unix

package kernel

import (
	"runtime/debug"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPoolFault reads unmapped memory in every worker, as happens when a mapped file is truncated. The
// fault must reach the caller as a panic.
func TestPoolFault(t *testing.T) {
	page, err := unix.Mmap(-1, 0, unix.Getpagesize(), unix.PROT_NONE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Skip("cannot map a page: ", err)
	}
	defer unix.Munmap(page)
	p := NewPool(2)
	defer p.Close()
	for _, bad := range []int{0, 1} {
		func() {
			defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // worker 0 is this goroutine
			defer func() {
				if _, ok := recover().(interface{ Addr() uintptr }); !ok {
					t.Errorf("no memory fault from worker %d", bad)
				}
			}()
			var both sync.WaitGroup
			both.Add(2)
			dst := make([]float32, 16)
			p.Run(2, func(worker, _ int) {
				both.Done()
				both.Wait()
				if worker == bad {
					dst[0] = float32(page[0])
				}
			})
		}()
	}
}
