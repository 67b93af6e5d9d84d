package model

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"afmq/internal/infile"
	"afmq/pkg/fault"
)

// hubID is a model on the Hugging Face Hub, owner/name, with an optional revision.
var hubID = regexp.MustCompile(`^([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([\w][\w./-]*))?$`)

// SplitHubID divides "owner/name" or "owner/name@revision", a model on the Hugging Face Hub, into the
// repository and the revision, which is "main" if none is given. ok is false for any other text.
func SplitHubID(id string) (repository, revision string, ok bool) {
	m := hubID.FindStringSubmatch(id)
	if m == nil || strings.Contains(m[1], "--") || strings.Contains(m[1]+m[2], "..") {
		return "", "", false // the Hub has no such names, and they could lead out of the cache
	}
	if m[2] == "" {
		return m[1], "main", true
	}
	return m[1], m[2], true
}

// HubCache returns the local cache of the Hugging Face Hub, as huggingface_hub finds it: HF_HUB_CACHE,
// hub in HF_HOME, huggingface/hub in XDG_CACHE_HOME, or ~/.cache/huggingface/hub.
func HubCache() string {
	if dir := os.Getenv("HF_HUB_CACHE"); dir != "" {
		return dir
	}
	if dir := os.Getenv("HF_HOME"); dir != "" {
		return filepath.Join(dir, "hub")
	}
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		home, _ := os.UserHomeDir()
		cache = filepath.Join(home, ".cache")
	}
	return filepath.Join(cache, "huggingface", "hub")
}

// maxRef is the size of the largest file in refs that is read: a commit in hex.
const maxRef = 256

// HubSnapshot returns the directory of a model in the local cache of the Hugging Face Hub. id is
// "owner/name", or "owner/name@revision" with a branch, a tag or a commit. Nothing is downloaded: for a
// model that is not in the cache the error, of kind [fault.Input], has the command that downloads it.
func HubSnapshot(id string) (string, error) {
	repository, revision, ok := SplitHubID(id)
	if !ok {
		return "", fault.Inputf(id, "is not a model's name on the Hugging Face Hub, owner/name")
	}
	root := filepath.Join(HubCache(), "models--"+strings.ReplaceAll(repository, "/", "--"))
	commit := revision
	ref := filepath.Join(root, "refs", filepath.FromSlash(revision))
	if info, err := os.Stat(ref); err == nil && info.Mode().IsRegular() {
		data, err := infile.ReadBounded(ref, maxRef)
		if err != nil {
			return "", err
		}
		commit = strings.TrimSpace(string(data))
	}
	dir := filepath.Join(root, "snapshots", commit)
	if info, err := os.Stat(dir); filepath.IsLocal(commit) && err == nil && info.IsDir() {
		return dir, nil
	}
	return "", fault.Inputf(id, "is not in the cache of the Hugging Face Hub, %s", HubCache()).
		WithHint("no command of afmq downloads a model; `%s` does", HubDownload(id))
}

// hubSnapshot is the path of a snapshot as [HubSnapshot] returns it.
var hubSnapshot = regexp.MustCompile(`(?:^|/)models--([A-Za-z0-9][\w.-]*?)--([A-Za-z0-9][\w.-]*)/snapshots/[^/]+$`)

// HubRepository returns the name, owner/name, of the model whose snapshot in a cache of the Hugging Face
// Hub is the directory dir; "" if it is none.
func HubRepository(dir string) string {
	path, err := filepath.Abs(dir)
	if err != nil {
		return ""
	}
	m := hubSnapshot.FindStringSubmatch(filepath.ToSlash(path))
	if m == nil {
		return ""
	}
	return m[1] + "/" + m[2]
}

// HubDownload returns the command of huggingface_hub that downloads a model to its cache; "" if id is
// not a model's name on the Hub.
func HubDownload(id string) string {
	repository, revision, ok := SplitHubID(id)
	switch {
	case !ok:
		return ""
	case revision == "main":
		return "hf download " + repository
	}
	return "hf download " + repository + " --revision " + revision
}
