package sensitivity

import (
	"cmp"
	"fmt"
	"slices"

	"afmq/pkg/safetensors"
)

// fileBound is a bound on the size of a safetensors file, header included. The header is
// JSON with the shape and the data offsets of every tensor in decimal, so its length
// depends on the choices: a wider module moves the offsets of all tensors after it, which
// may then have more digits.
type fileBound struct {
	limit    int64         // bytes of the file
	front    int64         // bytes of the header that do not depend on the choices, padding excluded
	segments []fileSegment // in the order of the file
}

// fileSegment is a run of tensors that one choice decides.
type fileSegment struct {
	choice  int          // -1: no choice affects these tensors
	options [][]fileItem // by option of the choice
}

// fileItem is a tensor in the file.
type fileItem struct {
	size int64 // bytes of data
	text int64 // bytes of its header entry, data offsets excluded
}

// fileState is a partial allocation: the segments so far.
type fileState struct {
	state       // size is the data offset at the end of the segments
	text  int64 // header bytes of the segments
}

// append returns the state after the items.
func (s fileState) append(items []fileItem) fileState {
	for _, it := range items {
		s.text += it.text + digits(s.size)
		s.size += it.size
		s.text += digits(s.size)
	}
	return s
}

// digits returns the number of decimal digits of n, which is not negative.
func digits(n int64) int64 {
	d := int64(1)
	for ; n >= 10; n /= 10 {
		d++
	}
	return d
}

// bytes returns the size of a file with so many bytes of data and of variable header text. A
// safetensors header is padded to a multiple of 8 bytes.
func (f *fileBound) bytes(data, text int64) int64 { return (f.front+text+7)/8*8 + data }

// searchFile finds the least cost below upper, the cost of a feasible allocation, such that
// the file keeps its bound. p is the problem without the growth of the header, which is a
// relaxation: its losses prune this search too.
//
// The choices are processed in the order of the file, because the header entry of a tensor
// depends on its data offset. Both the offset and the header length of any continuation
// increase with those of the partial allocation, so one state dominates another if neither its
// offset, nor its header length, nor its cost is larger.
//
// It returns nil if no allocation costs less than upper, and complete is false if the
// search was abandoned because it exceeded maxStates.
func (p *problem) searchFile(choices []Choice, f *fileBound, upper float64) (a *Allocation, complete bool) {
	slack := upper - p.bound + p.rounding
	rest := f.rests(p)
	layers := make([][]fileState, 1, len(f.segments)+1)
	layers[0] = []fileState{{}}
	total := 1
	for i, seg := range f.segments {
		options := []pricedOption{{}}
		if seg.choice >= 0 {
			options = p.choices[seg.choice]
		}
		next := f.extend(layers[i], seg, options, slack, rest[i+1])
		layers = append(layers, next)
		if total += len(next); total > maxStates {
			return nil, false
		}
	}
	last := layers[len(f.segments)]
	if len(last) == 0 {
		return nil, true
	}
	best := 0
	for i, s := range last {
		if cmp.Or(cmp.Compare(s.cost, last[best].cost), cmp.Compare(f.bytes(s.size, s.text), f.bytes(last[best].size, last[best].text))) < 0 {
			best = i
		}
	}
	picks := make([]int, len(p.choices))
	at := int32(best)
	for i := len(f.segments) - 1; i >= 0; i-- {
		s := layers[i+1][at]
		if c := f.segments[i].choice; c >= 0 {
			picks[c] = int(s.pick)
		}
		at = s.from
	}
	if a = p.allocation(choices, picks, true); a.Cost >= upper {
		return nil, true
	}
	return a, true
}

// rests returns, for every segment, lower bounds of the data and the header text from it to
// the end of the file: those with the smallest options everywhere.
func (f *fileBound) rests(p *problem) []fileState {
	prefix := make([]fileState, len(f.segments)+1)
	for i, seg := range f.segments {
		prefix[i+1] = prefix[i].append(seg.options[f.smallest(p, i)])
	}
	end := prefix[len(f.segments)]
	out := make([]fileState, len(prefix))
	shorter := int64(0)
	for i := len(prefix) - 1; i >= 0; i-- {
		if i < len(f.segments) {
			shorter += f.segments[i].shorter(f.smallest(p, i))
		}
		out[i].size, out[i].text = end.size-prefix[i].size, end.text-prefix[i].text-shorter
	}
	return out
}

// smallest returns the smallest option of a segment.
func (f *fileBound) smallest(p *problem, segment int) int {
	if c := f.segments[segment].choice; c >= 0 {
		return p.choices[c][0].index
	}
	return 0
}

// shorter returns an upper bound of how much the header text of another option is less than that of
// one: names of forms have different lengths, and rows of int8 are fewer tensors than a palette.
func (s *fileSegment) shorter(option int) (most int64) {
	text := func(items []fileItem) (n int64) {
		for _, it := range items {
			n += it.text
		}
		return n
	}
	const offsets = 2 * 19 // digits of an int64
	for _, items := range s.options {
		fewer := int64(max(len(s.options[option])-len(items), 0))
		most = max(most, text(s.options[option])-text(items)+fewer*offsets)
	}
	return most
}

// extend is [problem.extend] for a segment of the file.
func (f *fileBound) extend(layer []fileState, seg fileSegment, options []pricedOption, slack float64, rest fileState) []fileState {
	var next []fileState
	for i, s := range layer {
		for k, o := range options {
			n := s.append(seg.options[o.index])
			n.cost, n.loss, n.from, n.pick = s.cost+o.Cost, s.loss+o.loss, int32(i), int32(k)
			if n.loss <= slack && f.bytes(n.size+rest.size, n.text+rest.text) <= f.limit {
				next = append(next, n)
			}
		}
	}
	slices.SortStableFunc(next, func(a, b fileState) int {
		return cmp.Or(cmp.Compare(a.size, b.size), cmp.Compare(a.text, b.text), cmp.Compare(a.cost, b.cost))
	})
	var kept []fileState
	var frontier []fileState // of the kept ones: by increasing text and decreasing cost
	for _, s := range next {
		at, _ := slices.BinarySearchFunc(frontier, s.text+1, func(f fileState, text int64) int { return cmp.Compare(f.text, text) })
		if at > 0 && frontier[at-1].cost <= s.cost {
			continue // dominated: sizes increase, and this one has neither less text nor less cost
		}
		kept = append(kept, s)
		start := at
		if at > 0 && frontier[at-1].text == s.text {
			start--
		}
		end := at
		for end < len(frontier) && frontier[end].cost >= s.cost {
			end++
		}
		frontier = slices.Replace(frontier, start, end, s)
	}
	return kept
}

// fileBound returns the bound of the target on the bytes of the file.
func (p *planner) fileBound() (*fileBound, error) {
	f := &fileBound{limit: p.opts.Target.MaxBytes, segments: []fileSegment{{choice: -1, options: make([][]fileItem, 1)}}}
	group := map[string]int{}
	names := p.names
	for i, g := range p.groups {
		for _, m := range g.modules {
			group[names[m]] = i
		}
	}
	done := map[int]bool{}
	for _, spec := range p.shape.Config.Tensors() {
		seg := &f.segments[len(f.segments)-1]
		i, chosen := group[spec.Module()]
		if chosen && i != seg.choice {
			if done[i] {
				return nil, fmt.Errorf("sensitivity: the tensors of %s are not contiguous in the file", p.groups[i].name)
			}
			done[i] = true
			f.segments = append(f.segments, fileSegment{choice: i, options: make([][]fileItem, len(p.groups[i].sizes))})
			seg = &f.segments[len(f.segments)-1]
		}
		for o := range seg.options {
			w, ok := p.base[spec.Module()]
			if chosen && !p.groups[i].pinned {
				w = p.width(spec.Module(), o)
			}
			for _, info := range p.shape.storedInfos(spec, p.storage, w, ok) {
				n, err := info.Bytes()
				if err != nil {
					return nil, err
				}
				seg.options[o] = append(seg.options[o], fileItem{size: n, text: headerText(info)})
			}
		}
	}
	header, err := p.shape.headerBytes(p.storage, p.widths(make([]int, len(p.groups))))
	if err != nil {
		return nil, err
	}
	least := fileState{}
	for _, seg := range f.segments {
		least = least.append(seg.options[0])
	}
	f.front = header - least.text
	return f, nil
}

// headerText returns the bytes of the entry of a tensor in the header of a safetensors file, with the
// comma before or after it, but without the digits of its data offsets.
func headerText(info safetensors.Info) int64 {
	const rest = `"":{"dtype":"","shape":[],"data_offsets":[,]},`
	n := len(info.Name) + len(info.DType.String()) + len(rest) + max(len(info.Shape)-1, 0)
	for _, extent := range info.Shape {
		n += int(digits(int64(extent)))
	}
	return int64(n)
}
