package jinja

import (
	"cmp"
	"math"
	"math/big"
	"strings"
)

// equal is Python's a == b.
func (r *run) equal(a, b Value) (bool, error) {
	if err := r.enter(); err != nil {
		return false, err
	}
	defer r.leave()
	if fa, ok := float(a); ok {
		fb, ok := float(b)
		if !ok {
			return false, nil
		}
		na, aInt := number(a)
		nb, bInt := number(b)
		if aInt && bInt {
			return na == nb, nil
		}
		ba, aBig := a.(*big.Int)
		bb, bBig := b.(*big.Int)
		if aBig || bBig {
			return aBig && bBig && ba.Cmp(bb) == 0, nil
		}
		return fa == fb, nil
	}
	if sa, ok := text(a); ok {
		sb, ok := text(b)
		if !ok || len(sa) != len(sb) {
			return false, nil
		}
		return sa == sb, r.scan(a)
	}
	switch a := a.(type) {
	case nil:
		return b == nil, nil
	case *Undefined:
		_, ok := b.(*Undefined)
		return ok, nil
	case *List:
		b, ok := b.(*List)
		if !ok {
			return false, nil
		}
		return r.equalItems(a.Items, b.Items)
	case *Tuple:
		b, ok := b.(*Tuple)
		if !ok {
			return false, nil
		}
		return r.equalItems(a.Items, b.Items)
	case *Dict:
		b, ok := b.(*Dict)
		if !ok || a.Len() != b.Len() {
			return false, nil
		}
		for i, k := range a.keys {
			v, ok, err := r.lookup(b, k)
			if err != nil || !ok {
				return false, err
			}
			if same, err := r.equal(a.values[i], v); err != nil || !same {
				return false, err
			}
		}
		return true, nil
	case *view:
		return false, refusef("comparing an object of type %s", a.kind)
	}
	if v, ok := b.(*view); ok {
		return false, refusef("comparing an object of type %s", v.kind)
	}
	return a == b, nil // identity
}

func (r *run) equalItems(a, b []Value) (bool, error) {
	if len(a) != len(b) {
		return false, nil
	}
	for i := range a {
		if same, err := r.equal(a[i], b[i]); err != nil || !same {
			return false, err
		}
	}
	return true, nil
}

// compare orders two values; it fails where Python's < fails.
func (r *run) compare(a, b Value) (int, error) {
	if err := r.enter(); err != nil {
		return 0, err
	}
	defer r.leave()
	if na, ok := number(a); ok {
		if nb, ok := number(b); ok {
			return cmp.Compare(na, nb), nil
		}
	}
	fa, aNum := float(a)
	fb, bNum := float(b)
	if aNum && bNum {
		if math.IsNaN(fa) || math.IsNaN(fb) {
			return 0, refusef("ordering NaN")
		}
		return cmp.Compare(fa, fb), nil
	}
	sa, aText := text(a)
	sb, bText := text(b)
	if aText && bText {
		return strings.Compare(sa, sb), r.scan(a)
	}
	var la, lb []Value
	switch a := a.(type) {
	case *List:
		if b, ok := b.(*List); ok {
			la, lb = a.Items, b.Items
		}
	case *Tuple:
		if b, ok := b.(*Tuple); ok {
			la, lb = a.Items, b.Items
		}
	}
	if typeName(a) != typeName(b) || typeName(a) != "list" && typeName(a) != "tuple" {
		if u, ok := a.(*Undefined); ok {
			return 0, failf("%s", u.Msg)
		}
		if u, ok := b.(*Undefined); ok {
			return 0, failf("%s", u.Msg)
		}
		return 0, failf("'<' not supported between instances of %q and %q", typeName(a), typeName(b))
	}
	for i := range min(len(la), len(lb)) {
		same, err := r.equal(la[i], lb[i])
		if err != nil {
			return 0, err
		}
		if !same {
			return r.compare(la[i], lb[i])
		}
	}
	return cmp.Compare(len(la), len(lb)), nil
}
