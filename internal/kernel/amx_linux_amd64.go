package kernel

import "syscall"

// allowTiles asks the kernel for the right to use tile registers, which a process must do
// once (Linux, Documentation/arch/x86/xstate.rst).
func allowTiles() bool {
	const (
		archPrctl      = 158
		archReqXComp   = 0x1023
		xfeatureXTData = 18
	)
	_, _, err := syscall.RawSyscall(archPrctl, archReqXComp, xfeatureXTData, 0)
	return err == 0
}
