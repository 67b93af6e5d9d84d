package jinja

// filterFunc is a filter: v is what stands before the bar.
type filterFunc func(r *run, v Value, a args) (Value, error)

var filters map[string]filterFunc

// unsupported are Jinja's filters that chat templates have no use for.
const unsupported = "filesizeformat forceescape groupby pprint random striptags truncate urlencode urlize wordcount wordwrap xmlattr"

func init() {
	filters = map[string]filterFunc{
		"tojson": tojson,

		"trim": trimFilter, "upper": textFilter("upper", upper), "lower": textFilter("lower", lower),
		"title": textFilter("title", titleWords), "capitalize": textFilter("capitalize", capitalize),
		"replace": replaceFilter, "indent": indentFilter, "center": centerFilter, "format": formatFilter,
		"string": stringFilter, "safe": safeFilter, "e": escapeFilter, "escape": escapeFilter,

		"default": defaultFilter, "d": defaultFilter, "attr": attrFilter,
		"int": intFilter, "float": floatFilter, "abs": absFilter, "round": roundFilter,

		"length": lengthFilter, "count": lengthFilter, "first": firstFilter, "last": lastFilter,
		"list": listFilter, "items": itemsFilter, "join": joinFilter, "reverse": reverseFilter,
		"sort": sortFilter, "dictsort": dictsortFilter, "unique": uniqueFilter,
		"sum": sumFilter, "max": extreme("max"), "min": extreme("min"),
		"batch": batchFilter, "slice": sliceFilter,

		"map": mapFilter, "select": selectFilter("select", true, false),
		"reject":     selectFilter("reject", false, false),
		"selectattr": selectFilter("selectattr", true, true),
		"rejectattr": selectFilter("rejectattr", false, true),
	}
}

// applyFilter applies one filter of a template to a value.
func (r *run) applyFilter(f *filterE, v Value, s *scope) (Value, error) {
	a, err := r.args(&f.argsE, s)
	if err != nil {
		return nil, err
	}
	v, err = r.filterByName(f.name, v, a)
	return v, at(f.at(), err)
}

// filter applies the filters of a block, of which the innermost is first.
func (r *run) filter(f *filterE, v Value, s *scope) (Value, error) {
	if inner, ok := f.x.(*filterE); ok {
		var err error
		if v, err = r.filter(inner, v, s); err != nil {
			return nil, err
		}
	}
	return r.applyFilter(f, v, s)
}

func (r *run) filterByName(name string, v Value, a args) (Value, error) {
	f, ok := filters[name]
	if !ok {
		if has(unsupported, name) {
			return nil, refusef("the filter %q", name)
		}
		return nil, failf("no filter named %q", name)
	}
	if err := r.step(1); err != nil {
		return nil, err
	}
	if err := r.scan(v); err != nil {
		return nil, err
	}
	return f(r, v, a)
}

func defaultFilter(r *run, v Value, a args) (Value, error) {
	p, err := a.bind("default", "default_value", "boolean")
	if err != nil {
		return nil, err
	}
	_, undefined := v.(*Undefined)
	if undefined || p[1] != missing && truth(p[1]) && !truth(v) {
		if p[0] == missing {
			return "", nil
		}
		return p[0], nil
	}
	return v, nil
}

func attrFilter(r *run, v Value, a args) (Value, error) {
	p, err := a.bindText("attr", "name")
	if err != nil {
		return nil, err
	}
	if _, ok := v.(*Undefined); ok {
		return nil, refusef("the filter %q of an undefined value", "attr")
	}
	found, ok, err := r.pyAttribute(v, p[0])
	if !ok && err == nil {
		return noAttribute(v, p[0]), nil
	}
	return found, err
}

func lengthFilter(r *run, v Value, a args) (Value, error) {
	if _, err := a.bind("length"); err != nil {
		return nil, err
	}
	n, ok := length(v)
	if !ok {
		return nil, failf("object of type %q has no len()", typeName(v))
	}
	return int64(n), nil
}

func length(v Value) (int, bool) {
	switch v := v.(type) {
	case string:
		return len([]rune(v)), true
	case Markup:
		return len([]rune(v)), true
	case *Undefined:
		return 0, true
	case *List:
		return len(v.Items), true
	case *Tuple:
		return len(v.Items), true
	case *Dict:
		return v.Len(), true
	case *view:
		return len(v.items), true
	case *loop:
		return len(v.items), true
	}
	return 0, false
}
