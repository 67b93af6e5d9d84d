package jinja

// eval evaluates an expression in a scope.
func (r *run) eval(x expr, s *scope) (Value, error) {
	if err := r.enter(); err != nil {
		return nil, at(x.at(), err)
	}
	v, err := r.expression(x, s)
	r.leave()
	if err != nil {
		return nil, at(x.at(), err)
	}
	return v, nil
}

func (r *run) expression(x expr, s *scope) (Value, error) {
	switch x := x.(type) {
	case *constE:
		return x.v, nil
	case *nameE:
		v := s.get(x.name)
		if _, undefined := v.(*Undefined); undefined && x.name == "self" {
			return nil, refusef("the name %q", x.name)
		}
		return v, nil
	case *attrE:
		v, err := r.eval(x.x, s)
		if err != nil {
			return nil, err
		}
		return r.attribute(v, x.name)
	case *itemE:
		return r.itemExpr(x, s)
	case *callE:
		return r.call(x, s, nil)
	case *filterE:
		v, err := r.eval(x.x, s)
		if err != nil {
			return nil, err
		}
		return r.applyFilter(x, v, s)
	case *testE:
		v, err := r.eval(x.x, s)
		if err != nil {
			return nil, err
		}
		a, err := r.args(&x.argsE, s)
		if err != nil {
			return nil, err
		}
		return r.test(x.name, v, a)
	case *unaryE:
		return r.unary(x, s)
	case *binaryE:
		a, err := r.eval(x.l, s)
		if err != nil {
			return nil, err
		}
		b, err := r.eval(x.r, s)
		if err != nil {
			return nil, err
		}
		return r.binary(x.op, a, b)
	case *logicE:
		v, err := r.eval(x.l, s)
		if err != nil || truth(v) == x.or {
			return v, err
		}
		return r.eval(x.r, s)
	case *compareE:
		return r.compareExpr(x, s)
	case *concatE:
		w := &writer{r: r}
		for _, item := range x.items {
			v, err := r.eval(item, s)
			if err != nil {
				return nil, err
			}
			text, err := r.str(v)
			if err != nil {
				return nil, err
			}
			if err := w.add(text); err != nil {
				return nil, err
			}
		}
		return w.String(), nil
	case *condE:
		v, err := r.eval(x.test, s)
		switch {
		case err != nil:
			return nil, err
		case truth(v):
			return r.eval(x.then, s)
		case x.otherwise != nil:
			return r.eval(x.otherwise, s)
		}
		return &Undefined{"the inline if-expression evaluated to false and no else section was defined"}, nil
	case *listE:
		items, err := r.evalAll(x.items, s)
		return &List{Items: items}, err
	case *tupleE:
		items, err := r.evalAll(x.items, s)
		return &Tuple{Items: items}, err
	case *dictE:
		return r.dictExpr(x, s)
	}
	return nil, refusef("this expression")
}

func (r *run) evalAll(xs []expr, s *scope) ([]Value, error) {
	if err := r.allocItems(len(xs)); err != nil {
		return nil, err
	}
	out := make([]Value, len(xs))
	for i, x := range xs {
		v, err := r.eval(x, s)
		if err != nil {
			return nil, err
		}
		out[i] = v
	}
	return out, nil
}

func (r *run) dictExpr(x *dictE, s *scope) (Value, error) {
	d := NewDict()
	for i, k := range x.keys {
		key, err := r.eval(k, s)
		if err != nil {
			return nil, err
		}
		v, err := r.eval(x.values[i], s)
		if err != nil {
			return nil, err
		}
		h, err := r.hash(key)
		if err != nil {
			return nil, err
		}
		d.set(h, key, v)
	}
	return d, r.allocItems(4 * d.Len())
}

func (r *run) unary(x *unaryE, s *scope) (Value, error) {
	v, err := r.eval(x.x, s)
	if err != nil {
		return nil, err
	}
	if x.op == "not" {
		return !truth(v), nil
	}
	if u, ok := v.(*Undefined); ok {
		return nil, failf("%s", u.Msg)
	}
	if f, ok := v.(float64); ok {
		if x.op == "-" {
			f = -f
		}
		return f, nil
	}
	n, ok := number(v)
	if !ok {
		if typeName(v) == "int" {
			return nil, refusef("arithmetic with an integer beyond 64 bits")
		}
		return nil, failf("bad operand type for unary %s: %q", x.op, typeName(v))
	}
	if x.op == "-" {
		return integers("-", 0, n)
	}
	return n, nil
}

func (r *run) compareExpr(x *compareE, s *scope) (Value, error) {
	left, err := r.eval(x.first, s)
	if err != nil {
		return nil, err
	}
	for _, o := range x.rest {
		right, err := r.eval(o.x, s)
		if err != nil {
			return nil, err
		}
		holds, err := r.holds(o.op, left, right)
		if err != nil || !holds {
			return false, err
		}
		left = right
	}
	return true, nil
}

func (r *run) holds(op string, a, b Value) (bool, error) {
	switch op {
	case "==", "!=":
		same, err := r.equal(a, b)
		return same == (op == "=="), err
	case "in", "not in":
		found, err := r.contains(b, a)
		return found == (op == "in"), err
	}
	c, err := r.compare(a, b)
	if err != nil {
		return false, err
	}
	switch op {
	case "<":
		return c < 0, nil
	case "<=":
		return c <= 0, nil
	case ">":
		return c > 0, nil
	}
	return c >= 0, nil
}
