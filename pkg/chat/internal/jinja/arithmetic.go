package jinja

import (
	"math"
	"math/bits"
)

var errOverflow = &Error{Refused, 0, "an integer beyond 64 bits is not supported"}

func integers(op string, a, b int64) (Value, error) {
	overflow := func() error { return &Error{Refused, 0, errOverflow.Msg} }
	switch op {
	case "+":
		c := a + b
		if (c > a) != (b > 0) {
			return nil, overflow()
		}
		return c, nil
	case "-":
		c := a - b
		if (c < a) != (b > 0) {
			return nil, overflow()
		}
		return c, nil
	case "*":
		return multiply(a, b)
	case "**":
		return power(a, b)
	}
	if b == 0 {
		return nil, failf("division by zero")
	}
	switch op {
	case "/":
		const exact = 1 << 53
		if max(a, b) > exact || min(a, b) < -exact {
			return nil, refusef("dividing an integer beyond 53 bits")
		}
		return float64(a) / float64(b), nil
	case "//":
		if a == math.MinInt64 && b == -1 {
			return nil, overflow()
		}
		q := a / b
		if a%b != 0 && (a < 0) != (b < 0) {
			q--
		}
		return q, nil
	}
	m := a % b
	if m != 0 && (m < 0) != (b < 0) {
		m += b
	}
	return m, nil
}

func multiply(a, b int64) (Value, error) {
	hi, lo := bits.Mul64(uint64(max(a, -a)), uint64(max(b, -b)))
	if a == math.MinInt64 || b == math.MinInt64 || hi != 0 || lo > math.MaxInt64 {
		return nil, &Error{Refused, 0, errOverflow.Msg}
	}
	return a * b, nil
}

func power(a, b int64) (Value, error) {
	if b < 0 {
		if a == 0 {
			return nil, failf("0.0 cannot be raised to a negative power")
		}
		return math.Pow(float64(a), float64(b)), nil
	}
	if a >= -1 && a <= 1 {
		if a == -1 && b%2 == 0 || b == 0 {
			return int64(1), nil
		}
		return a, nil
	}
	if b > 64 {
		return nil, &Error{Refused, 0, errOverflow.Msg}
	}
	result := Value(int64(1))
	for range b {
		var err error
		if result, err = multiply(result.(int64), a); err != nil {
			return nil, err
		}
	}
	return result, nil
}

func floats(op string, a, b float64) (Value, error) {
	if b == 0 && (op == "/" || op == "//" || op == "%") {
		return nil, failf("float division by zero")
	}
	switch op {
	case "+":
		return a + b, nil
	case "-":
		return a - b, nil
	case "*":
		return a * b, nil
	case "/":
		return a / b, nil
	case "//", "%":
		div, mod := divmod(a, b)
		if op == "//" {
			return div, nil
		}
		return mod, nil
	}
	return nil, refusef("the operator ** of floats")
}

// divmod is that of CPython, which is exact where floor(a/b) is not.
func divmod(a, b float64) (div, mod float64) {
	mod = math.Mod(a, b)
	div = (a - mod) / b
	if mod == 0 {
		mod = math.Copysign(0, b)
	} else if (mod < 0) != (b < 0) {
		mod += b
		div--
	}
	if div == 0 {
		return math.Copysign(0, a/b), mod
	}
	floor := math.Floor(div)
	if div-floor > 0.5 {
		floor++
	}
	return floor, mod
}
