package palettize

import (
	"math"
	"math/bits"
)

// histogram holds the distinct values of a group in ascending order. -0 counts as +0.
type histogram struct {
	values  []float64
	counts  []float64 // number of weights with the value
	weights []float64 // summed importance of those weights; empty without importance

	// 16-bit weights: the code (bit pattern) of each value, and tables by code, all zero
	// between groups. Two tables of counts alternate, because consecutive increments of one
	// counter would wait for each other.
	codes      []uint16
	even, odd  *[1 << 16]uint32
	importance *[1 << 16]float64

	keys   [2][]uint32 // F32 weights: sortable keys
	placed [2][]uint64 // the same with the column in the low 32 bits
}

// format is a 16-bit float type.
type format uint8

const (
	fp16 format = iota
	bf16
)

// inf returns the code of +Inf; the codes of NaN are larger.
func (f format) inf() int {
	if f == bf16 {
		return 0x7f80
	}
	return 0x7c00
}

// value returns the value of a code.
// value returns the value of a code.
func (f format) value(code uint16) float64 {
	if f == bf16 {
		return float64(math.Float32frombits(uint32(code) << 16))
	}
	return f16Value(code)
}

// count builds the histogram of 16-bit weights, [rows, len(importance)] unless importance
// is nil. It returns false if a weight is NaN or ±Inf.
func (h *histogram) count(w []uint16, f format, importance []float32) bool {
	if h.even == nil {
		h.even, h.odd = new([1 << 16]uint32), new([1 << 16]uint32)
		h.codes = make([]uint16, 1<<16)
	}
	if importance != nil && h.importance == nil {
		h.importance = new([1 << 16]float64)
	}
	even, odd := h.even, h.odd
	union := uint16(0)
	rest := w
	for len(rest) >= 4 {
		q := rest[:4:4]
		even[q[0]]++
		odd[q[1]]++
		even[q[2]]++
		odd[q[3]]++
		union |= q[0] | q[1] | q[2] | q[3]
		rest = rest[4:]
	}
	for _, c := range rest {
		even[c]++
		union |= c
	}
	// No code exceeds the bitwise or of all codes; for weights below 2 that halves the scan.
	end := max(8, 1<<bits.Len16(union&0x7fff))
	if end > f.inf() {
		end = f.inf()
		for c := end; c < 1<<15; c++ {
			if even[c]|odd[c]|even[c|1<<15]|odd[c|1<<15] != 0 {
				clear(even[:])
				clear(odd[:])
				return false
			}
		}
	}
	even[0] += even[1<<15] + odd[1<<15]
	even[1<<15], odd[1<<15] = 0, 0
	h.scan(end)
	n := len(h.codes)
	h.values, h.counts = grow(h.values, n), grow(h.counts, n)
	if f == fp16 {
		valuesF16(h.values, h.codes)
	} else {
		for i, c := range h.codes {
			h.values[i] = float64(math.Float32frombits(uint32(c) << 16))
		}
	}
	counts := h.counts
	for i, c := range h.codes {
		counts[i] = float64(even[c] + odd[c])
		even[c], odd[c] = 0, 0
	}
	if importance != nil {
		h.weigh(w, importance)
	}
	return true
}

// weigh sums the importance by value.
func (h *histogram) weigh(w []uint16, importance []float32) {
	for ; len(w) > 0; w = w[len(importance):] {
		for c, code := range w[:len(importance)] {
			h.importance[code] += float64(importance[c])
		}
	}
	h.importance[0] += h.importance[1<<15]
	h.importance[1<<15] = 0
	h.weights = grow(h.weights, len(h.codes))
	for i, c := range h.codes {
		h.weights[i] = h.importance[c]
		h.importance[c] = 0
	}
}

// scan writes the codes that occur to codes, in the order of their values. No code with a
// magnitude of end or more occurs; end is a multiple of 8.
func (h *histogram) scan(end int) {
	codes := (*[1 << 16]uint16)(h.codes[:1<<16])
	n := 0
	for base := 1<<15 + end - 8; base >= 1<<15; base -= 8 {
		if a, b := (*[8]uint32)(h.even[base:]), (*[8]uint32)(h.odd[base:]); occupied(a, b) {
			for i := 7; i >= 0; i-- {
				// Branch-free, because which codes occur is hard to predict.
				codes[n&0xffff] = uint16(base + i)
				if a[i]|b[i] != 0 {
					n++
				}
			}
		}
	}
	for base := 0; base < end; base += 8 {
		if a, b := (*[8]uint32)(h.even[base:]), (*[8]uint32)(h.odd[base:]); occupied(a, b) {
			for i := range a {
				codes[n&0xffff] = uint16(base + i)
				if a[i]|b[i] != 0 {
					n++
				}
			}
		}
	}
	h.codes = h.codes[:n]
}

// occupied reports whether one of 8 codes occurs.
func occupied(a, b *[8]uint32) bool {
	return a[0]|a[1]|a[2]|a[3]|a[4]|a[5]|a[6]|a[7]|b[0]|b[1]|b[2]|b[3]|b[4]|b[5]|b[6]|b[7] != 0
}

// sort builds the histogram of F32 weights, [rows, len(importance)] unless importance is
// nil. It returns false if a weight is NaN or ±Inf.
func (h *histogram) sort(w []float32, importance []float32) bool {
	h.values, h.counts, h.weights = h.values[:0], h.counts[:0], h.weights[:0]
	if importance == nil {
		keys, spare := grow(h.keys[0], len(w)), grow(h.keys[1], len(w))
		for i, x := range w {
			k, ok := sortKey(x)
			if !ok {
				return false
			}
			keys[i] = k
		}
		keys, spare = radixSort(keys, spare, 0)
		h.keys = [2][]uint32{keys, spare}
		for i, k := range keys {
			h.add(k, i > 0 && keys[i-1] == k)
		}
		return true
	}
	keys, spare := grow(h.placed[0], len(w)), grow(h.placed[1], len(w))
	for i, x := range w {
		k, ok := sortKey(x)
		if !ok {
			return false
		}
		keys[i] = uint64(k)<<32 | uint64(i%len(importance))
	}
	keys, spare = radixSort(keys, spare, 32)
	h.placed = [2][]uint64{keys, spare}
	for i, k := range keys {
		if h.add(uint32(k>>32), i > 0 && keys[i-1]>>32 == k>>32) {
			h.weights = append(h.weights, 0)
		}
		h.weights[len(h.weights)-1] += float64(importance[uint32(k)])
	}
	return true
}

// add counts a key, which is the previous one or a new one, and reports whether it is new.
func (h *histogram) add(key uint32, same bool) bool {
	if same {
		h.counts[len(h.counts)-1]++
		return false
	}
	if key&(1<<31) != 0 {
		key ^= 1 << 31
	} else {
		key = ^key
	}
	h.values, h.counts = append(h.values, float64(math.Float32frombits(key))), append(h.counts, 1)
	return true
}

// sortKey maps a finite x to an integer of the same order, and -0 to the key of +0. ok is
// false if x is not finite.
func sortKey(x float32) (key uint32, ok bool) {
	b := math.Float32bits(x)
	if b == 1<<31 {
		b = 0
	}
	return b ^ (uint32(int32(b)>>31) | 1<<31), b&0x7f800000 != 0x7f800000
}

// radixSort sorts a by the 32 bits that begin at bit shift, stably, in three passes. It
// returns the sorted slice and the other one, whose content is arbitrary.
func radixSort[T uint32 | uint64](a, spare []T, shift int) (sorted, other []T) {
	const width = 11
	var next [3][1 << width]int
	for _, k := range a {
		for p := range next {
			next[p][k>>(shift+width*p)&(1<<width-1)]++
		}
	}
	for p := range next {
		sum := 0
		for d, n := range next[p] {
			next[p][d] = sum
			sum += n
		}
		for _, k := range a {
			d := k >> (shift + width*p) & (1<<width - 1)
			spare[next[p][d]] = k
			next[p][d]++
		}
		a, spare = spare, a
	}
	return a, spare
}
