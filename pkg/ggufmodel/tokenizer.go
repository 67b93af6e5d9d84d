package ggufmodel

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"afmq/pkg/fault"
	"afmq/pkg/gguf"
	"afmq/pkg/tokenizer"
)

// Tokenizer returns the tokenizer of the file: that of [Model.TokenizerJSON]. The embedding has a
// row for every token. Errors are of kind [fault.Input].
func (m *Model) Tokenizer() (*tokenizer.Tokenizer, error) {
	data, err := m.TokenizerJSON()
	if err != nil {
		return nil, err
	}
	t, err := tokenizer.Parse(m.File.Path(), data)
	if err != nil {
		return nil, err
	}
	if id := t.MaxID(); int(id) >= m.Config.VocabSize {
		return nil, fault.Inputf(m.File.Path(), "token %d has no row in the embedding, which has %d", id, m.Config.VocabSize)
	}
	return t, nil
}

// vocabulary is the tokenizer as the file describes it.
type vocabulary struct {
	keys   keys // with the prefix "tokenizer.ggml."
	tokens []string
	types  []int32
	kind   string   // "gpt2" or "llama"
	bos    tokenEnd // added before a text
	eos    tokenEnd // added after one
	left   []bool   // tokens that no text has
}

// tokenEnd is a token that may be added at an end of a text.
type tokenEnd struct {
	id  int32 // -1 for none
	add bool
}

// readVocabulary reads tokens, their types and the special ones.
func readVocabulary(f *gguf.File) (*vocabulary, error) {
	v := &vocabulary{keys: keys{file: f, prefix: "tokenizer.ggml."}}
	v.kind = v.keys.string("model", "")
	if v.keys.err != nil {
		return nil, v.keys.err
	}
	if v.kind != ByteLevel && v.kind != SentencePiece {
		return nil, fault.Inputf(f.Path(), "key %q is %q; supported are %s and %s", "tokenizer.ggml.model", v.kind, ByteLevel, SentencePiece)
	}
	var err error
	if v.tokens, err = gguf.Get[[]string](f, "tokenizer.ggml.tokens"); err != nil {
		return nil, err
	}
	for i, s := range v.tokens {
		if !utf8.ValidString(s) {
			v.keys.fail("tokens", "has token %d, which is not valid UTF-8", i)
			return nil, v.keys.err
		}
	}
	if err := v.readTypes(f); err != nil {
		return nil, err
	}
	v.left = make([]bool, len(v.tokens))
	for i, s := range v.tokens {
		v.left[i] = s == "" || v.types[i] == UnusedToken
	}
	return v, nil
}

// readTypes reads the types of the tokens. Without them all are normal but those that a key names.
func (v *vocabulary) readTypes(f *gguf.File) error {
	if v.keys.has("token_type") {
		types, err := gguf.Get[[]int32](f, "tokenizer.ggml.token_type")
		if err == nil && len(types) < len(v.tokens) {
			v.keys.fail("token_type", "has %d elements; there are %d tokens", len(types), len(v.tokens))
			err = v.keys.err
		}
		v.types = types
		return err
	}
	v.types = slices.Repeat([]int32{NormalToken}, len(v.tokens))
	for _, name := range []string{"bos", "eos", "eot", "eom", "unknown", "padding"} {
		if id, ok := v.keys.id(name+"_token_id", len(v.tokens)); ok {
			v.types[id] = ControlToken
		}
	}
	return v.keys.err
}

// readEnds reads which tokens are added before and after a text. Where the file does not say it,
// they are those of llama.cpp.
func (v *vocabulary) readEnds(addBOS bool, bos, eos int32) {
	end := func(name string, add bool, id int32) tokenEnd {
		if given, ok := v.keys.id(name+"_token_id", len(v.tokens)); ok {
			id = given
		}
		e := tokenEnd{id, v.keys.bool("add_"+name+"_token", add)}
		if e.add && int(id) >= len(v.tokens) {
			v.keys.fail("add_"+name+"_token", "is true, and no token is named")
		}
		return e
	}
	v.bos, v.eos = end("bos", addBOS, bos), end("eos", false, eos)
}

// part is a JSON object of a tokenizer.json.
type part map[string]any

// TokenizerJSON returns the tokenizer.json that the file's keys amount to. Equal keys give equal
// bytes. Errors are of kind [fault.Input].
func (m *Model) TokenizerJSON() ([]byte, error) {
	v, err := readVocabulary(m.File)
	if err != nil {
		return nil, err
	}
	file := part{"version": "1.0", "truncation": nil, "padding": nil}
	if v.kind == ByteLevel {
		err = v.byteLevel(file)
	} else {
		err = v.sentencePiece(file)
	}
	if err != nil {
		return nil, err
	}
	file["added_tokens"] = v.added()
	file["post_processor"] = v.template()
	if v.keys.err != nil {
		return nil, v.keys.err
	}
	return encode(file), nil
}

// added lists the tokens that are matched in the text.
func (v *vocabulary) added() []part {
	list := []part{}
	for i, s := range v.tokens {
		t := v.types[i]
		if v.left[i] || t != ControlToken && t != UserToken && t != UnknownToken {
			continue
		}
		list = append(list, part{
			"id": i, "content": s, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": t != UserToken,
		})
	}
	return list
}

// template returns the post-processor; nil if no token is added.
func (v *vocabulary) template() any {
	single, special := []part{}, part{}
	token := func(e tokenEnd) {
		if e.add && v.keys.err == nil {
			// Two tokens of one text are refused with the vocabulary, so that the id may be a name.
			name := strconv.Itoa(int(e.id))
			single = append(single, part{"SpecialToken": part{"id": name, "type_id": 0}})
			special[name] = part{"id": name, "ids": []int32{e.id}, "tokens": []string{v.tokens[e.id]}}
		}
	}
	token(v.bos)
	single = append(single, part{"Sequence": part{"id": "A", "type_id": 0}})
	token(v.eos)
	if len(single) == 1 {
		return nil
	}
	return part{"type": "TemplateProcessing", "single": single, "pair": []part{}, "special_tokens": special}
}

// vocab returns the object of tokens and ids, in the order of the ids.
func (v *vocabulary) vocab() json.RawMessage {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, s := range v.tokens {
		if v.left[i] {
			continue
		}
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		b.Write(encode(s))
		b.WriteByte(':')
		b.WriteString(strconv.Itoa(i))
	}
	b.WriteByte('}')
	return b.Bytes()
}

// byteLevel describes byte-level BPE.
func (v *vocabulary) byteLevel(file part) error {
	name := v.keys.string("pre", "")
	i := slices.IndexFunc(preTokenizers, func(p preTokenizer) bool { return slices.Contains(p.names, name) })
	if i < 0 && v.keys.err == nil {
		if !v.keys.has("pre") {
			v.keys.fail("pre", "is missing; the pre-tokenizer is not known")
		} else {
			v.keys.fail("pre", "is %q, a pre-tokenizer that is not supported", name)
		}
	}
	if v.keys.err != nil {
		return v.keys.err
	}
	pre := &preTokenizers[i]
	v.readEnds(pre.addBOS, 11, 11)
	merges, err := gguf.Get[[]string](v.keys.file, "tokenizer.ggml.merges")
	if err != nil {
		return err
	}
	pairs := make([][2]string, len(merges))
	for i, s := range merges {
		// A token may begin with a space.
		at := -1
		if s != "" {
			at = strings.IndexByte(s[1:], ' ')
		}
		if at < 0 || !utf8.ValidString(s) {
			v.keys.fail("merges", "has element %d, which is not a pair of tokens", i)
			return v.keys.err
		}
		pairs[i] = [2]string{s[:1+at], s[2+at:]}
	}
	v.keep(pairs)
	file["pre_tokenizer"] = pre.object()
	file["decoder"] = part{"type": "ByteLevel"}
	file["model"] = part{"type": "BPE", "ignore_merges": pre.ignoreMerges, "vocab": v.vocab(), "merges": pairs}
	return nil
}

// keep keeps tokens that merges need, although the file marks them as unused.
func (v *vocabulary) keep(pairs [][2]string) {
	unused := map[string]int{}
	for i, s := range v.tokens {
		if v.left[i] && s != "" {
			unused[s] = i
		}
	}
	if len(unused) == 0 {
		return
	}
	for _, p := range pairs {
		for _, s := range [3]string{p[0], p[1], p[0] + p[1]} {
			if i, ok := unused[s]; ok {
				v.left[i] = false
			}
		}
	}
}

// object returns the pre_tokenizer of a tokenizer.json.
func (p *preTokenizer) object() part {
	expression, _ := tokenizer.Expression(p.expression)
	var steps []part
	if p.digits {
		steps = append(steps, part{"type": "Digits", "individual_digits": true})
	}
	steps = append(steps,
		part{"type": "Split", "pattern": part{"Regex": expression}, "behavior": "Isolated", "invert": false},
		part{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false})
	return part{"type": "Sequence", "pretokenizers": steps}
}

// encode returns the JSON of a value whose strings are valid UTF-8.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic("ggufmodel: " + err.Error()) // strings, numbers and objects of them can be encoded
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
