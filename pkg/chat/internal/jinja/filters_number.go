package jinja

import (
	"math"
	"math/big"
	"strconv"
	"strings"
)

func intFilter(r *run, v Value, a args) (Value, error) {
	p, err := a.bind("int", "default", "base")
	if err != nil {
		return nil, err
	}
	base := int64(10)
	if p[1] != missing {
		var ok bool
		if base, ok = number(p[1]); !ok || base != 10 && base != 16 && base != 8 && base != 2 {
			return nil, refusef("the filter %q with this base", "int")
		}
	}
	otherwise := Value(int64(0))
	if p[0] != missing {
		otherwise = p[0]
	}
	if n, ok := number(v); ok {
		return n, nil
	}
	switch v := v.(type) {
	case *big.Int:
		return v, nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return otherwise, nil
		}
		n, _ := big.NewFloat(v).Int(nil)
		return integer(n), nil
	case string:
		s := strings.TrimFunc(v, isSpace)
		if n, ok := new(big.Int).SetString(digits(s, base), int(base)); ok && len(s) < 1000 {
			return integer(n), nil
		}
		if f, ok := pythonFloat(s); ok {
			return intFilter(r, f, a)
		}
		if strings.Contains(s, "_") {
			return nil, refusef("the filter %q of %q", "int", s)
		}
	case *Undefined:
		return nil, failf("%s", v.Msg)
	}
	return otherwise, nil
}

// digits removes the prefix of a base from a number, as Python's int(s, base) allows it.
func digits(s string, base int64) string {
	sign := ""
	if s != "" && (s[0] == '-' || s[0] == '+') {
		sign, s = s[:1], s[1:]
	}
	prefix := map[int64]string{16: "0x", 8: "0o", 2: "0b"}[base]
	if prefix != "" && len(s) > 2 && strings.EqualFold(s[:2], prefix) {
		s = s[2:]
	}
	if s != "" && (s[0] == '-' || s[0] == '+') {
		return "" // two signs
	}
	return sign + s
}

// pythonFloat is Python's float(s) of plain decimal numbers.
func pythonFloat(s string) (float64, bool) {
	if strings.ContainsAny(s, "_xXpP") {
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil || math.IsInf(f, 0)
}

func floatFilter(r *run, v Value, a args) (Value, error) {
	p, err := a.bind("float", "default")
	if err != nil {
		return nil, err
	}
	if f, ok := float(v); ok {
		return f, nil
	}
	switch v := v.(type) {
	case string:
		s := strings.TrimFunc(v, isSpace)
		if f, ok := pythonFloat(s); ok {
			return f, nil
		}
		if strings.Contains(s, "_") {
			return nil, refusef("the filter %q of %q", "float", s)
		}
	case *Undefined:
		return nil, failf("%s", v.Msg)
	}
	if p[0] != missing {
		return p[0], nil
	}
	return 0.0, nil
}

func absFilter(r *run, v Value, a args) (Value, error) {
	if _, err := a.bind("abs"); err != nil {
		return nil, err
	}
	if f, ok := v.(float64); ok {
		return math.Abs(f), nil
	}
	n, ok := number(v)
	if !ok {
		return nil, failf("bad operand type for abs(): %q", typeName(v))
	}
	if n < 0 {
		return integers("-", 0, n)
	}
	return n, nil
}

func roundFilter(r *run, v Value, a args) (Value, error) {
	p, err := a.bind("round", "precision", "method")
	if err != nil {
		return nil, err
	}
	method := "common"
	if p[1] != missing {
		method, _ = p[1].(string)
	}
	precision, ok := int64(0), true
	if p[0] != missing {
		precision, ok = number(p[0])
	}
	if !ok || precision < 0 || precision > 15 {
		return nil, refusef("the filter %q with this precision", "round")
	}
	if n, ok := number(v); ok && method == "common" {
		return n, nil
	}
	f, ok := float(v)
	if !ok {
		return nil, failf("the filter %q needs a number, not %s", "round", typeName(v))
	}
	scale := math.Pow(10, float64(precision))
	switch method {
	case "common": // Python rounds the decimal value correctly, half to even
		s := strconv.FormatFloat(f, 'f', int(precision), 64)
		f, err = strconv.ParseFloat(s, 64)
		return f, err
	case "ceil":
		return math.Ceil(f*scale) / scale, nil
	case "floor":
		return math.Floor(f*scale) / scale, nil
	}
	return nil, failf("method must be common, ceil or floor")
}
