package infer

import (
	"fmt"
	"math"

	"afmq/internal/kernel"
	"afmq/pkg/model"
)

// Cache holds the keys and values of one sequence, in float32, as attention reads them: normed
// and rotated. Each layer and KV head has a slab of its own, in which the positions are
// adjacent: [layer][kv_head][size, head_dim].
//
// A layer that attends to all earlier positions holds capacity positions. One with a sliding
// window holds at most window + 766: those that the next token attends to, from a multiple of
// kernel.SumBlock on, and windowPart new ones.
type Cache struct {
	Len      int // positions appended
	config   *model.Config
	capacity int
	headDim  int
	kvHeads  int
	layers   []layerCache
}

// layerCache is the cache of one layer. Position p is at index p - start of a slab.
type layerCache struct {
	window       int       // positions that a token attends to; 0 for all
	size         int       // positions that a slab can hold
	start        int       // the first position held
	keys, values []float32 // [kv_heads, size, head_dim]
}

// windowPart is how many tokens of a sequence attention processes at a time in a layer whose
// cache holds fewer positions than the sequence has.
const windowPart = 512

// NewCache returns an empty cache for capacity positions. It takes 2 · kv_heads · head_dim · size
// float32 per layer, where size is capacity or, with a sliding window,
// min(capacity, window + 766).
func (m *Model) NewCache(capacity int) *Cache {
	return newCache(m.Config, capacity)
}

func newCache(config *model.Config, capacity int) *Cache {
	c := layoutCache(config, capacity)
	for i := range c.layers {
		n := c.kvHeads * c.layers[i].size * c.headDim
		c.layers[i].keys, c.layers[i].values = make([]float32, n), make([]float32, n)
	}
	return c
}

// newLayerCache returns an empty cache whose layers share their slabs, for use one layer at a
// time.
func (m *Model) newLayerCache(capacity int) *Cache {
	c := layoutCache(m.Config, capacity)
	size := 0
	for _, l := range c.layers {
		size = max(size, l.size)
	}
	n := c.kvHeads * size * c.headDim
	keys, values := make([]float32, n), make([]float32, n)
	for i := range c.layers {
		c.layers[i].keys, c.layers[i].values = keys, values
	}
	return c
}

// layoutCache returns a cache without slabs.
func layoutCache(config *model.Config, capacity int) *Cache {
	c := &Cache{config: config, capacity: capacity, headDim: config.HeadDim, kvHeads: config.KVHeads}
	c.layers = make([]layerCache, config.Layers)
	for i := range c.layers {
		l := &c.layers[i]
		l.window, l.size = config.Window(i), capacity
		if l.window > 0 {
			l.size = min(capacity, maxEarlier(l.window)+windowPart)
		}
	}
	return c
}

// visibleKeys returns the positions [from, to) that a token at pos attends to.
func visibleKeys(window, pos int) (from, to int) {
	if window > 0 {
		from = max(0, pos-window+1)
	}
	return from, pos + 1
}

// firstKey returns the first position whose key is multiplied for a token at pos: the first that
// the token sees, rounded down to a multiple of [kernel.SumBlock]. Later tokens of the batch are
// multiplied with the same keys, and the order of their sums must not depend on where the batch
// starts.
func firstKey(window, pos int) int {
	from, _ := visibleKeys(window, pos)
	return from / kernel.SumBlock * kernel.SumBlock
}

// maxEarlier returns the largest number of positions from firstKey up to the token's own,
// exclusive.
func maxEarlier(window int) int { return window - 1 + kernel.SumBlock - 1 }

// Grow raises the capacity to that many positions and keeps what the cache holds. A smaller
// capacity changes nothing.
func (c *Cache) Grow(capacity int) {
	if capacity <= c.capacity {
		return
	}
	larger := newCache(c.config, capacity)
	larger.copyPrefix(c, c.Len)
	*c = *larger
}

// Reset empties the cache for another sequence.
func (c *Cache) Reset() { c.Len = 0 }

// Truncate discards all but the first n positions, and reports whether it could: a layer with a
// sliding window no longer holds what the token after an early position attends to. Otherwise the
// cache is left as it is. It panics if the cache has fewer positions.
func (c *Cache) Truncate(n int) bool {
	if !c.Holds(n) {
		return false
	}
	c.Len = n
	return true
}

// CopyPrefix appends the first n positions of another cache to this one, which must be empty, and
// reports whether it could; see [Cache.Truncate]. They are those of the same tokens: keys and
// values have the same bits for every division of a sequence into batches, of the same
// [model.Rope.Regime]. It panics if the
// caches are of models of another config, if this one is not empty or too small, or if the other
// has fewer positions.
func (c *Cache) CopyPrefix(from *Cache, n int) bool {
	switch {
	case c.config != from.config:
		panic("infer: CopyPrefix: the caches are of models of another config")
	case c.Len != 0:
		panic("infer: CopyPrefix: the cache is not empty")
	case n > c.capacity:
		panic(fmt.Sprintf("infer: CopyPrefix: %d positions do not fit a cache of %d", n, c.capacity))
	}
	if !from.Holds(n) {
		return false
	}
	c.copyPrefix(from, n)
	return true
}

// Holds reports whether the cache has all that the token at position n attends to in its first n
// positions. It panics if the cache has fewer positions.
func (c *Cache) Holds(n int) bool {
	if n > c.Len {
		panic(fmt.Sprintf("infer: %d positions of a cache of length %d", n, c.Len))
	}
	for i := range c.layers {
		if l := &c.layers[i]; n > 0 && l.start > firstKey(l.window, n) {
			return false
		}
	}
	return true
}

// copyPrefix copies the first n positions of another cache to this one.
func (c *Cache) copyPrefix(from *Cache, n int) {
	c.Len = n
	if n == 0 {
		return
	}
	for i := range c.layers {
		src, dst := &from.layers[i], &c.layers[i]
		dst.start = firstKey(src.window, n) // the next token needs the positions from here on
		skip, count := (dst.start-src.start)*c.headDim, (n-dst.start)*c.headDim
		for kv := range c.kvHeads {
			copy(dst.keys[kv*dst.size*c.headDim:], src.keys[kv*src.size*c.headDim+skip:][:count])
			copy(dst.values[kv*dst.size*c.headDim:], src.values[kv*src.size*c.headDim+skip:][:count])
		}
	}
}

// Bytes returns the memory that the keys and values take.
func (c *Cache) Bytes() int64 {
	n := int64(0)
	for i := range c.layers {
		n += int64(c.layers[i].size)
	}
	return 2 * 4 * n * int64(c.kvHeads*c.headDim)
}

// CacheBytes returns the memory that a cache of this capacity takes.
func (m *Model) CacheBytes(capacity int) int64 { return layoutCache(m.Config, capacity).Bytes() }

// Capacity returns the number of positions that can be appended to an empty cache.
func (c *Cache) Capacity() int { return c.capacity }

// part returns how many tokens of a sequence the layer can append at a time; math.MaxInt if it
// has space for all.
func (c *Cache) part(layer int) int {
	if c.layers[layer].size < c.capacity {
		return windowPart
	}
	return math.MaxInt
}

// admit makes space in a layer for the positions [pos, pos+n), n at most part, by discarding
// positions that none of them attends to.
func (c *Cache) admit(layer, pos, n int) {
	l := &c.layers[layer]
	if pos == 0 {
		l.start = 0
	}
	if pos+n-l.start <= l.size {
		return
	}
	start := firstKey(l.window, pos)
	from, to := (start-l.start)*c.headDim, (pos-l.start)*c.headDim
	l.start = start
	for kv := range c.kvHeads {
		at := kv * l.size * c.headDim
		copy(l.keys[at:], l.keys[at+from:at+to])
		copy(l.values[at:], l.values[at+from:at+to])
	}
}

// head returns the keys and values [positions, head_dim] of one KV head from position pos
// on.
func (c *Cache) head(layer, kv, pos int) (keys, values []float32) {
	l := &c.layers[layer]
	at, end := (kv*l.size+pos-l.start)*c.headDim, (kv+1)*l.size*c.headDim
	return l.keys[at:end], l.values[at:end]
}
