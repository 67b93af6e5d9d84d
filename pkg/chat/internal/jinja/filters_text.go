package jinja

import (
	"strings"
)

// textFilter is a filter that makes a str of its value first.
func textFilter(name string, f func(s string) (string, error)) filterFunc {
	return func(r *run, v Value, a args) (Value, error) {
		if _, err := a.bind(name); err != nil {
			return nil, err
		}
		s, err := r.str(v)
		if err != nil {
			return nil, err
		}
		if err := r.alloc(len(s)); err != nil {
			return nil, err
		}
		s, err = f(s)
		return like(v, s), err
	}
}

// like gives s the type of v if that is Markup.
func like(v Value, s string) Value {
	if _, ok := v.(Markup); ok {
		return Markup(s)
	}
	return s
}

func trimFilter(r *run, v Value, a args) (Value, error) {
	if len(a.names) == 1 && a.names[0] == "chars" { // the method has no name for it
		a = args{list: append(a.list, a.values[0])}
	}
	s, err := r.str(v)
	if err != nil {
		return nil, err
	}
	out, err := stringMethods["strip"](r, s, a)
	if err != nil {
		return nil, err
	}
	return like(v, out.(string)), nil
}

func replaceFilter(r *run, v Value, a args) (Value, error) {
	p, err := a.bind("replace", "old", "new", "count")
	if err != nil {
		return nil, err
	}
	s, err := r.str(v)
	if err != nil {
		return nil, err
	}
	for _, v := range []Value{v, p[0], p[1]} {
		if _, ok := v.(Markup); ok {
			return nil, refusef("the filter %q with Markup", "replace")
		}
	}
	if p[0] == missing || p[1] == missing {
		return nil, failf("replace takes two arguments")
	}
	for i := range 2 { // jinja2 passes them to soft_str
		if p[i], err = r.str(p[i]); err != nil {
			return nil, err
		}
	}
	return r.replace(s, p)
}

func indentFilter(r *run, v Value, a args) (Value, error) {
	p, err := a.bind("indent", "width", "first", "blank")
	if err != nil {
		return nil, err
	}
	s, ok := v.(string)
	if !ok {
		if _, markup := v.(Markup); markup {
			return nil, refusef("the filter %q with Markup", "indent")
		}
		return nil, failf("the filter %q needs a str, not %s", "indent", typeName(v))
	}
	dent, ok := p[0].(string)
	if !ok {
		n := int64(4)
		if p[0] != missing {
			if n, ok = number(p[0]); !ok {
				return nil, failf("indent: the width is not an integer")
			}
		}
		if err := r.alloc(int(max(0, min(n, 1<<40)))); err != nil {
			return nil, err
		}
		dent = strings.Repeat(" ", int(max(0, n)))
	}
	first := p[1] != missing && truth(p[1])
	blank := p[2] != missing && truth(p[2])
	all := lines(s+"\n", false)
	if err := r.alloc(len(s) + times(len(all), len(dent))); err != nil {
		return nil, err
	}
	for i, line := range all {
		if i > 0 && (blank || line != "") || i == 0 && first {
			all[i] = dent + line
		}
	}
	return r.join(all, "\n")
}

func centerFilter(r *run, v Value, a args) (Value, error) {
	s, err := r.str(v)
	if err != nil {
		return nil, err
	}
	if len(a.list)+len(a.names) == 0 {
		a.list = []Value{int64(80)}
	}
	return stringMethods["center"](r, s, a)
}

func formatFilter(r *run, v Value, a args) (Value, error) {
	if len(a.names) > 0 {
		return nil, refusef("the filter %q with names", "format")
	}
	s, ok := v.(string)
	if !ok {
		return nil, refusef("the filter %q of a value of type %s", "format", typeName(v))
	}
	return r.percent(s, &Tuple{Items: a.list})
}

func stringFilter(r *run, v Value, a args) (Value, error) {
	if _, err := a.bind("string"); err != nil {
		return nil, err
	}
	s, err := r.str(v)
	return like(v, s), err
}

func safeFilter(r *run, v Value, a args) (Value, error) {
	if _, err := a.bind("safe"); err != nil {
		return nil, err
	}
	s, err := r.str(v)
	return Markup(s), err
}

func escapeFilter(r *run, v Value, a args) (Value, error) {
	if _, err := a.bind("escape"); err != nil {
		return nil, err
	}
	if _, ok := v.(Markup); ok {
		return v, nil
	}
	s, err := r.str(v)
	if err != nil {
		return nil, err
	}
	if err := r.alloc(5 * len(s)); err != nil {
		return nil, err
	}
	return Markup(escapeHTML(s)), nil
}

var htmlEscapes = strings.NewReplacer("&", "&amp;", ">", "&gt;", "<", "&lt;", "'", "&#39;", `"`, "&#34;")

func escapeHTML(s string) string { return htmlEscapes.Replace(s) }
