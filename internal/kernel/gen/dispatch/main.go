// Command dispatch writes the Go functions that choose, for each operation, the kernel of the
// level in use: dispatch_amd64.go, dispatch_arm64.go and dispatch_other.go. What there is to
// choose from it reads from the declarations of the kernels, so that a new kernel is in use as
// soon as its generator writes it; how to call it is in the table in table.go.
package main

import (
	"flag"
	"log"
	"os"
	"path/filepath"
)

func main() {
	dir := flag.String("dir", ".", "folder of the declarations of kernels and of the result")
	flag.Parse()
	for _, arch := range []string{"amd64", "arm64", "other"} {
		kernels := stubs{}
		if arch != "other" {
			var err error
			if kernels, err = readStubs(*dir, arch); err != nil {
				log.Fatal(err)
			}
		}
		text, err := dispatch(arch, kernels)
		if err != nil {
			log.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(*dir, "dispatch_"+arch+".go"), text, 0o666); err != nil {
			log.Fatal(err)
		}
	}
}
