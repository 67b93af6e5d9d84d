package main

import (
	"regexp"
	"strings"
)

// excerpt returns the lines of a new output that a page shows which showed the lines shown of
// an earlier one. The lines between two elisions stay together; the new excerpt has the lines
// from the one that resembles their first to the one that resembles their last. It returns the
// whole output and false if lines between two elisions have no counterpart.
func excerpt(shown, output []string) ([]string, bool) {
	var old []string  // the lines shown, without elisions
	var segment []int // of each: the number of elisions before it
	elisions := 0
	for _, line := range shown {
		if line == elision {
			elisions++
			continue
		}
		old, segment = append(old, line), append(segment, elisions)
	}
	if elisions == 0 || len(output) == 0 || len(old) == 0 {
		return output, elisions == 0
	}
	partner := align(old, output)
	var result []string
	next := 0 // the first line of output that is not yet shown or omitted
	for i := 0; i < len(old); {
		end := i
		for end < len(old) && segment[end] == segment[i] {
			end++
		}
		from, to := extent(partner[i:end], next, len(output))
		if segment[i] == 0 {
			from = 0
		}
		if segment[i] == elisions {
			to = len(output)
		}
		if from >= to {
			return output, false
		}
		if from > next {
			result = append(result, elision)
		}
		result = append(result, output[from:to]...)
		i, next = end, to
	}
	if next < len(output) {
		result = append(result, elision)
	}
	return result, true
}

// extent returns the range of lines whose counterparts are given, -1 for none; lines at an end
// that have none are assumed beside those that do. It is within [low, high), and empty if no
// line has a counterpart.
func extent(partner []int, low, high int) (from, to int) {
	first, last := -1, -1
	for i, p := range partner {
		if p >= 0 && first < 0 {
			first = i
		}
		if p >= 0 {
			last = i
		}
	}
	if first < 0 {
		return low, low
	}
	from = max(low, partner[first]-first)
	to = min(high, partner[last]+len(partner)-last)
	return from, to
}

// align returns, for each line of a, the index of the line of b that resembles it, or -1. The
// order is kept, and the sum of the similarities is as large as possible.
func align(a, b []string) []int {
	best := make([][]float64, len(a)+1) // best[i][j] of a[i:] and b[j:]
	best[len(a)] = make([]float64, len(b)+1)
	for i := len(a) - 1; i >= 0; i-- {
		best[i] = make([]float64, len(b)+1)
		for j := len(b) - 1; j >= 0; j-- {
			best[i][j] = max(best[i+1][j], best[i][j+1], similarity(a[i], b[j])+best[i+1][j+1])
		}
	}
	partner := make([]int, len(a))
	for i, j := 0, 0; i < len(a); {
		partner[i] = -1
		if j == len(b) || best[i][j] == 0 {
			i++
			continue
		}
		s := similarity(a[i], b[j])
		switch { // of equal sums, that with the earliest lines of b
		case s > 0 && best[i][j] == s+best[i+1][j+1]:
			partner[i] = j
			i, j = i+1, j+1
		case best[i][j] == best[i+1][j]:
			i++
		default:
			j++
		}
	}
	return partner
}

var digits = regexp.MustCompile(`[0-9][0-9a-f,.]*`)

// similarity is how much two lines resemble each other, with every number equal; 0 if not at all.
// It is the share of words in common (Dice's coefficient), or, for a line that was broken into
// several, the share of the shorter line's words that the longer has. An equal first word, often
// a label, adds to it, and so does equality.
func similarity(a, b string) float64 {
	x, y := strings.Fields(digits.ReplaceAllString(a, "0")), strings.Fields(digits.ReplaceAllString(b, "0"))
	if len(x) == 0 || len(y) == 0 {
		return 0
	}
	count := map[string]int{}
	for _, w := range x {
		count[w]++
	}
	common := 0.0
	for _, w := range y {
		if count[w] > 0 {
			count[w]--
			common++
		}
	}
	s := 0.0
	shorter := float64(min(len(x), len(y)))
	if dice := 2 * common / float64(len(x)+len(y)); dice >= 0.5 {
		s = dice
	} else if part := common / shorter; part >= 0.8 && shorter >= 3 {
		s = 0.8 * part
	}
	if x[0] == y[0] && x[0] != "0" {
		s += 0.3
	}
	if stable(a) == stable(b) {
		s += 0.1
	}
	return s
}
