// Command dispatch writes the Go functions that choose, for each operation, the kernel of the
// level in use: dispatch_amd64.go, dispatch_arm64.go and dispatch_other.go. What there is to
// choose from it reads from the declarations of the kernels, so that a new kernel is in use as
// soon as its generator writes it; how to call it is in the table in table.go.
package main

import (
	"flag"
	"log"
	"maps"
	"os"
	"path/filepath"
)

func main() {
	dir := flag.String("dir", ".", "folder of the declarations of kernels and of the result")
	flag.Parse()
	kernels, all := map[string]stubs{}, stubs{}
	for _, arch := range []string{"amd64", "arm64"} {
		found, err := readStubs(*dir, arch)
		if err != nil {
			log.Fatal(err)
		}
		kernels[arch] = found
		maps.Copy(all, found)
	}
	if err := checkTable(all); err != nil {
		log.Fatal(err)
	}
	for _, arch := range []string{"amd64", "arm64", "other"} {
		text, err := dispatch(arch, kernels[arch])
		if err != nil {
			log.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(*dir, "dispatch_"+arch+".go"), text, 0o666); err != nil {
			log.Fatal(err)
		}
	}
}
