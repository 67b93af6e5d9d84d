// Command releasing makes the archives of a release, for scripts/release.
//
// The archives are dist/VERSION/afmq-VERSION-OS-ARCH.tar.gz for Linux and macOS, and .zip for
// Windows, on amd64 and arm64, with SHA256SUMS. An archive has the program, LICENSE and the
// licenses of the linked modules, archive.md as its README.md, the man pages and the completion
// scripts.
//
// Releases are reproducible: the same commit and Go version give the same bytes in any
// directory. Binaries are built without cgo, paths (-trimpath), build ID and version control
// stamp, which would be present in a clone but not in an unpacked archive. Archives have sorted
// names, the commit's time, and no owner. A dirty tree is refused.
package main

import (
	_ "embed"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"afmq/internal/manual"
)

// allTargets are the platforms of a release.
var allTargets = []string{"darwin/amd64", "darwin/arm64", "linux/amd64", "linux/arm64", "windows/amd64", "windows/arm64"}

func main() {
	targets := flag.String("targets", strings.Join(allTargets, ","), "OS/ARCH to build for, joined by commas")
	flag.Parse()
	if err := run(flag.Args(), strings.Split(*targets, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// versionForm is a version of Semantic Versioning without build metadata: 0.2.0, 1.0.0-rc.1.
var versionForm = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?$`)

func run(args, targets []string) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: scripts/release VERSION, such as 0.2.0")
	}
	version := args[0]
	if !versionForm.MatchString(version) {
		return fmt.Errorf("version %q is not of the form 0.2.0 or 0.2.0-rc.1", version)
	}
	from, err := cleanCommit()
	if err != nil {
		return err
	}
	final := filepath.Join("dist", version)
	if _, err := os.Lstat(final); err == nil {
		return fmt.Errorf("%s already exists; remove it to build it again", final)
	}
	if err := os.MkdirAll("dist", 0o755); err != nil {
		return err
	}
	staged, err := os.MkdirTemp("dist", ".partial-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(staged)
	common, err := documents(version)
	if err != nil {
		return err
	}
	var sums []string
	for _, target := range targets {
		name, sum, err := makeArchive(staged, version, target, common, from.when)
		if err != nil {
			return err
		}
		sums = append(sums, sum+"  "+name+"\n")
	}
	if err := os.WriteFile(filepath.Join(staged, "SHA256SUMS"), []byte(strings.Join(sums, "")), 0o644); err != nil {
		return err
	}
	if now, err := cleanCommit(); err != nil {
		return err
	} else if now != from {
		return fmt.Errorf("the checkout changed from commit %.12s to %.12s during the build", from.hash, now.hash)
	}
	if err := os.Chmod(staged, 0o755); err != nil {
		return err
	}
	if err := os.Rename(staged, final); err != nil {
		return err
	}
	fmt.Printf("%s\n%s", final, strings.Join(sums, ""))
	return nil
}

// readme is the README.md of an archive. That of the repository is for those who have its sources.
//
//go:embed archive.md
var readme []byte

// documents returns the files of every archive except the program, by name.
func documents(version string) (map[string][]byte, error) {
	dir, err := os.MkdirTemp("", "afmq-release")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "afmq")
	if err := build(program, version, ""); err != nil { // for this machine, to generate the documents
		return nil, err
	}
	ask := manual.Program(program)
	if said, err := manual.Version(ask); err != nil || said != version {
		return nil, fmt.Errorf("the program reports version %q, not %q (%v)", said, version, err)
	}
	files := map[string][]byte{"README.md": readme}
	for _, name := range []string{"LICENSE", "CHANGELOG.md"} {
		if files[name], err = os.ReadFile(name); err != nil {
			return nil, err
		}
	}
	if files["LICENSES-THIRD-PARTY.txt"], err = licenses(); err != nil {
		return nil, err
	}
	pages, err := manual.Read(ask)
	if err != nil {
		return nil, err
	}
	for _, p := range pages {
		files["man/man1/"+strings.ReplaceAll(p.Command, " ", "-")+".1"] = []byte(p.Man(version))
	}
	for shell, name := range map[string]string{"bash": "afmq.bash", "zsh": "_afmq", "fish": "afmq.fish", "powershell": "afmq.ps1"} {
		if files["completions/"+name], err = ask("completion", shell); err != nil {
			return nil, err
		}
	}
	return files, nil
}
