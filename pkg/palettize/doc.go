// Package palettize compresses one weight matrix by weight sharing with look-up tables.
//
// A matrix W [rows, cols] is cut into groups of consecutive rows (16 by default; the last
// group may be shorter). Every group has a look-up table (LUT) of 2^bits fp16 values, and
// every weight becomes an index into its group's table. By default every row also has an
// fp16 scale that multiplies the entries. [Palettize] minimizes the squared error of the
// weights, [Compensate] that of the module's output. [Matrix] is the result in its stored
// form.
//
// # What is exact
//
// Without row scales ([Options.NoRowScale]) the tables are optimal: among all tables of
// 2^bits real values none has a squared error smaller by more than 1e-9 of it. Rounding
// the entries to fp16 comes after and is not part of the optimization.
//
// With row scales the fit alternates between scales and tables, and the result is not
// optimal. In the measurements of docs/quality.md the squared error of a matrix is 0.001 to
// 0.21 % above that of the optimal tables for the same scales. The rounds end before they
// converge, at a squared error 0.1 to 0.6 % above that of the converged fit. How far that is
// from the joint optimum of scales and tables is not known.
//
// In both cases every weight has the index of the entry nearest to it, computed in exact
// arithmetic. With [Compensate] it has not: GPTQ is a heuristic for another objective.
//
// # Optimal tables
//
// The weights of a group form a histogram: the distinct values in ascending order, each
// with a weight, which is its number of occurrences or the summed importance of its
// columns. F16 and BF16 weights have at most 65,536 distinct values and are counted in a
// table; F32 weights are sorted. No weight is rounded. [KMeans] then solves optimal
// one-dimensional k-means:
//
//   - The cost of a cluster is the weighted squared distance to its mean. It is concave
//     Monge, so the optimal cost f(k) is convex in the number of clusters k (Aggarwal,
//     Schieber and Tokuyama, "Finding a minimum-weight k-link path in graphs with the
//     concave Monge property", 1994). A partition that minimizes cost + λ·clusters for
//     some λ and has exactly k clusters is therefore optimal among all partitions into k.
//   - For a given λ this is a least-weight subsequence problem, solved in O(n log n) with
//     a queue of candidates (Hirschberg and Larmore, 1987). A coarse histogram yields an
//     estimate of λ, and a bracketing search refines it.
//   - Where no λ gives exactly k clusters (f is linear there), and where rounding errors
//     of the fast path might exceed 1e-9 of the squared error, SMAWK (Aggarwal, Klawe,
//     Moran, Shor and Wilber, 1987) solves the k-layer recurrence, with cluster costs in
//     double-double arithmetic.
//
// The centroids are rounded to fp16 (to nearest, ties to even), and every weight is
// assigned to the nearest rounded entry, ties to the lower index. A group with at most
// 2^bits distinct values that fp16 represents is therefore reconstructed exactly; -0
// becomes +0.
//
// # Row scales
//
// The initial scales are the largest magnitudes of the rows. The initial table is the
// k-means optimum of the quotients weight/scale, weighted by the square of the scale and
// gathered in cells of a fixed width, 40 to 160 cells per entry where quotients are dense.
// Up to eight rounds follow, while they lower the error: scales and table become the
// least-squares fit to the present indices, and every weight is assigned again. This is
// Lloyd's algorithm over scales and table. A round needs only the number and the sum of
// the weights by row and entry. A row of zeros has scale 0.
//
// # Error compensation
//
// [Compensate] minimizes the squared error of the module's output on calibration inputs,
// whose second moment H is given as a [gptq.Factor]. Columns are quantized one after
// another, and the error of each is compensated in the columns that follow (GPTQ). Then
// rounds alternate between fitting tables and row scales to the indices in the norm of H
// and coordinate descent over the indices.
//
// # Guarantees
//
//   - Tables ascend. A group with fewer distinct values than entries repeats its last
//     entry; an index always refers to the first of equal entries.
//   - NaN, ±Inf, or an entry outside the range of fp16 is a [*ValueError] with row and
//     column. Nothing is clamped or skipped.
//   - Bytes and [Report] depend on the input and the options only, not on the number of
//     threads. Those of [Palettize] do not depend on the CPU either; those of [Compensate]
//     are the same on all CPUs with vector kernels.
//   - Memory besides the result is a constant plus, for F32, 200 bytes per weight of a
//     group, per worker.
//
// Indices are packed least significant bit first, each row starting at a byte; see
// [Matrix].
package palettize
