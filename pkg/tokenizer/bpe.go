package tokenizer

import (
	"strings"
	"sync"
	"unicode/utf8"
)

// Limits of the cache and of the simple algorithm. They affect time and memory, not results.
const (
	cachedWord  = 128     // longer words are not cached, in bytes
	cachedWords = 1 << 16 // the cache is cleared at this number of words
	scanned     = 24      // words with more symbols are merged with a heap
)

// mark is a token of a word: its id and the part of the word that it covers.
type mark struct {
	id       int32
	start, n int32 // in bytes
}

// coder encodes words of one model. It has scratch space and a cache, and must not be
// used concurrently.
type coder struct {
	m         *model
	byteLevel bool
	words     map[string][]mark // whole words
	parts     map[string][]mark // parts of words that were split where no merge is possible
	arena     []mark            // backs the values of both
	symbols   []symbol
	heap      []candidate
	marks     []mark
}

// symbol is a symbol of a word during merging.
type symbol struct {
	mark
	prev, next int32 // indices, -1 at the ends; next is set to gone after a merge into the symbol before
	pair       pairValue
}

const gone = -2

// candidate is a possible merge of the symbol at pos with the next one.
type candidate struct {
	key uint64 // rank << 32 | pos
	id  int32
}

// coders is a pool of coders of one model.
type coders struct{ pool sync.Pool }

func newCoders(m *model, byteLevel bool) *coders {
	return &coders{sync.Pool{New: func() any {
		return &coder{m: m, byteLevel: byteLevel, words: map[string][]mark{}, parts: map[string][]mark{}}
	}}}
}

func (c *coders) get() *coder  { return c.pool.Get().(*coder) }
func (c *coders) put(k *coder) { c.pool.Put(k) }

// encode calls emit for each token of the word s, with offsets into s.
func (c *coder) encode(s string, emit func(mark)) {
	small := len(s) <= cachedWord
	if small {
		if marks, ok := c.words[s]; ok {
			for _, k := range marks {
				emit(k)
			}
			return
		}
	}
	if c.m.ignoreMerges {
		if id, ok := c.m.ids[c.alphabetic(s)]; ok {
			emit(mark{id, 0, int32(len(s))})
			return
		}
	}
	if small || c.m.whole {
		marks := c.merge(s)
		for _, k := range marks {
			emit(k)
		}
		if small {
			c.keep(c.words, s, marks)
		}
		return
	}
	for start := 0; start < len(s); {
		end := c.cut(s, start)
		part := s[start:end]
		marks, ok := c.parts[part]
		if !ok {
			marks = c.merge(part)
			if len(part) <= cachedWord {
				c.keep(c.parts, part, marks)
			}
		}
		for _, k := range marks {
			k.start += int32(start)
			emit(k)
		}
		start = end
	}
}

// alphabetic returns the word s in the alphabet of the vocabulary.
func (c *coder) alphabetic(s string) string {
	if !c.byteLevel {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		b.WriteRune(byteChars[s[i]])
	}
	return b.String()
}

// keep stores the tokens of s in cache.
func (c *coder) keep(cache map[string][]mark, s string, marks []mark) {
	if len(c.words)+len(c.parts) >= cachedWords {
		clear(c.words)
		clear(c.parts)
		c.arena = nil
	}
	if cap(c.arena)-len(c.arena) < len(marks) {
		c.arena = make([]mark, 0, max(4096, len(marks)))
	}
	n := len(c.arena)
	c.arena = append(c.arena, marks...)
	cache[strings.Clone(s)] = c.arena[n:len(c.arena):len(c.arena)]
}

// char returns the token of the character of s at i, -1 if it has none, and its
// length; in ByteLevel's alphabet a character is a byte.
func (c *coder) char(s string, i int) (id int32, n int) {
	if c.byteLevel {
		return c.m.alphabet[s[i]], 1
	}
	r, n := utf8.DecodeRuneInString(s[i:])
	if id, ok := c.m.chars[r]; ok {
		return id, n
	}
	return -1, n
}

// cut returns the end of the part of s from i on that no merge crosses: it ends
// between two known characters that are not a joint.
func (c *coder) cut(s string, i int) int {
	last, n := c.char(s, i)
	for i += n; i < len(s); i += n {
		var id int32
		if id, n = c.char(s, i); last >= 0 && id >= 0 {
			if _, ok := c.m.joints.get(last, id); !ok {
				break
			}
		}
		last = id
	}
	return i
}

// merge returns the tokens of s, valid until the next call.
func (c *coder) merge(s string) []mark {
	c.symbols = c.symbols[:0]
	c.split(s)
	c.marks = c.marks[:0]
	if len(c.symbols) == 0 {
		return c.marks
	}
	if len(c.symbols) <= scanned {
		c.mergeScanning()
	} else {
		c.mergeHeap()
	}
	for i := int32(0); i >= 0; i = c.symbols[i].next {
		c.marks = append(c.marks, c.symbols[i].mark)
	}
	return c.marks
}

func (c *coder) add(id int32, start, n int) {
	i := int32(len(c.symbols))
	if i > 0 {
		c.symbols[i-1].next = i
	}
	c.symbols = append(c.symbols, symbol{mark: mark{id, int32(start), int32(n)}, prev: i - 1, next: -1})
}

// split splits s into symbols, one per character. A character that is not in the
// vocabulary becomes byte tokens, or unk, or nothing.
func (c *coder) split(s string) {
	unk, unkStart, unkLen := false, 0, 0
	for i := 0; i < len(s); {
		id, n := c.char(s, i)
		switch {
		case id >= 0:
			if unk {
				c.add(c.m.unk, unkStart, unkLen)
				unk = false
			}
			c.add(id, i, n)
		case c.m.byteFallback && c.addBytes(s[i:i+n], i):
			// A pending unk stays pending and is emitted later, as in the library.
		case c.m.unk < 0:
		case unk && c.m.fuseUnk:
			if i == unkStart+unkLen {
				unkLen += n
			} else { // after byte tokens: the last of them covers these bytes
				c.symbols[len(c.symbols)-1].n += int32(n)
			}
		default:
			if unk {
				c.add(c.m.unk, unkStart, unkLen)
			}
			unk, unkStart, unkLen = true, i, n
		}
		i += n
	}
	if unk {
		c.add(c.m.unk, unkStart, unkLen)
	}
}

// addBytes appends the byte tokens of the character of s at i, if the vocabulary has
// all of them.
func (c *coder) addBytes(s string, i int) bool {
	spelled := c.alphabetic(s)
	for k := range len(spelled) {
		if c.m.fallback[spelled[k]] < 0 {
			return false
		}
	}
	for k := range len(spelled) {
		// ByteLevel may encode one byte as two; the second covers no input.
		start := min(k, len(s))
		c.add(c.m.fallback[spelled[k]], i+start, min(1, len(s)-start))
	}
	return true
}

// join merges the symbol at i with the next one.
func (c *coder) join(i, id int32) {
	a := &c.symbols[i]
	b := &c.symbols[a.next]
	a.id = id
	if b.start >= a.start {
		a.n = b.start + b.n - a.start // including characters dropped between them
	} else { // an unk that was emitted late
		a.start, a.n = b.start, a.n+b.n
	}
	a.next, b.next = b.next, gone
	if a.next >= 0 {
		c.symbols[a.next].prev = i
	}
}

const noRank = 1<<31 - 1

// rank looks up the merge of the symbol at i and the next one.
func (c *coder) rank(i int32) {
	a := &c.symbols[i]
	a.pair.rank = noRank
	if a.next >= 0 {
		if v, ok := c.m.merges.get(a.id, c.symbols[a.next].id); ok {
			a.pair = v
		}
	}
}

// mergeScanning repeatedly applies the leftmost merge of lowest rank, which it finds by a
// scan of all symbols: the fastest algorithm for short words.
func (c *coder) mergeScanning() {
	for i := range c.symbols {
		c.rank(int32(i))
	}
	for {
		best, at := int32(noRank), int32(-1)
		for i := int32(0); i >= 0; i = c.symbols[i].next {
			if r := c.symbols[i].pair.rank; r < best {
				best, at = r, i
			}
		}
		if at < 0 {
			return
		}
		c.join(at, c.symbols[at].pair.id)
		c.rank(at)
		if p := c.symbols[at].prev; p >= 0 {
			c.rank(p)
		}
	}
}

// mergeHeap does the same with a heap, in O(n log n) for n symbols.
func (c *coder) mergeHeap() {
	c.heap = c.heap[:0]
	for i := range c.symbols {
		if k, ok := c.candidate(int32(i)); ok {
			c.heap = append(c.heap, k)
		}
	}
	for i := len(c.heap)/4 + 1; i >= 0; i-- {
		c.down(i)
	}
	for len(c.heap) > 0 {
		top := c.heap[0]
		last := len(c.heap) - 1
		c.heap[0] = c.heap[last]
		c.heap = c.heap[:last]
		c.down(0)
		at := int32(top.key)
		// Skip the merge if its symbols have changed since it was pushed.
		if now, ok := c.candidate(at); !ok || now != top {
			continue
		}
		c.join(at, top.id)
		if k, ok := c.candidate(at); ok {
			c.push(k)
		}
		if p := c.symbols[at].prev; p >= 0 {
			if k, ok := c.candidate(p); ok {
				c.push(k)
			}
		}
	}
}

// candidate returns the merge of the symbol at i with the next one.
func (c *coder) candidate(i int32) (candidate, bool) {
	a := &c.symbols[i]
	if a.next < 0 {
		return candidate{}, false
	}
	v, ok := c.m.merges.get(a.id, c.symbols[a.next].id)
	return candidate{uint64(v.rank)<<32 | uint64(i), v.id}, ok
}

// push and down maintain a 4-ary heap.
func (c *coder) push(k candidate) {
	c.heap = append(c.heap, k)
	i := len(c.heap) - 1
	for i > 0 {
		up := (i - 1) / 4
		if c.heap[up].key <= k.key {
			break
		}
		c.heap[i] = c.heap[up]
		i = up
	}
	c.heap[i] = k
}

func (c *coder) down(i int) {
	if i >= len(c.heap) {
		return
	}
	k := c.heap[i]
	for {
		child := 4*i + 1
		if child >= len(c.heap) {
			break
		}
		for j := child + 1; j < min(4*i+5, len(c.heap)); j++ {
			if c.heap[j].key < c.heap[child].key {
				child = j
			}
		}
		if c.heap[child].key >= k.key {
			break
		}
		c.heap[i] = c.heap[child]
		i = child
	}
	c.heap[i] = k
}
