package kernel

import "golang.org/x/sys/cpu"

// bestISA returns the widest level of this machine.
func bestISA() isa {
	x := &cpu.X86
	switch {
	case x.HasAVX512F && x.HasAVX512BW && x.HasAVX512DQ && x.HasAVX512VL && hasAVX2() && hasAMX():
		return isaAMX
	case x.HasAVX512F && x.HasAVX512BW && x.HasAVX512DQ && x.HasAVX512VL && hasAVX2():
		return isaAVX512
	case hasAVX2():
		return isaAVX2
	}
	return isaGeneric
}

func hasAVX2() bool { return cpu.X86.HasAVX2 && cpu.X86.HasFMA && cpu.X86.HasF16C }

// peak does n rounds of multiply-adds and returns the operations that were.
func peak(l isa, n int) int {
	switch l {
	case isaAVX512:
		return peakAVX512(n)
	case isaAVX2:
		return peakAVX2(n)
	}
	return peakGo(n)
}

// stream reads b, whose length is a positive multiple of 512, with fetch by fetching
// ahead.
func stream(l isa, b []byte, fetch bool) uint64 {
	switch {
	case l == isaAVX512 && fetch:
		return fetchAVX512(&b[0], len(b))
	case l == isaAVX512:
		return streamAVX512(&b[0], len(b))
	case l == isaAVX2 && fetch:
		return fetchAVX2(&b[0], len(b))
	case l == isaAVX2:
		return streamAVX2(&b[0], len(b))
	}
	return streamGo(b)
}
