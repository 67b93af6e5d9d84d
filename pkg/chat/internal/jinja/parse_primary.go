package jinja

import (
	"math/big"
	"strconv"
)

func (p *parser) primary(namespaces bool) (expr, error) {
	t := p.take()
	line := pos(t.line)
	switch t.kind {
	case tName:
		switch t.text {
		case "true", "True":
			return &constE{line, true}, nil
		case "false", "False":
			return &constE{line, false}, nil
		case "none", "None":
			return &constE{line, nil}, nil
		}
		if namespaces && p.skipOp(".") {
			attr, err := p.name()
			return &nsE{line, t.text, attr}, err
		}
		for _, m := range p.open {
			m.use(t.text)
		}
		return &nameE{line, t.text}, nil
	case tString:
		text := t.text
		for p.cur().kind == tString {
			text += p.take().text
		}
		return &constE{line, text}, nil
	case tInt:
		n, ok := new(big.Int).SetString(t.text, 0)
		if !ok {
			return nil, syntaxf(t.line, "invalid number %q", t.text)
		}
		return &constE{line, integer(n)}, nil
	case tFloat:
		f, err := strconv.ParseFloat(t.text, 64)
		if err != nil && f == 0 {
			return nil, syntaxf(t.line, "invalid number %q", t.text)
		}
		return &constE{line, f}, nil
	case tOp:
		switch t.text {
		case "(":
			x, err := p.tuple(tupleMode{parens: true})
			if err != nil {
				return nil, err
			}
			return x, p.op(")")
		case "[":
			items, err := p.items("]")
			return &listE{line, items}, err
		case "{":
			return p.dict(line)
		}
	}
	return nil, syntaxf(t.line, "unexpected %q", t.String())
}

// items parses expressions separated by commas, and end.
func (p *parser) items(end string) ([]expr, error) {
	var out []expr
	for !p.isOp(end) {
		if len(out) > 0 {
			if err := p.op(","); err != nil {
				return nil, err
			}
			if p.isOp(end) {
				break
			}
		}
		x, err := p.expression()
		if err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	return out, p.op(end)
}

func (p *parser) dict(line pos) (expr, error) {
	d := &dictE{pos: line}
	for !p.isOp("}") {
		if len(d.keys) > 0 {
			if err := p.op(","); err != nil {
				return nil, err
			}
			if p.isOp("}") {
				break
			}
		}
		key, err := p.expression()
		if err != nil {
			return nil, err
		}
		if err := p.op(":"); err != nil {
			return nil, err
		}
		value, err := p.expression()
		if err != nil {
			return nil, err
		}
		d.keys, d.values = append(d.keys, key), append(d.values, value)
	}
	return d, p.op("}")
}
