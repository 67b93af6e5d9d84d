package jinja

import (
	"math"
	"math/big"
	"math/bits"
	"slices"
	"strings"
)

// binary evaluates an arithmetic operator.
func (r *run) binary(op string, a, b Value) (Value, error) {
	if s, ok := a.(string); ok && op == "%" {
		return r.percent(s, b)
	}
	for _, v := range []Value{a, b} {
		if u, ok := v.(*Undefined); ok {
			return nil, failf("%s", u.Msg)
		}
		if _, ok := v.(*big.Int); ok {
			return nil, refusef("arithmetic with an integer beyond 64 bits")
		}
	}
	na, aInt := number(a)
	nb, bInt := number(b)
	if aInt && bInt {
		return integers(op, na, nb)
	}
	fa, aNum := float(a)
	fb, bNum := float(b)
	if aNum && bNum {
		return floats(op, fa, fb)
	}
	switch op {
	case "+":
		return r.add(a, b)
	case "*":
		if bInt {
			return r.repeat(a, nb)
		}
		if aInt {
			return r.repeat(b, na)
		}
	}
	if _, ok := a.(Markup); ok {
		return nil, refusef("%q of Markup", op)
	}
	return nil, failf("unsupported operand type(s) for %s: %q and %q", op, typeName(a), typeName(b))
}

func (r *run) add(a, b Value) (Value, error) {
	sa, aText := text(a)
	sb, bText := text(b)
	if aText && bText {
		if err := r.alloc(len(sa) + len(sb)); err != nil {
			return nil, err
		}
		_, aMark := a.(Markup)
		_, bMark := b.(Markup)
		switch {
		case aMark && bMark:
			return Markup(sa + sb), nil
		case aMark:
			return Markup(sa + escapeHTML(sb)), nil
		case bMark:
			return Markup(escapeHTML(sa) + sb), nil
		}
		return sa + sb, nil
	}
	if la, ok := a.(*List); ok {
		if lb, ok := b.(*List); ok {
			items, err := r.concat(la.Items, lb.Items)
			la.read()
			lb.read()
			return &List{Items: items}, err
		}
	}
	if ta, ok := a.(*Tuple); ok {
		if tb, ok := b.(*Tuple); ok {
			items, err := r.concat(ta.Items, tb.Items)
			return &Tuple{Items: items}, err
		}
	}
	return nil, failf("can only concatenate like types, not %q and %q", typeName(a), typeName(b))
}

func (l *List) read() {
	if l.Watch != nil {
		l.Watch.Read = true
	}
}

func (r *run) concat(a, b []Value) ([]Value, error) {
	if err := r.allocItems(len(a) + len(b)); err != nil {
		return nil, err
	}
	return slices.Concat(a, b), nil
}

func (r *run) repeat(v Value, n int64) (Value, error) {
	count := int(max(0, min(n, 1<<40)))
	switch v := v.(type) {
	case string:
		if err := r.alloc(times(len(v), count)); err != nil || v == "" {
			return "", err
		}
		return strings.Repeat(v, count), nil
	case *List:
		if err := r.allocItems(times(len(v.Items), count)); err != nil || len(v.Items) == 0 {
			return &List{}, err
		}
		return &List{Items: slices.Repeat(v.Items, count)}, nil
	case *Tuple:
		if err := r.allocItems(times(len(v.Items), count)); err != nil || len(v.Items) == 0 {
			return &Tuple{}, err
		}
		return &Tuple{Items: slices.Repeat(v.Items, count)}, nil
	case Markup:
		return nil, refusef("multiplying Markup")
	}
	return nil, failf("cannot multiply %q by an integer", typeName(v))
}

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

var htmlEscapes = strings.NewReplacer("&", "&amp;", ">", "&gt;", "<", "&lt;", "'", "&#39;", `"`, "&#34;")

func escapeHTML(s string) string { return htmlEscapes.Replace(s) }
