package tokenizer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"unicode/utf8"
)

// model is a vocabulary and its merges (byte pair encoding: Sennrich, Haddow and Birch, https://aclanthology.org/P16-1162).
type model struct {
	ids    map[string]int32
	tokens map[int32]string
	merges *pairTable // pair of tokens -> rank and merged token

	unk          int32 // token of characters outside the vocabulary; -1: they are dropped
	fuseUnk      bool  // a run of unknown characters becomes one unk
	byteFallback bool  // an unknown character becomes tokens like <0xE2>
	ignoreMerges bool  // a word that is in the vocabulary is one token, without merges

	chars    map[rune]int32 // tokens of one character
	alphabet [256]int32     // the token of each byte in ByteLevel's alphabet, -1 if none
	fallback [256]int32     // the token <0xNN> of each byte, -1 if none

	// joints are the pairs of characters on the two sides of a merge. No merge crosses
	// two characters that are not a joint, so a text can be split there. If whole is
	// set, merges involve unk or byte tokens, and a text must not be split.
	joints *pairTable
	whole  bool
}

// byteChars is ByteLevel's alphabet: the character of each byte. Printable characters of
// Latin-1 map to themselves, the others to U+0100 and following
// (https://github.com/openai/gpt-2, encoder.py).
var byteChars, charBytes = func() (chars [256]rune, inverse map[rune]byte) {
	next := rune(0x100)
	inverse = map[rune]byte{}
	for b := range chars {
		if b >= '!' && b <= '~' || b >= 0xA1 && b <= 0xAC || b >= 0xAE {
			chars[b] = rune(b)
		} else {
			chars[b] = next
			next++
		}
		inverse[chars[b]] = byte(b)
	}
	return chars, inverse
}()

// parseModel reads the model at o; byteLevel reports whether words are in ByteLevel's
// alphabet.
func parseModel(o *object, byteLevel bool) (*model, error) {
	kind, err := o.optStr("type")
	if err != nil {
		return nil, err
	}
	if kind != "BPE" && (kind != "" || !o.has("merges")) {
		return nil, o.errorf("is not supported: model %q", kind)
	}
	if o.has("dropout") {
		var p float64
		if err := o.get("dropout", &p); err != nil {
			return nil, err
		}
		if p != 0 {
			return nil, o.errorf("is not supported: dropout %v, its output would be random", p)
		}
	}
	for _, key := range []string{"continuing_subword_prefix", "end_of_word_suffix"} {
		s, err := o.optStr(key)
		if err != nil {
			return nil, err
		}
		if s != "" {
			return nil, o.errorf("is not supported: %s %q", key, s)
		}
	}
	m := &model{unk: -1}
	for _, f := range []struct {
		key string
		v   *bool
	}{{"fuse_unk", &m.fuseUnk}, {"byte_fallback", &m.byteFallback}, {"ignore_merges", &m.ignoreMerges}} {
		if *f.v, err = o.optBool(f.key, false); err != nil {
			return nil, err
		}
	}
	if err := m.parseVocab(o); err != nil {
		return nil, err
	}
	if o.has("unk_token") {
		s, err := o.str("unk_token")
		if err != nil {
			return nil, err
		}
		id, ok := m.ids[s]
		if ok {
			m.unk = id
		} else if !m.complete(byteLevel) {
			return nil, o.errorf("has the unk_token %s, which is not in its vocabulary", quote(s))
		}
	}
	return m, m.parseMerges(o)
}

// parseVocab reads "vocab" and derives the tables of characters and bytes.
func (m *model) parseVocab(o *object) error {
	if !o.has("vocab") {
		return o.errorf("lacks %q", "vocab")
	}
	raw := o.members["vocab"]
	if bytes.TrimLeft(raw, " \t\r\n")[0] != '{' {
		return o.errorf("has an invalid %q: not a JSON object", "vocab")
	}
	m.ids, m.tokens, m.chars = map[string]int32{}, map[int32]string{}, map[rune]int32{}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if _, err := dec.Token(); err != nil {
		return o.errorf("has an invalid %q: %s", "vocab", jsonCause(err))
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return o.errorf("has an invalid %q: %s", "vocab", jsonCause(err))
		}
		token := key.(string)
		value, err := dec.Token()
		if err != nil {
			return o.errorf("has an invalid %q: %s", "vocab", jsonCause(err))
		}
		id, err := o.id(quote(token), fmt.Append(nil, value))
		if err != nil {
			return err
		}
		if _, twice := m.ids[token]; twice {
			return o.errorf("has the duplicate token %s", quote(token))
		}
		if other, twice := m.tokens[id]; twice {
			return o.errorf("assigns %s and %s the same id %d", quote(other), quote(token), id)
		}
		m.ids[token], m.tokens[id] = id, token
		if c, n := utf8.DecodeRuneInString(token); token != "" && n == len(token) {
			m.chars[c] = id
		}
	}
	for b := range 256 {
		m.alphabet[b], m.fallback[b] = -1, -1
		if id, ok := m.chars[byteChars[b]]; ok {
			m.alphabet[b] = id
		}
		if id, ok := m.ids[fmt.Sprintf("<0x%02X>", b)]; ok {
			m.fallback[b] = id
		}
	}
	return nil
}

// complete reports whether the model can encode every text without unk.
func (m *model) complete(byteLevel bool) bool {
	table := &m.fallback
	if byteLevel {
		table = &m.alphabet
	} else if !m.byteFallback {
		return false
	}
	for _, id := range table {
		if id < 0 {
			return false
		}
	}
	return true
}

// parseMerges reads "merges": strings "a b" or pairs ["a", "b"], by rank.
func (m *model) parseMerges(o *object) error {
	var pairs [][]string
	if !o.has("merges") {
		return o.errorf("lacks %q", "merges")
	}
	if err := json.Unmarshal(o.members["merges"], &pairs); err != nil {
		var lines []string
		if err := o.get("merges", &lines); err != nil {
			return err
		}
		pairs = make([][]string, 0, len(lines))
		for _, s := range lines {
			if !strings.HasPrefix(s, "#version") {
				pairs = append(pairs, strings.Split(s, " "))
			}
		}
	}
	m.merges, m.joints = newPairTable(len(pairs)), newPairTable(len(pairs))
	for rank, p := range pairs {
		if len(p) != 2 || p[0] == "" || p[1] == "" {
			return o.errorf("has an invalid merge: number %d is not a pair of tokens", rank)
		}
		var ids [3]int32
		for i, s := range [3]string{p[0], p[1], p[0] + p[1]} {
			id, ok := m.ids[s]
			if !ok {
				return o.errorf("has an invalid merge: number %d, %s with %s, needs %s, which is not in the vocabulary",
					rank, quote(p[0]), quote(p[1]), quote(s))
			}
			ids[i] = id
		}
		m.merges.set(ids[0], ids[1], pairValue{rank: int32(rank), id: ids[2]})
		m.addJoint(p, ids)
	}
	return nil
}

// addJoint records the joint of a merge: the last character of p[0] and the first of p[1].
func (m *model) addJoint(p []string, ids [3]int32) {
	for _, id := range ids[:2] {
		s := m.tokens[id]
		if id == m.unk || m.byteFallback && len(s) == 6 && strings.HasPrefix(s, "<0x") {
			m.whole = true
		}
	}
	last, _ := utf8.DecodeLastRuneInString(p[0])
	first, _ := utf8.DecodeRuneInString(p[1])
	a, okA := m.chars[last]
	b, okB := m.chars[first]
	if okA && okB {
		m.joints.set(a, b, pairValue{})
	}
}

// pairValue is the merge of a pair of tokens.
type pairValue struct {
	rank int32 // the lowest rank merges first
	id   int32
}

// pairTable maps pairs of ids to merges. It uses open addressing with linear probing and
// takes a third of the time of a map. The hash multiplier is random, so that a file
// cannot cause collisions on purpose.
type pairTable struct {
	keys   []uint64 // pair + 1; 0 is empty
	values []pairValue
	mul    uint64
	shift  uint
}

// newPairTable returns a table for up to n pairs.
func newPairTable(n int) *pairTable {
	bits := uint(3)
	for 1<<bits < 2*n {
		bits++
	}
	return &pairTable{
		keys: make([]uint64, 1<<bits), values: make([]pairValue, 1<<bits),
		mul: rand.Uint64() | 1, shift: 64 - bits,
	}
}

// slot returns the index of key, or of the empty slot for it.
func (t *pairTable) slot(key uint64) uint64 {
	mask := uint64(len(t.keys) - 1)
	i := key * t.mul >> t.shift
	for t.keys[i] != 0 && t.keys[i] != key {
		i = (i + 1) & mask
	}
	return i
}

func pairKey(a, b int32) uint64 { return (uint64(uint32(a))<<32 | uint64(uint32(b))) + 1 }

// set stores the value of the pair of a and b, replacing an earlier one.
func (t *pairTable) set(a, b int32, v pairValue) {
	key := pairKey(a, b)
	i := t.slot(key)
	t.keys[i], t.values[i] = key, v
}

func (t *pairTable) get(a, b int32) (pairValue, bool) {
	key := pairKey(a, b)
	i := t.slot(key)
	return t.values[i], t.keys[i] == key
}
