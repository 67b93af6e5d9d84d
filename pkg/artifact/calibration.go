package artifact

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
)

// CalibrationRecord says what text a quantization looked at: enough to know it again, and to
// see whether another text shares some of it, without the text itself.
type CalibrationRecord struct {
	Digest string   `json:"digest"`  // hex SHA-256 of the tokens, as sensitivity.Calibration defines it
	Tokens int      `json:"tokens"`  //
	SeqLen int      `json:"seq_len"` // tokens in a sequence
	Seed   int64    `json:"seed"`    // that chose the sequences
	Files  []string `json:"files"`   // hex SHA-256 of the files they come from, in the order given
	// Builtin is the one of Files that is the built-in text, which a .jsonl file of its documents
	// hashes to; empty if it was not used.
	Builtin string `json:"builtin,omitempty"`
	// Passages are the hex FNV-1a hashes, 64 bit, of runs of PassageTokens token ids, one
	// after another from the start of each sequence; of at most 4096, evenly chosen.
	Passages []string `json:"passages"`
}

// PassageTokens is the length of a passage. Two texts that share one are taken to share text: it
// is too long to be a common phrase.
const PassageTokens = 24

// maxPassages bounds the passages in a manifest.
const maxPassages = 4096

// Passages returns the hashes for [CalibrationRecord.Passages].
func Passages(sequences [][]int32) []string {
	out := []string{}
	total := 0
	for _, s := range sequences {
		total += len(s) / PassageTokens
	}
	every, i := max((total+maxPassages-1)/maxPassages, 1), 0
	for _, s := range sequences {
		for ; len(s) >= PassageTokens; s = s[PassageTokens:] {
			if i%every == 0 {
				out = append(out, fmt.Sprintf("%016x", passageHash(s)))
			}
			i++
		}
	}
	return out
}

func passageHash(ids []int32) uint64 {
	h := fnv.New64a()
	var b [4]byte
	for _, id := range ids[:PassageTokens] {
		binary.LittleEndian.PutUint32(b[:], uint32(id))
		h.Write(b[:])
	}
	return h.Sum64()
}

// Overlap returns how many of the calibration's passages occur in a text, given its token ids of
// the same tokenizer.
func (c *CalibrationRecord) Overlap(ids []int32) int { return PassageCounter(c.Passages)(ids) }

// PassageCounter returns a function that counts how many of the passages occur in a text, given its
// token ids.
func PassageCounter(passages []string) func(ids []int32) int {
	known := make(map[uint64]bool, len(passages))
	for _, p := range passages {
		if h, err := strconv.ParseUint(p, 16, 64); err == nil {
			known[h] = true
		}
	}
	return func(ids []int32) int {
		found := map[uint64]bool{}
		for i := 0; i+PassageTokens <= len(ids); i++ {
			if h := passageHash(ids[i:]); known[h] {
				found[h] = true
			}
		}
		return len(found)
	}
}

// UsedFile reports whether the file with this hex SHA-256 was calibrated on.
func (c *CalibrationRecord) UsedFile(sha256 string) bool {
	return slices.Contains(c.Files, sha256)
}

func (c *CalibrationRecord) check() error {
	if err := checkDigest("calibration.digest", c.Digest); err != nil {
		return err
	}
	for _, f := range c.Files {
		if err := checkDigest("calibration.files", f); err != nil {
			return err
		}
	}
	if c.Builtin != "" && !slices.Contains(c.Files, c.Builtin) {
		return fmt.Errorf("calibration.builtin %q is not one of calibration.files", c.Builtin)
	}
	if err := checkPassages("calibration.passages", c.Passages); err != nil {
		return err
	}
	if c.Tokens < 1 || c.SeqLen < 1 || len(c.Files) == 0 {
		return fmt.Errorf("calibration is of %d tokens in sequences of %d from %d files", c.Tokens, c.SeqLen, len(c.Files))
	}
	return nil
}
