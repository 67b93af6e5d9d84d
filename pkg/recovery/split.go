package recovery

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"afmq/pkg/fault"
)

const (
	// heldOutShare is the share of the text that is held out for validation, and again for
	// test, where the options do not say.
	heldOutShare = 0.1
	// minHeldOut is the least number of tokens of either for that default.
	minHeldOut = 128
	// heldOutBlocks is the number of blocks that a long document is scored in.
	heldOutBlocks = 8
)

// purpose is what a unit of text is used for.
type purpose uint8

const (
	forTraining   purpose = iota
	forValidation         // chooses the checkpoint
	forTest               // chooses nothing
	excluded              // repeats held-out text
)

// unit is what the split assigns to a purpose as a whole: a document, or a block of a long
// one.
type unit struct {
	document int
	ids      []int32
	key      [sha256.Size]byte // of seed and content, the order of the draw
	use      purpose
}

// split is text divided into three parts that share no document, not even nearly.
type split struct {
	train            [][]int32 // documents, in the order given
	validation, test [][]int32 // units, in the order drawn
	excluded         int       // tokens in none of the three
}

// splitter divides documents.
//
// The unit of the split is a document. A document of at least two blocks is divided into
// blocks, and the gap tokens beside a held-out block are not trained on. Units are drawn in
// the order of a hash of the seed and their content: which text is held out depends neither
// on the order of the documents nor on how often one is repeated. The test text has neither
// near duplicates nor partial copies in the validation text, and training text that has one of
// either is left out; see [shingleIndex] and [runIndex].
type splitter struct {
	splitOptions
	block, gap int
	units      []unit
}

// splitOptions are the settings of a split.
type splitOptions struct {
	file   string // that errors name
	seed   int64
	tokens int // to hold out for validation, and as many for test; 0 for the default
	seqLen int
	// known reports whether the model was trained on a text before, which then is not held
	// out; nil for never.
	known func(ids []int32) bool
}

// splitDocuments divides documents, and returns the number of tokens that it was to hold out.
// Errors are fault.Input.
func splitDocuments(documents [][]int32, o splitOptions) (*split, int, error) {
	s := &splitter{splitOptions: o}
	total := 0
	seen := map[[sha256.Size]byte]bool{}
	for _, d := range documents {
		if k := s.key(d); !seen[k] {
			seen[k] = true
			total += len(d)
		}
	}
	if s.tokens == 0 {
		s.tokens = min(DefaultValidation, int(heldOutShare*float64(total)))
		if s.tokens < minHeldOut {
			return nil, 0, fault.Inputf(s.file, "holds %d tokens of distinct text; at least %d are needed, of which a tenth is held out for validation and a tenth for test",
				total, int(minHeldOut/heldOutShare)).WithHint("give more text")
		}
	}
	if total < 4*s.tokens {
		return nil, 0, fault.Inputf(s.file, "holds %d tokens of distinct text; holding out %d for validation and %d for test takes at least %d", total, s.tokens, s.tokens, 4*s.tokens).
			WithHint("give more text, or hold out less with --validation-tokens")
	}
	s.block = max(s.tokens/heldOutBlocks, min(4*s.seqLen, max(s.tokens, 64)))
	s.gap = min(s.seqLen, s.block/4)
	s.cut(documents)
	if err := s.draw(total); err != nil {
		return nil, 0, err
	}
	out := s.collect()
	for _, d := range documents {
		out.excluded += len(d)
	}
	for _, part := range [][][]int32{out.train, out.validation, out.test} {
		for _, d := range part {
			out.excluded -= len(d)
		}
	}
	return out, s.tokens, nil
}

// key identifies a text of this seed by its content.
func (s *splitter) key(ids []int32) (k [sha256.Size]byte) {
	h := sha256.New()
	binary.Write(h, binary.LittleEndian, s.seed)
	binary.Write(h, binary.LittleEndian, ids)
	h.Sum(k[:0])
	return k
}

// cut makes the units.
func (s *splitter) cut(documents [][]int32) {
	for i, d := range documents {
		n := max(len(d)/s.block, 1)
		if len(d) < 2*s.block {
			n = 1
		}
		for b := range n {
			ids := d[b*len(d)/n : (b+1)*len(d)/n]
			s.units = append(s.units, unit{document: i, ids: ids, key: s.key(ids)})
		}
	}
}

// draw assigns a purpose to every unit.
func (s *splitter) draw(total int) error {
	order := make([]int, len(s.units))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return bytes.Compare(s.units[a].key[:], s.units[b].key[:]) })
	// Of equal units only the first in the order can be drawn.
	order = slices.CompactFunc(order, func(a, b int) bool { return s.units[a].key == s.units[b].key })
	all := make([][]int32, len(order))
	for i, u := range order {
		all[i] = s.units[u].ids
	}
	held := 0
	var scored heldOutText // validation first, then test too
	for _, use := range []purpose{forValidation, forTest} {
		have := 0
		var drawn [][]int32
		for _, i := range order {
			u := &s.units[i]
			if have >= s.tokens {
				break
			}
			if u.use != forTraining || 2*(held+len(u.ids)) > total || use == forTest && (s.besideHeldOut(i) || scored.repeatedIn(u.ids)) {
				continue
			}
			if s.known != nil && s.known(u.ids) {
				continue
			}
			u.use = use
			drawn = append(drawn, u.ids)
			have, held = have+len(u.ids), held+len(u.ids)
		}
		if have < s.tokens {
			name := map[purpose]string{forValidation: "validation", forTest: "test"}[use]
			return fault.Inputf(s.file, "only %d of %d tokens can be held out for %s: the text has %d tokens in %d distinct documents or blocks, of which those that nearly repeat others, and those that --from was trained on, do not count", have, s.tokens, name, total, len(order)).
				WithHint("give more text, or hold out less with --validation-tokens")
		}
		scored.add(drawn, all)
	}
	s.exclude(&scored)
	return nil
}

// exclude removes the units that repeat held-out text from training.
func (s *splitter) exclude(scored *heldOutText) {
	keys := map[[sha256.Size]byte]bool{}
	for _, u := range s.units {
		if u.use != forTraining {
			keys[u.key] = true
		}
	}
	for i := range s.units {
		if u := &s.units[i]; u.use == forTraining && (keys[u.key] || scored.repeatedIn(u.ids)) {
			u.use = excluded
		}
	}
}

// heldOutText finds the texts that repeat held-out units.
type heldOutText struct {
	units    [][]int32
	shingles shingleIndex
	runs     runIndex
}

// add adds units; all are the distinct units of the text.
func (h *heldOutText) add(units, all [][]int32) {
	for _, ids := range units {
		h.shingles.add(ids)
	}
	h.units = append(h.units, units...)
	h.runs = newRunIndex(h.units, all)
}

// repeatedIn reports whether a text is a near duplicate of the units or contains a partial copy
// of one.
func (h *heldOutText) repeatedIn(ids []int32) bool {
	return h.shingles.near(ids) || h.runs.copied(ids)
}

// heldOut reports whether unit i exists, is of this document and is not trained on.
func (s *splitter) heldOut(i, document int) bool {
	return i >= 0 && i < len(s.units) && s.units[i].document == document && s.units[i].use != forTraining
}

// besideHeldOut reports whether a neighbouring block of unit i is held out.
func (s *splitter) besideHeldOut(i int) bool {
	d := s.units[i].document
	return s.heldOut(i-1, d) || s.heldOut(i+1, d)
}

// collect returns the texts of each purpose. Neighbouring blocks of training text are joined
// again, without the gap beside a held-out block.
func (s *splitter) collect() *split {
	out := &split{}
	joined := -1 // the document that the last of out.train can be continued with
	for i := range s.units {
		u := &s.units[i]
		if u.use != forTraining {
			joined = -1
			continue
		}
		ids := u.ids
		if s.heldOut(i-1, u.document) {
			ids = ids[min(s.gap, len(ids)):]
		}
		if s.heldOut(i+1, u.document) {
			ids = ids[:len(ids)-min(s.gap, len(ids))]
		}
		switch {
		case len(ids) == 0:
			joined = -1
		case joined == u.document:
			last := &out.train[len(out.train)-1]
			*last = (*last)[:len(*last)+len(ids)] // the block that follows in the document
		default:
			out.train, joined = append(out.train, ids), u.document
		}
	}
	drawn := slices.Clone(s.units)
	slices.SortStableFunc(drawn, func(a, b unit) int {
		return cmp.Or(cmp.Compare(a.use, b.use), bytes.Compare(a.key[:], b.key[:]))
	})
	for _, u := range drawn {
		switch u.use {
		case forValidation:
			out.validation = append(out.validation, u.ids)
		case forTest:
			out.test = append(out.test, u.ids)
		}
	}
	return out
}
