package jinja

// The budgets of one rendering, which grow with the size of the input. Of 126 templates of models,
// the most demanding take 17 million steps and 65 MB for 2,000 messages of a few words. A step takes
// about 50 ns, and a server renders what its clients send.
const (
	minSteps = 2_000_000   // nodes evaluated, items visited, and 64 bytes of text scanned
	maxSteps = 20_000_000  // of an input that is as long as 2,000 messages
	maxBytes = 128_000_000 // text made and 16 bytes an item of lists made, in all
	maxDepth = 3000        // expressions and statements being evaluated inside each other
	maxCalls = 150         // macros being called inside each other
	maxRange = 100_000     // items of a range, as in jinja2's sandbox

	stepsPerByte = 16  // of any input
	moreSteps    = 400 // of each byte up to maxSteps
	bytesPerByte = 64
)

type budget struct {
	steps, bytes int
	depth, calls int
}

// step charges n units of work.
func (b *budget) step(n int) error {
	b.steps -= n
	if b.steps < 0 || n < 0 {
		return &Error{Limit, 0, "the template takes too many steps"}
	}
	return nil
}

// alloc charges n bytes before they are made. Work is in proportion.
func (b *budget) alloc(n int) error {
	b.bytes -= n
	if b.bytes < 0 || n < 0 {
		return &Error{Limit, 0, "the template makes too much text"}
	}
	return b.step(n / 64)
}

// allocItems charges a list of n items.
func (b *budget) allocItems(n int) error {
	if n > maxBytes/16 {
		n = maxBytes
	}
	if err := b.step(n); err != nil {
		return err
	}
	return b.alloc(16 * n)
}

// scan charges the reading of a value: the length of a text or list.
func (b *budget) scan(v Value) error {
	switch v := v.(type) {
	case string:
		return b.step(len(v) / 64)
	case Markup:
		return b.step(len(v) / 64)
	case *List:
		return b.step(len(v.Items))
	case *Tuple:
		return b.step(len(v.Items))
	case *Dict:
		return b.step(v.Len())
	case *view:
		return b.step(len(v.items))
	case *iterator:
		return b.step(len(v.left))
	}
	return nil
}

func (b *budget) enter() error {
	b.depth++
	if b.depth > maxDepth {
		return &Error{Limit, 0, "the template nests too deep"}
	}
	return b.step(1)
}

func (b *budget) leave() { b.depth-- }

// times returns a*b for non-negative numbers, or a number beyond every budget.
func times(a, b int) int {
	if a < 0 || b < 0 {
		return 0
	}
	if a != 0 && b > (1<<40)/a {
		return 1 << 40
	}
	return a * b
}
