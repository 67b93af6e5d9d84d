package sensitivity

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/model"
)

// Override sets the bits of all modules whose name matches Pattern, a regular expression
// (RE2). It may match any part of a module name such as "model.layers.0.self_attn.q_proj";
// ^ and $ anchor it. A number ends with \. : layers\.1\. is layer 1, layers\.1 also matches
// layers 10 to 19.
//
// Bits is 1 to 8, or 16, which keeps the matrix unquantized in the type of the checkpoint.
// Without an override, the embedding and an untied head are stored as int8 rows, unless a plan for a
// budget of the whole model chooses otherwise.
//
// On a grid that is no palette, Form may name the form of the matrix instead, and Bits is 0 then. On
// affine and integer grids, Bits alone are those of the same grid.
type Override struct {
	Pattern string
	Bits    int
	Form    artifact.Form `json:"Form,omitempty"` // such as q6_k or affine8_g64, or empty
}

// ParseOverride parses "REGEX=BITS" or "REGEX=FORM", with the name of a form such as q6_k or
// affine8_g64, split at the last equals sign. Errors are fault.Usage.
func ParseOverride(s string) (Override, error) {
	i := strings.LastIndexByte(s, '=')
	if i <= 0 {
		return Override{}, fault.Usagef("override %q: expected REGEX=BITS or REGEX=TYPE, for example 'down_proj=8'", s)
	}
	o := Override{Pattern: s[:i]}
	value := strings.TrimSpace(s[i+1:])
	if form := artifact.Form(strings.ToLower(value)); form.OnGrid() {
		o.Form = form
	} else if bits, err := strconv.Atoi(value); err == nil {
		o.Bits = bits
	} else {
		return Override{}, fault.Usagef("override %q: %q is neither a number of bits nor a type such as q6_k", s, s[i+1:])
	}
	_, err := o.compile()
	return o, err
}

func (o Override) String() string {
	if o.Form != "" {
		return o.Pattern + "=" + string(o.Form)
	}
	return o.Pattern + "=" + strconv.Itoa(o.Bits)
}

// OverrideTexts returns the overrides as [ParseOverride] reads them, nil for none.
func OverrideTexts(list []Override) []string {
	var out []string
	for _, o := range list {
		out = append(out, o.String())
	}
	return out
}

// Check returns an error of kind fault.Usage if the pattern or the bits are invalid.
func (o Override) Check() error {
	_, err := o.compile()
	return err
}

func (o Override) compile() (*regexp.Regexp, error) {
	if o.Form != "" {
		if !o.Form.OnGrid() || o.Bits != 0 {
			return nil, fault.Usagef("override %q: %q is not a type such as q6_k", o, o.Form)
		}
	} else if (o.Bits < 1 || o.Bits > 8) && o.Bits != artifact.KeepBits {
		return nil, fault.Usagef("override %q: bits must be 1 to 8, or 16 to keep a matrix unquantized", o)
	}
	re, err := regexp.Compile(o.Pattern)
	if err != nil {
		return nil, fault.Usagef("override %q: %v", o, err)
	}
	return re, nil
}

// Width is the stored form of one matrix.
type Width struct {
	Form artifact.Form
	Bits int // of an index or a code; 0 for other forms than palettes and grids
}

func (w Width) String() string {
	if w.Form == artifact.Palette {
		return strconv.Itoa(w.Bits) + " bit palette"
	}
	return string(w.Form)
}

// Widths returns the width of every matrix of the model, by module name: palettes of the
// given bits for projections, int8 rows for the embedding and an untied head, and the bits of
// the last matching override. Errors are fault.Usage.
func Widths(cfg *model.Config, bits int, overrides []Override) (map[string]Width, error) {
	widths := map[string]Width{}
	var modules []string // that an override can match, in canonical order
	head := false
	for _, spec := range cfg.Tensors() {
		name := spec.Module()
		switch spec.Role {
		case model.Projection:
			widths[name] = Width{artifact.Palette, bits}
			modules = append(modules, name)
		case model.Head:
			widths[name] = Width{Form: artifact.RowInt8}
			modules = append(modules, name)
			head = true
		case model.Embedding:
			widths[name] = Width{Form: artifact.RowInt8}
			modules = append(modules, name)
		}
	}
	for _, o := range overrides {
		re, err := o.compile()
		if err != nil {
			return nil, err
		}
		if o.Form != "" {
			return nil, fault.Usagef("override %q: a palette has a number of bits", o).
				WithHint("a type such as q6_k belongs to --grid gguf")
		}
		hit := false
		for _, name := range modules {
			if !re.MatchString(name) {
				continue
			}
			hit = true
			if o.Bits == artifact.KeepBits {
				widths[name] = Width{Form: artifact.Plain}
			} else {
				widths[name] = Width{artifact.Palette, o.Bits}
			}
		}
		if hit {
			continue
		}
		return nil, noMatch(o, re, modules, head)
	}
	return widths, nil
}

// noMatch is the error of an override that matches none of the modules. head says whether the model
// has a head of its own.
func noMatch(o Override, re *regexp.Regexp, modules []string, head bool) error {
	if !head && re.MatchString("lm_head") {
		return fault.Usagef("override %q: the head of this model shares the embedding's weights", o).
			WithHint("override model.embed_tokens instead, which is both")
	}
	return fault.Usagef("override %q matches no module; the nearest names are %s", o,
		strings.Join(nearest(o.Pattern, modules, 3), ", "))
}

// nearest returns the n names that contain the best approximate match of the pattern, taken
// as plain text, by edit distance. Names of equal distance keep their order.
func nearest(pattern string, names []string, n int) []string {
	plain := strings.Map(func(r rune) rune {
		if strings.ContainsRune(`\^$()[]{}*+?|`, r) {
			return -1
		}
		return r
	}, pattern)
	if len(plain) > 200 {
		plain = plain[:200]
	}
	sorted := slices.Clone(names)
	dist := make(map[string]int, len(names))
	for _, name := range names {
		dist[name] = partDistance(plain, name)
	}
	slices.SortStableFunc(sorted, func(a, b string) int { return dist[a] - dist[b] })
	return sorted[:min(n, len(sorted))]
}

// partDistance returns the least edit distance between p and a substring of s (Sellers,
// "The theory and computation of evolutionary distances: pattern recognition", Journal of
// Algorithms 1, 1980: the row of the empty prefix of p is zero).
func partDistance(p, s string) int {
	row := make([]int, len(s)+1)
	for i := 1; i <= len(p); i++ {
		diag := row[0]
		row[0] = i
		for j := 1; j <= len(s); j++ {
			change := diag
			if p[i-1] != s[j-1] {
				change++
			}
			diag = row[j]
			row[j] = min(change, row[j]+1, row[j-1]+1)
		}
	}
	return slices.Min(row)
}
