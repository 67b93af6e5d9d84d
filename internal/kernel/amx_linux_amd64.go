package kernel

import "syscall"

// allowTiles requests permission to use tile registers, which a Linux process must do once
// (Documentation/arch/x86/xstate.rst in the Linux sources).
func allowTiles() bool {
	const (
		archPrctl      = 158
		archReqXComp   = 0x1023
		xfeatureXTData = 18
	)
	_, _, err := syscall.RawSyscall(archPrctl, archReqXComp, xfeatureXTData, 0)
	return err == 0
}
