package compute

import "slices"

// KernelClass names the kernels that give the same bits as those in use in arithmetic a. A
// computation that is interrupted ends with the same bytes if it resumes on kernels of an
// equal class:
//
//   - "generic" is plain Go, which rounds every product of a multiply-add. It agrees with no
//     vector level, because element-wise operations are in F32 in every arithmetic.
//   - "vector" is every vector level in F32, and every vector level that has I16 in I16.
//   - The name of the level in use is the class in BF16 and Split, where AMX tiles sum in an
//     order of their own. It is the class, too, of an arithmetic that this machine has no
//     instructions for.
//
// The documentation of internal/kernel defines the order of sums of each arithmetic.
func KernelClass(a Arithmetic) string {
	return kernelClass(Level(), a, slices.Contains(Names(), a.String()))
}

// kernelClass is KernelClass on a level that has instructions for a, or lacks them.
func kernelClass(level string, a Arithmetic, has bool) string {
	if level != "generic" && has && (a == F32 || a == I16) {
		return "vector"
	}
	return level
}
