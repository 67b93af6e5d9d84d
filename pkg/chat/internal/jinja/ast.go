package jinja

// pos is the line of a node.
type pos int

func (p pos) at() int { return int(p) }

// expr is an expression.
type expr interface{ at() int }

type (
	constE struct {
		pos
		v Value
	}
	nameE struct {
		pos
		name string
	}
	nsE struct { // a target only: namespace.attribute
		pos
		ns, attr string
	}
	attrE struct {
		pos
		x    expr
		name string
	}
	itemE struct {
		pos
		x, arg expr
	}
	sliceE struct { // an argument of itemE only; each part may be nil
		pos
		start, stop, step expr
	}
	callE struct {
		pos
		fn expr
		argsE
	}
	filterE struct {
		pos
		x    expr // nil in a filter block
		name string
		argsE
	}
	testE struct {
		pos
		x    expr
		name string
		argsE
	}
	unaryE struct {
		pos
		op string // "-", "+" or "not"
		x  expr
	}
	binaryE struct {
		pos
		op   string
		l, r expr
	}
	logicE struct {
		pos
		or   bool
		l, r expr
	}
	compareE struct {
		pos
		first expr
		rest  []operand
	}
	concatE struct {
		pos
		items []expr
	}
	condE struct {
		pos
		test, then, otherwise expr // otherwise may be nil
	}
	listE struct {
		pos
		items []expr
	}
	tupleE struct {
		pos
		items []expr
	}
	dictE struct {
		pos
		keys, values []expr
	}
)

// operand is one step of a chain of comparisons.
type operand struct {
	op string
	x  expr
}

// argsE are the arguments of a call.
type argsE struct {
	list         []expr
	names        []string // of the keyword arguments
	values       []expr
	spread, dict expr // *args and **kwargs; may be nil
}

// stmt is a statement.
type stmt interface{ at() int }

type (
	dataS struct {
		pos
		text string
	}
	printS struct {
		pos
		x expr
	}
	ifS struct {
		pos
		tests     []expr
		bodies    [][]stmt
		otherwise []stmt
	}
	forS struct {
		pos
		target    expr
		iter      expr
		test      expr // may be nil
		recursive bool
		body      []stmt
		otherwise []stmt
	}
	setS struct {
		pos
		target, value expr
	}
	setBlockS struct {
		pos
		target expr
		filter *filterE // may be nil
		body   []stmt
	}
	macroS struct {
		pos
		macroDef
	}
	callS struct {
		pos
		caller macroDef
		call   *callE
	}
	filterS struct {
		pos
		filter *filterE
		body   []stmt
	}
	withS struct {
		pos
		targets, values []expr
		body            []stmt
	}
	generationS struct {
		pos
		body []stmt
	}
	jumpS struct {
		pos
		err error // errBreak or errContinue
	}
)

// macroDef is what a macro, or the body of a call block, consists of.
type macroDef struct {
	name     string
	params   []string
	defaults []expr // of the last parameters
	body     []stmt
	// Which of Jinja's own parameters the body names.
	caller, varargs, kwargs bool
}

func (m *macroDef) use(name string) {
	switch name {
	case "caller":
		m.caller = true
	case "varargs":
		m.varargs = true
	case "kwargs":
		m.kwargs = true
	}
}
