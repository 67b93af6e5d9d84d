package grid

import (
	"afmq/pkg/compute"
)

// Values are the numbers of a stored matrix that training can change, before they are rounded to what
// is stored. In a call of [Trainable], those that are empty are left out.
type Values struct {
	Tables []float32 // entries of look-up tables, in their stored order
	Scales []float32 // factors of rows, groups of columns or blocks, and the biases beside them
	// Codes has for every weight, [rows, cols], the number that its code is chosen by: that of the
	// entry or level next to it. On a palette it is a value in the table, before the row's scale.
	Codes []float32
}

// Trainable is a stored matrix [rows, cols] in training. A weight is a table's entry, or a level, times
// a scale; gradients are those of that product. The gradient by a code is that by what it stands for,
// as if nothing were rounded (the straight-through estimator, Bengio et al. 2013, arXiv:1308.3432).
//
// Results do not depend on the number of threads. A pool may be nil.
type Trainable interface {
	// Lengths returns the lengths of the slices of Values. Those of what the grid does not have are 0.
	Lengths() (tables, scales, codes int)
	// Read sets v to what is stored.
	Read(v Values)
	// Units sets v to the sizes of values: what a relative change refers to. The unit of a code is the
	// distance between neighboring levels.
	Units(v Values)
	// AddGradient adds to g the gradient of a loss by the values, from that by the weights, [rows, cols].
	AddGradient(pool *compute.Pool, g Values, weights []float32)
	// Store sets the matrix to values, each rounded to the nearest that can be stored.
	Store(pool *compute.Pool, v Values)
	// Data returns the stored matrix, valid until the next Store.
	Data() Data
}
