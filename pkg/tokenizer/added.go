package tokenizer

import (
	"unicode/utf8"
)

// addedToken is a token that is matched in the text before the rest of the pipeline.
type addedToken struct {
	id                         int32
	content                    string
	decoded                    string // form passed to decoders: the normalized content, if normalized is set
	singleWord, lstrip, rstrip bool
	normalized, special        bool
}

// matcher finds the leftmost-longest match of the added tokens in a text. It is an
// Aho-Corasick automaton, so that the time is independent of the number of tokens.
type matcher struct {
	tokens []*addedToken
	root   [256]int32
	edges  map[uint64]int32 // node<<8 | byte -> node, for all nodes except the root
	fail   []int32          // the longest proper suffix of the node's string that is a node
	depth  []int32          // the length of the node's string
	out    []int32          // token that ends here, -1 if none
	dict   []int32          // the nearest node along fail that has an out; 0 if none
}

// newMatcher returns nil if there are no tokens. texts[i] is the pattern of tokens[i];
// patterns are distinct and not empty.
func newMatcher(tokens []*addedToken, texts []string) *matcher {
	if len(tokens) == 0 {
		return nil
	}
	m := &matcher{tokens: tokens, edges: map[uint64]int32{}}
	m.node(0)
	order := []int32{} // nodes except the root, by depth
	var parents []int32
	var labels []byte
	for k, text := range texts {
		at := int32(0)
		for i := range len(text) {
			to := m.edge(at, text[i])
			if to == 0 {
				to = m.node(int32(i + 1))
				m.link(at, text[i], to)
				parents, labels = append(parents, at), append(labels, text[i])
				order = append(order, to)
			}
			at = to
		}
		m.out[at] = int32(k)
	}
	// Failure links depend on those of shorter strings: visit the nodes by depth.
	byDepth := make([][]int32, 0, 16)
	for _, n := range order {
		d := int(m.depth[n]) - 1
		for len(byDepth) <= d {
			byDepth = append(byDepth, nil)
		}
		byDepth[d] = append(byDepth[d], n)
	}
	for _, level := range byDepth {
		for _, n := range level {
			parent, label := parents[n-1], labels[n-1]
			if parent != 0 {
				m.fail[n] = m.step(m.fail[parent], label)
			}
			f := m.fail[n]
			if m.out[f] >= 0 {
				m.dict[n] = f
			} else {
				m.dict[n] = m.dict[f]
			}
		}
	}
	return m
}

func (m *matcher) node(depth int32) int32 {
	m.fail = append(m.fail, 0)
	m.dict = append(m.dict, 0)
	m.out = append(m.out, -1)
	m.depth = append(m.depth, depth)
	return int32(len(m.fail) - 1)
}

func (m *matcher) edge(n int32, b byte) int32 {
	if n == 0 {
		return m.root[b]
	}
	return m.edges[uint64(n)<<8|uint64(b)]
}

func (m *matcher) link(n int32, b byte, to int32) {
	if n == 0 {
		m.root[b] = to
	} else {
		m.edges[uint64(n)<<8|uint64(b)] = to
	}
}

// step follows byte b from node n.
func (m *matcher) step(n int32, b byte) int32 {
	for {
		if to := m.edge(n, b); to != 0 || n == 0 {
			return to
		}
		n = m.fail[n]
	}
}

// find returns the first match in s from i on.
func (m *matcher) find(s string, i int) (start, end int, token *addedToken) {
	state := int32(0)
	for ; i < len(s); i++ {
		if state == 0 {
			for i < len(s) && m.root[s[i]] == 0 {
				i++
			}
			if i == len(s) {
				break
			}
		}
		state = m.step(state, s[i])
		if token != nil && i+1-int(m.depth[state]) > start {
			break // no match with an earlier start is possible
		}
		o := state
		if m.out[o] < 0 {
			o = m.dict[o]
		}
		if o != 0 {
			if from := i + 1 - int(m.depth[o]); token == nil || from <= start {
				start, end, token = from, i+1, m.tokens[m.out[o]]
			}
		}
	}
	return start, end, token
}

// split splits p at the added tokens. yield receives the token of a part, nil for text.
func (m *matcher) split(p piece, yield func(p piece, token *addedToken)) {
	if m == nil {
		yield(p, nil)
		return
	}
	t := chars()
	// White space stripped by one token may also belong to the next match or to the text
	// that follows. Its bytes are counted once.
	done, counted := 0, 0
	part := func(i, j int, token *addedToken) {
		q := p.slice(i, j)
		if i < counted {
			q = q.from(p.at(min(counted, j)))
		}
		counted = max(counted, j)
		yield(q, token)
	}
	for i := 0; ; {
		start, end, token := m.find(p.s, i)
		if token == nil {
			break
		}
		i = end
		if token.singleWord && (t.wordBefore(p.s[:start]) || t.wordAfter(p.s[end:])) {
			continue
		}
		if token.lstrip {
			start = max(done, t.trimRight(p.s[:start], min(done, start)))
		}
		if token.rstrip {
			end = t.run(p.s, end, space, true)
		}
		if done < start {
			part(done, start, nil)
		}
		if start < end { // otherwise all of it is stripped white space
			part(start, end, token)
		}
		done = end
	}
	if done < len(p.s) {
		part(done, len(p.s), nil)
	}
}

// wordBefore reports whether s ends with a word character.
func (t *tables) wordBefore(s string) bool {
	c, n := utf8.DecodeLastRuneInString(s)
	return n > 0 && t.of(c)&word != 0
}

// wordAfter reports whether s begins with a word character.
func (t *tables) wordAfter(s string) bool {
	c, n := utf8.DecodeRuneInString(s)
	return n > 0 && t.of(c)&word != 0
}

// addedVocabulary has the added tokens of a file.
type addedVocabulary struct {
	byContent map[string]*addedToken
	byID      map[int32]*addedToken
	raw, norm *matcher // matched in the raw text, and in the normalized text
}

// parse reads added_tokens. The library ignores the ids in the file and assigns its own;
// the ids in the file must be the same.
func (v *addedVocabulary) parse(o *object, m *model, norm []normalizer) error {
	v.byContent, v.byID = map[string]*addedToken{}, map[int32]*addedToken{}
	if !o.has("added_tokens") {
		return nil
	}
	list, err := o.objects("added_tokens", maxAdded)
	if err != nil {
		return err
	}
	next := len(m.ids)
	var order []*addedToken
	for _, e := range list {
		a, err := parseAddedToken(e)
		if err != nil {
			return err
		}
		if a.content == "" {
			continue // as in the library
		}
		id, known := m.ids[a.content]
		if old := v.byContent[a.content]; old != nil {
			id, known = old.id, true
		}
		if !known {
			id = int32(next)
			next++
		}
		if a.id != id {
			return e.errorf("assigns %q the id %d, but its position gives it the id %d", a.content, a.id, id)
		}
		if other := v.byID[id]; other != nil && other.content != a.content {
			return e.errorf("assigns %q the id %d, which belongs to %q", a.content, id, other.content)
		}
		if text, used := m.tokens[id]; used && text != a.content {
			return e.errorf("assigns %q the id %d, which belongs to %q", a.content, id, text)
		}
		a.decoded = a.content
		if a.normalized {
			p := piece{s: a.content}
			for _, n := range norm {
				p = n.apply(p)
			}
			a.decoded = p.s
		}
		v.byContent[a.content], v.byID[id] = a, a
		order = append(order, a)
	}
	return v.index(o, order)
}

// index builds the two matchers.
func (v *addedVocabulary) index(o *object, order []*addedToken) error {
	var tokens [2][]*addedToken
	var texts [2][]string
	var seen [2]map[string]string
	for _, a := range order {
		if v.byID[a.id] != a {
			continue // replaced by a later entry
		}
		k := 0
		if a.normalized {
			k = 1
		}
		if a.decoded == "" {
			return o.errorf("added_tokens: %q is empty after normalization", a.content)
		}
		if other, twice := seen[k][a.decoded]; twice {
			return o.errorf("added_tokens: %q and %q are identical after normalization", other, a.content)
		}
		if seen[k] == nil {
			seen[k] = map[string]string{}
		}
		seen[k][a.decoded] = a.content
		tokens[k], texts[k] = append(tokens[k], a), append(texts[k], a.decoded)
	}
	v.raw, v.norm = newMatcher(tokens[0], texts[0]), newMatcher(tokens[1], texts[1])
	return nil
}

func parseAddedToken(o *object) (*addedToken, error) {
	a := &addedToken{}
	var err error
	if a.content, err = o.str("content"); err != nil {
		return nil, err
	}
	if !o.has("id") {
		return nil, o.errorf("lacks %q", "id")
	}
	if a.id, err = o.id(quote(a.content), o.members["id"]); err != nil {
		return nil, err
	}
	for _, f := range []struct {
		key string
		v   *bool
	}{
		{"single_word", &a.singleWord}, {"lstrip", &a.lstrip}, {"rstrip", &a.rstrip},
		{"normalized", &a.normalized}, {"special", &a.special},
	} {
		if *f.v, err = o.boolean(f.key); err != nil {
			return nil, err
		}
	}
	return a, nil
}
