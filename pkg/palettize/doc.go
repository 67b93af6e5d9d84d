// Package palettize compresses one weight matrix by exact weight sharing.
//
// A matrix W [rows, cols] is cut into groups of consecutive rows (16 unless
// asked otherwise; the last group may be shorter). Every group gets a look-up
// table (LUT) of 2^bits fp16 values, and each weight becomes the index of the
// nearest entry of its group's table. [Palettize] chooses the tables so that the
// squared error is the least possible; [Matrix] is the result in its stored form.
//
// # What is exact
//
// A group's weights collapse to a histogram: its distinct values in ascending
// order, each with a weight (how often it occurs, or the summed importance of the
// columns it occurs in). F16 and BF16 weights have at most 65,536 values and are
// counted in a table; F32 weights are sorted. No weight is rounded before the
// fit. Optimal one-dimensional k-means over the histogram is then solved exactly:
//
//   - The cost of a cluster is the weighted squared distance to its mean. It is
//     concave Monge, so the optimal cost f(k) is convex in the number of clusters
//     k (Aggarwal, Schieber and Tokuyama, "Finding a minimum-weight k-link path in
//     graphs with the concave Monge property", 1994). Hence a partition that
//     minimises cost + λ·clusters for some λ and has exactly k clusters is optimal
//     among all partitions into k.
//   - For one λ that is a least-weight subsequence problem, solved in O(n log n)
//     with a queue of candidates (Hirschberg and Larmore, 1987). A dynamic program
//     over a coarse histogram estimates λ; a bracketing search corrects it.
//   - Where no λ gives exactly k (f is linear there: ties), and where rounding might
//     have cost the fast path more than 1e-9 of the squared error, SMAWK (Aggarwal,
//     Klawe, Moran, Shor and Wilber, 1987) solves the k-layer recurrence with
//     cluster costs evaluated in twice the precision of float64.
//
// [KMeans] is that algorithm by itself, for callers with values of their own.
//
// The optimal centroids are then rounded to fp16 (to nearest, ties to even) and
// every weight is assigned again to the nearest rounded entry, a tie going to the
// lower index. A group with no more than 2^bits distinct values that fp16 can
// represent is therefore reconstructed exactly; -0 is stored as +0.
//
// # Row scales
//
// With [Options.RowScale] every row has an fp16 factor, and its weights over that
// share the group's table. The first factors are the rows' largest magnitudes, for
// which the table is fitted with an error counting by the factor's square; quotients
// are gathered in cells for this fit, some 40 to 160 to an entry where they are dense.
// Then, up to eight times while that lowers the error, factors and table become the
// least-squares fit to the entries that the weights chose, and every weight chooses
// anew: Lloyd's algorithm over factors and table, whose every step needs no more than
// number and sum of the weights by row and entry. What each weight chooses is the entry
// nearest to it in exact arithmetic. A row of zeros has the factor 0.
//
// # Error compensation
//
// [Compensate] has the error of the output in mind instead, over calibration inputs
// whose second moment H is given as a [HessianFactor]. Columns are quantized one after another
// and the error of each is made up for in those that follow (GPTQ); then tables and row
// scales are fitted to the indices in the norm of H, and the indices chosen anew, in
// turn. All heavy work is products with H or its Cholesky factor.
//
// # Promises
//
//   - Tables ascend. A group with fewer distinct values than entries repeats its
//     last entry; an index always names the first of equal entries.
//   - NaN, ±Inf, or an entry outside the range of fp16 is a [*ValueError] that
//     names the row and column. Nothing is clamped or skipped.
//   - The bytes and the [Report] depend on the input and the options alone, not on
//     the number of threads or the CPU.
//   - Memory beyond the result is bounded by a constant plus, for F32, 200 bytes for
//     each weight of a group, for every worker.
//
// The stored form is plain: indices are packed least significant bit first, each
// row starting on a byte; see [Matrix].
package palettize
