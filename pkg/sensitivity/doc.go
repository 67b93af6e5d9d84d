// Package sensitivity decides how many bits each module of a model gets.
//
// [Allocate] chooses one width for every module so that the summed cost is the
// least that a size allows, to proven optimality. A cost is whatever estimates how
// much the model suffers when one module goes to that width; the costs of
// different modules are taken to add up, which for the divergence of small changes
// they nearly do.
package sensitivity
