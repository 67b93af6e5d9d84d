package infer

// Cache holds the keys and values of one sequence, float32, as they enter
// attention (normed and rotated). One slab per layer and KV head, so that the
// positions of a head lie next to each other: [layer][kv_head][capacity, head_dim].
type Cache struct {
	Len      int // positions held
	capacity int
	headDim  int
	kvHeads  int
	keys     [][]float32 // one slice per layer, [kv_heads, capacity, head_dim]
	values   [][]float32
}

// NewCache returns an empty cache with room for capacity positions, which takes
// layers · 2 · kv_heads · head_dim · capacity float32.
func (m *Model) NewCache(capacity int) *Cache {
	c := &Cache{capacity: capacity, headDim: m.Config.HeadDim, kvHeads: m.Config.KVHeads}
	n := c.kvHeads * capacity * c.headDim
	for range m.Config.Layers {
		c.keys = append(c.keys, make([]float32, n))
		c.values = append(c.values, make([]float32, n))
	}
	return c
}

// newLayerCache returns an empty cache whose layers share their memory, for use one
// layer at a time.
func (m *Model) newLayerCache(capacity int) *Cache {
	c := &Cache{capacity: capacity, headDim: m.Config.HeadDim, kvHeads: m.Config.KVHeads}
	n := c.kvHeads * capacity * c.headDim
	keys, values := make([]float32, n), make([]float32, n)
	for range m.Config.Layers {
		c.keys, c.values = append(c.keys, keys), append(c.values, values)
	}
	return c
}

// Reset empties the cache for another sequence.
func (c *Cache) Reset() { c.Len = 0 }

// Capacity returns the number of positions that the cache has room for.
func (c *Cache) Capacity() int { return c.capacity }

// head returns the keys and values [capacity, head_dim] of one KV head.
func (c *Cache) head(layer, kv int) (keys, values []float32) {
	n := c.capacity * c.headDim
	return c.keys[layer][kv*n : (kv+1)*n], c.values[layer][kv*n : (kv+1)*n]
}
