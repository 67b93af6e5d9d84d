package chat

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"afmq/pkg/fault"
)

// Message is a message of a conversation. Decoded from JSON it has all keys of the object; made
// in Go it needs Role and Content only.
type Message struct {
	Role    string // "system", "user", "assistant", "tool" or another that the template knows
	Content string // the text; see Parts
	// Parts are the texts of a content that is a list of text parts. Content is not passed then.
	Parts            []string
	ReasoningContent string            // what a reasoning model thought before Content
	Name             string            // of the participant or the tool
	ToolCalls        []json.RawMessage // of an assistant: objects {"id", "type", "function"}
	ToolCallID       string            // of a tool's message: which call it answers
	Extra            []Field           // all other keys

	keys []string // of the JSON object, in its order
}

// Field is a key of a message beyond those that [Message] has fields for.
type Field struct {
	Name  string
	Value json.RawMessage
}

// UnmarshalJSON decodes an object. Errors are of kind [fault.Usage] and name the key.
func (m *Message) UnmarshalJSON(data []byte) error {
	fields, err := objectFields(data)
	if err != nil {
		return fault.Usagef("a message is not a JSON object: %v", err)
	}
	*m = Message{}
	for _, f := range fields {
		if string(f.Value) == "null" || slices.Contains(m.keys, f.Name) {
			continue
		}
		m.keys = append(m.keys, f.Name)
		switch f.Name {
		case "role":
			err = json.Unmarshal(f.Value, &m.Role)
		case "content":
			err = m.setContent(f.Value)
		case "reasoning_content":
			err = json.Unmarshal(f.Value, &m.ReasoningContent)
		case "name":
			err = json.Unmarshal(f.Value, &m.Name)
		case "tool_call_id":
			err = json.Unmarshal(f.Value, &m.ToolCallID)
		case "tool_calls":
			err = json.Unmarshal(f.Value, &m.ToolCalls)
		default:
			m.Extra = append(m.Extra, f)
		}
		if err != nil {
			if fault.KindOf(err) == fault.Usage {
				return err
			}
			return fault.Usagef("key %q of a message has a value of another type than expected", f.Name)
		}
	}
	if m.Role == "" {
		return fault.Usagef("a message has no role")
	}
	return nil
}

// setContent decodes a text or a list of parts.
func (m *Message) setContent(raw json.RawMessage) error {
	if raw[0] != '[' {
		return json.Unmarshal(raw, &m.Content)
	}
	var parts []json.RawMessage
	if err := json.Unmarshal(raw, &parts); err != nil {
		return err
	}
	m.Parts = []string{}
	for i, raw := range parts {
		var part struct {
			Type string  `json:"type"`
			Text *string `json:"text"`
		}
		if json.Unmarshal(raw, &part) != nil {
			return fault.Usagef("content[%d] of a message is not an object with a type", i)
		}
		if part.Type != "text" {
			return fault.Usagef("content[%d] of a message is of type %q; models here read text only", i, part.Type)
		}
		if part.Text == nil {
			return fault.Usagef("content[%d] of a message has no text", i)
		}
		m.Parts = append(m.Parts, *part.Text)
	}
	return nil
}

// MarshalJSON encodes the object that a template gets, before reasoning is passed under other
// names.
func (m Message) MarshalJSON() ([]byte, error) {
	fields, err := m.fields()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	for i, f := range fields {
		b.WriteByte("{,"[min(i, 1)])
		name, err := json.Marshal(f.Name)
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(f.Value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// fields lists the keys and values of the message in order: that of its JSON, then that of the
// struct. Content is among them unless the message has none: made in Go without Content but
// with ToolCalls, or decoded from an object without one.
func (m Message) fields() ([]Field, error) {
	own := []struct {
		name  string
		value any
		set   bool
	}{
		{"role", m.Role, true},
		{"content", m.content(), m.Content != "" || m.Parts != nil || m.keys == nil && m.ToolCalls == nil},
		{"reasoning_content", m.ReasoningContent, m.ReasoningContent != ""},
		{"name", m.Name, m.Name != ""},
		{"tool_calls", m.ToolCalls, m.ToolCalls != nil},
		{"tool_call_id", m.ToolCallID, m.ToolCallID != ""},
	}
	var out []Field
	for _, o := range own {
		if !o.set && !slices.Contains(m.keys, o.name) {
			continue
		}
		raw, err := json.Marshal(o.value)
		if err != nil {
			return nil, fmt.Errorf("encoding %q of a message: %w", o.name, err)
		}
		out = append(out, Field{o.name, raw})
	}
	out = append(out, m.Extra...)
	place := func(f Field) int {
		if i := slices.Index(m.keys, f.Name); i >= 0 {
			return i
		}
		return len(m.keys)
	}
	slices.SortStableFunc(out, func(a, b Field) int { return place(a) - place(b) })
	return out, nil
}

// part is an element of a list of contents.
type part struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

func (m Message) content() any {
	if m.Parts == nil {
		return m.Content
	}
	list := make([]part, len(m.Parts))
	for i, s := range m.Parts {
		list[i] = part{"text", s}
	}
	return list
}
