package jinja

import (
	"slices"
)

// tupleMode says how jinja2's parse_tuple reads a tuple or a single expression.
type tupleMode struct {
	noCond bool   // "if" ends the expression
	parens bool   // in parentheses: it may be empty
	end    string // a name that ends it
	target bool   // names only
	ns     bool   // with namespace.attribute among them
}

func (p *parser) tuple(m tupleMode) (expr, error) {
	line := pos(p.cur().line)
	var items []expr
	isTuple := false
	for {
		if len(items) > 0 {
			if err := p.op(","); err != nil {
				return nil, err
			}
		}
		if t := p.cur(); t.kind == tVarEnd || t.kind == tBlockEnd || p.isOp(")") || m.end != "" && p.isName(m.end) {
			break
		}
		var x expr
		var err error
		switch {
		case m.target:
			x, err = p.primary(m.ns)
		case m.noCond:
			x, err = p.or()
		default:
			x, err = p.expression()
		}
		if err != nil {
			return nil, err
		}
		items = append(items, x)
		if !p.isOp(",") {
			break
		}
		isTuple = true
	}
	if !isTuple && len(items) == 1 {
		return items[0], nil
	}
	if len(items) == 0 && !m.parens {
		return nil, p.unexpected("an expression")
	}
	return &tupleE{line, items}, nil
}

// target parses what an assignment or a loop binds, up to the name end.
func (p *parser) target(end string, ns bool) (expr, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer func() { p.nesting-- }()
	x, err := p.tuple(tupleMode{end: end, target: true, ns: ns})
	if err != nil {
		return nil, err
	}
	return x, assignable(x)
}

func assignable(x expr) error {
	switch x := x.(type) {
	case *nameE, *nsE:
		return nil
	case *tupleE:
		for _, item := range x.items {
			if err := assignable(item); err != nil {
				return err
			}
		}
		return nil
	}
	return syntaxf(x.at(), "cannot assign to this expression")
}

// binds reports whether a target binds a name.
func binds(target expr, name string) bool {
	switch t := target.(type) {
	case *nameE:
		return t.name == name
	case *tupleE:
		return slices.ContainsFunc(t.items, func(x expr) bool { return binds(x, name) })
	}
	return false
}
