package sensitivity

import "afmq/internal/kernel"

// treeNode is a sum over the leaves [First, First+Count) of a text. Count is a power of two, and
// First a multiple of it.
type treeNode struct {
	First, Count int
	sum          []float32
}

// treeSum adds the sums of leaves in the order of a binary tree over all leaves of a text, so that
// the result has the same bits however the leaves are divided among shards. It holds a sum for each
// level of the tree at most.
type treeSum struct{ nodes []treeNode }

// push adds a node, which follows the last one. It takes over n.sum.
func (t *treeSum) push(n treeNode) {
	for k := len(t.nodes) - 1; k >= 0; k-- {
		left := t.nodes[k]
		if left.Count != n.Count || left.First%(2*n.Count) != 0 {
			break
		}
		kernel.Add(left.sum, n.sum) // left is the first operand
		n = treeNode{left.First, 2 * n.Count, left.sum}
		t.nodes = t.nodes[:k]
	}
	t.nodes = append(t.nodes, n)
}

// total adds up the nodes, from the left. The nodes are gone afterwards.
func (t *treeSum) total() []float32 {
	sum := t.nodes[0].sum
	for _, n := range t.nodes[1:] {
		kernel.Add(sum, n.sum)
	}
	t.nodes = nil
	return sum
}

// covers reports whether nodes cover the leaves [first, end) one after another.
func covers(nodes []treeNode, first, end int) bool {
	for _, n := range nodes {
		if n.First != first || n.Count < 1 || n.Count&(n.Count-1) != 0 || n.First%n.Count != 0 {
			return false
		}
		first += n.Count
	}
	return first == end
}

// packTriangle returns the upper triangle of h [n, n], row by row.
func packTriangle(h []float32, n int) []float32 {
	out := make([]float32, 0, n*(n+1)/2)
	for i := range n {
		out = append(out, h[i*n+i:(i+1)*n]...)
	}
	return out
}

// unpackTriangle returns the symmetric matrix [n, n] whose upper triangle is packed.
func unpackTriangle(packed []float32, n int) []float32 {
	h := make([]float32, n*n)
	for i := range n {
		packed = packed[copy(h[i*n+i:(i+1)*n], packed):]
	}
	kernel.Symmetrize(h, n)
	return h
}
