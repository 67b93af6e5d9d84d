package jinja

import "math/big"

// test evaluates "v is name(a...)".
func (r *run) test(name string, v Value, a args) (Value, error) {
	if err := r.step(1); err != nil {
		return nil, err
	}
	if op, ok := operatorTests[name]; ok {
		p, err := a.bind(name, "other")
		if err != nil {
			return nil, err
		}
		if p[0] == missing {
			return nil, failf("the test %q takes an argument", name)
		}
		return r.holds(op, v, p[0])
	}
	test, ok := tests[name]
	if !ok {
		switch name {
		case "divisibleby":
			return r.divisible(v, a)
		case "sameas":
			return r.same(v, a)
		case "odd", "even":
			n, err := r.binary("%", v, int64(2))
			if err != nil {
				return nil, err
			}
			same, err := r.equal(n, int64(map[string]int64{"odd": 1}[name]))
			return same, err
		case "upper", "lower":
			s, err := r.str(v)
			if err != nil {
				return nil, err
			}
			return stringMethods["is"+name](r, s, a)
		case "filter", "test":
			return nil, refusef("the test %q", name)
		}
		return nil, failf("no test named %q", name)
	}
	if _, err := a.bind(name); err != nil {
		return nil, err
	}
	return test(v), nil
}

var operatorTests = map[string]string{
	"==": "==", "eq": "==", "equalto": "==", "!=": "!=", "ne": "!=", "in": "in",
	">": ">", "gt": ">", "greaterthan": ">", ">=": ">=", "ge": ">=",
	"<": "<", "lt": "<", "lessthan": "<", "<=": "<=", "le": "<=",
}

var tests = map[string]func(v Value) bool{
	"defined":   func(v Value) bool { return !is[*Undefined](v) },
	"undefined": is[*Undefined],
	"none":      func(v Value) bool { return v == nil },
	"boolean":   is[bool],
	"true":      func(v Value) bool { return v == true },
	"false":     func(v Value) bool { return v == false },
	"integer":   func(v Value) bool { return is[int64](v) || is[*big.Int](v) },
	"float":     is[float64],
	"number":    func(v Value) bool { _, ok := float(v); return ok },
	"string":    func(v Value) bool { _, ok := text(v); return ok },
	"mapping":   is[*Dict],
	"escaped":   is[Markup],
	"callable": func(v Value) bool {
		return is[*function](v) || is[*macro](v) || is[*Undefined](v) || is[*loop](v)
	},
	"iterable": func(v Value) bool {
		switch v.(type) {
		case string, Markup, *List, *Tuple, *Dict, *view, *iterator, *Undefined, *loop:
			return true
		}
		return false
	},
	"sequence": func(v Value) bool {
		switch v := v.(type) {
		case string, Markup, *List, *Tuple, *Dict, *Undefined:
			return true
		case *view:
			return v.kind == "range"
		}
		return false
	},
}

func is[T any](v Value) bool {
	_, ok := v.(T)
	return ok
}

func (r *run) divisible(v Value, a args) (Value, error) {
	p, err := a.bind("divisibleby", "num")
	if err != nil {
		return nil, err
	}
	m, err := r.binary("%", v, p[0])
	if err != nil {
		return nil, err
	}
	return r.equal(m, int64(0))
}

// same is the test sameas, for values of which Python has one object.
func (r *run) same(v Value, a args) (Value, error) {
	p, err := a.bind("sameas", "other")
	if err != nil {
		return nil, err
	}
	for _, x := range []Value{v, p[0]} {
		if x == nil || is[bool](x) {
			return v == p[0], nil
		}
	}
	return nil, refusef("the test %q of a value of type %s", "sameas", typeName(v))
}
