package tokenizer

import "encoding/json"

// surround has the tokens that the post-processor adds before and after a text.
type surround struct{ before, after []int32 }

// parse reads the post-processor at o. set reports whether a template was read before.
func (s *surround) parse(o *object, set *bool, depth int) error {
	kind, err := o.str("type")
	if err != nil {
		return err
	}
	switch kind {
	case "ByteLevel": // changes offsets only
		return nil
	case "Sequence":
		if depth == maxNesting {
			return o.errorf("is nested more than %d levels deep", maxNesting)
		}
		list, err := o.objects("processors", maxSteps)
		if err != nil {
			return err
		}
		for _, p := range list {
			if err := s.parse(p, set, depth+1); err != nil {
				return err
			}
		}
		return nil
	case "TemplateProcessing":
		if *set {
			return o.errorf("is not supported: a second TemplateProcessing")
		}
		*set = true
		return s.parseTemplate(o)
	}
	return o.errorf("is not supported: post-processor %q", kind)
}

// parseTemplate reads the template for a single sequence.
func (s *surround) parseTemplate(o *object) error {
	pieces, err := o.objects("single", maxSteps)
	if err != nil {
		return err
	}
	special, err := o.object("special_tokens")
	if err != nil {
		return err
	}
	seen := false
	for _, p := range pieces {
		if p.has("Sequence") {
			q, err := p.object("Sequence")
			if err != nil {
				return err
			}
			id, err := q.str("id")
			if err != nil {
				return err
			}
			if id != "A" || seen {
				return p.errorf("is not supported: a template for one sequence that does not contain the sequence exactly once")
			}
			seen = true
			continue
		}
		q, err := p.object("SpecialToken")
		if err != nil {
			return err
		}
		ids, err := specialIDs(q, special)
		if err != nil {
			return err
		}
		if seen {
			s.after = append(s.after, ids...)
		} else {
			s.before = append(s.before, ids...)
		}
	}
	if !seen {
		return o.errorf("is not supported: a template for one sequence that does not contain the sequence exactly once")
	}
	return nil
}

// specialIDs returns the ids in special_tokens of the template's piece q.
func specialIDs(q, special *object) ([]int32, error) {
	name, err := q.str("id")
	if err != nil {
		return nil, err
	}
	if !special.has(name) {
		return nil, q.errorf("uses %s, which is not in special_tokens", quote(name))
	}
	e, err := special.object(name)
	if err != nil {
		return nil, err
	}
	var raws []json.RawMessage
	if err := e.get("ids", &raws); err != nil {
		return nil, err
	}
	ids := make([]int32, len(raws))
	for i, raw := range raws {
		if ids[i], err = e.id(quote(name), raw); err != nil {
			return nil, err
		}
	}
	return ids, nil
}
