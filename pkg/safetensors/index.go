package safetensors

import (
	"errors"
	"fmt"
	"path/filepath"
	"sort"
	"strings"
	"unicode/utf8"

	"afmq/internal/infile"
	"afmq/pkg/fault"
)

// index is the content of model.safetensors.index.json: the shard of every tensor.
type index struct {
	shards []string          // plain file names, sorted
	shard  map[string]string // tensor name to shard
}

// readIndex reads the index file at path. Memory is bounded by the size of the file,
// which has the limit of a header.
func readIndex(path string) (*index, error) {
	text, err := infile.Read(path, maxHeader)
	if err != nil {
		return nil, err
	}
	x, err := parseIndex(text)
	if err != nil {
		return nil, fault.Inputf(path, "%v", err)
	}
	return x, nil
}

// parseIndex parses {"metadata": …, "weight_map": {TENSOR: SHARD, …}}. Keys other
// than weight_map are ignored: the total_size in metadata is often wrong, and is not
// needed.
func parseIndex(text []byte) (*index, error) {
	if !utf8.Valid(text) {
		return nil, errors.New("not valid UTF-8")
	}
	x := &index{}
	keys := make(map[string]bool)
	shards := make(map[string]bool)
	s := &scanner{text: string(text)}
	err := s.object(func(key string) error {
		if keys[key] {
			return s.errorf("duplicate key %q", key)
		}
		keys[key] = true
		if key != "weight_map" {
			return s.skip(2)
		}
		x.shard = make(map[string]string)
		return s.object(func(name string) error {
			if _, dup := x.shard[name]; dup {
				return s.errorf("duplicate tensor %q", name)
			}
			shard, err := s.str()
			if err == nil {
				err = checkShardName(shard)
			}
			if err != nil {
				return fmt.Errorf("weight_map: tensor %q: %w", name, err)
			}
			x.shard[name] = shard
			shards[shard] = true
			return nil
		})
	})
	if err == nil {
		err = s.end()
	}
	if err != nil {
		return nil, err
	}
	if len(x.shard) == 0 {
		return nil, errors.New("no weight_map, or an empty one")
	}
	for shard := range shards {
		x.shards = append(x.shards, shard)
	}
	sort.Strings(x.shards)
	return x, nil
}

// checkShardName refuses a name that leads out of the index's directory. The file
// itself may be a symbolic link, as in the caches of model hubs.
func checkShardName(name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\\\x00") || !filepath.IsLocal(name) {
		return fmt.Errorf("shard %q is not a plain file name", name)
	}
	return nil
}
