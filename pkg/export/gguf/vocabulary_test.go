package gguf

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"afmq/pkg/export/internal/exporttest"
	"afmq/pkg/fault"
	"afmq/pkg/model"
)

// object is a JSON object.
type object = map[string]any

func numbered(tokens []string) object {
	vocab := object{}
	for i, s := range tokens {
		vocab[s] = i
	}
	return vocab
}

// byteLevelFile is a tokenizer.json of byte-level BPE with these steps before ByteLevel.
func byteLevelFile(options object, useRegex bool, steps ...any) object {
	alphabet := []string{}
	next := rune(256)
	for b := range 256 {
		r := rune(b)
		if b <= 32 || b >= 127 && b <= 160 || b == 173 {
			r = next
			next++
		}
		alphabet = append(alphabet, string(r))
	}
	bpe := object{"type": "BPE", "vocab": numbered(append(alphabet, "th", "the")), "merges": []string{"t h", "th e"}}
	for k, v := range options {
		bpe[k] = v
	}
	steps = append(steps, object{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": useRegex})
	return object{
		"version": "1.0", "model": bpe, "pre_tokenizer": object{"type": "Sequence", "pretokenizers": steps},
		"decoder": object{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
	}
}

// visibleFile is a tokenizer.json of BPE on characters with byte tokens.
func visibleFile(change func(o object)) object {
	tokens := []string{"<unk>", "<s>", "</s>"}
	for b := range 256 {
		tokens = append(tokens, fmt.Sprintf("<0x%02X>", b))
	}
	tokens = append(tokens, "a", "b", "t", "h", "e", "▁", "th", "the", "▁the")
	o := object{
		"version": "1.0",
		"model": object{
			"type": "BPE", "vocab": numbered(tokens), "unk_token": "<unk>", "byte_fallback": true,
			"merges": []string{"t h", "th e", "▁ the"},
		},
		"normalizer": object{"type": "Sequence", "normalizers": []object{
			{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": object{"String": " "}, "content": "▁"},
		}},
		"decoder":      object{"type": "ByteFallback"},
		"added_tokens": []object{added(0, "<unk>", true), added(1, "<s>", true), added(2, "</s>", true)},
		"post_processor": object{
			"type": "TemplateProcessing", "single": []object{{"SpecialToken": object{"id": "<s>", "type_id": 0}}, {"Sequence": object{"id": "A", "type_id": 0}}},
			"special_tokens": object{"<s>": object{"id": "<s>", "ids": []int{1}, "tokens": []string{"<s>"}}},
		},
	}
	if change != nil {
		change(o)
	}
	return o
}

func added(id int, content string, special bool) object {
	return object{"id": id, "content": content, "special": special, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false}
}

// read reads a tokenizer and further files of a model with 270 rows in the embedding.
func read(t *testing.T, tokenizer object, cfg model.Config, files object) (*vocabulary, error) {
	t.Helper()
	dir := t.TempDir()
	all := object{"tokenizer.json": tokenizer}
	for name, v := range files {
		all[name] = v
	}
	for name, v := range all {
		data, err := json.Marshal(v)
		if text, ok := v.(string); ok {
			data, err = []byte(text), nil
		}
		if err != nil {
			t.Fatal(err)
		}
		exporttest.Write(t, filepath.Join(dir, name), data)
	}
	cfg.VocabSize = 270
	return readVocabulary(dir, &cfg)
}

// keysOf returns the keys of a vocabulary without the lists.
func keysOf(v *vocabulary) object {
	out := object{}
	for _, kv := range v.keys {
		switch kv.Value.(type) {
		case []string, []int32, []float32:
		default:
			out[strings.TrimPrefix(kv.Key, "tokenizer.")] = kv.Value
		}
	}
	return out
}

func list[T any](v *vocabulary, key string) []T {
	for _, kv := range v.keys {
		if x, ok := kv.Value.([]T); ok && kv.Key == "tokenizer.ggml."+key {
			return x
		}
	}
	return nil
}

func split(pattern string) object {
	return object{"type": "Split", "pattern": object{"Regex": pattern}, "behavior": "Isolated", "invert": false}
}

// Expressions of published tokenizers.
const (
	llama3Expression = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	qwen2Expression  = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	gpt2Expression   = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
)

// The names of pre-tokenizers are those that llama.cpp's converter gives to the published
// tokenizers with these pipelines; scripts/gguf_parity.py compares token ids. What has no
// counterpart is refused by name.
func TestByteLevel(t *testing.T) {
	ignore := object{"ignore_merges": true}
	digits := func(single bool) object { return object{"type": "Digits", "individual_digits": single} }
	for name, test := range map[string]struct {
		file    object
		pre     string
		note    string
		refusal string
	}{
		"GPT-2":           {file: byteLevelFile(nil, true), pre: "gpt-2"},
		"its expression":  {file: byteLevelFile(nil, false, split(gpt2Expression)), pre: "gpt-2"},
		"SmolLM":          {file: byteLevelFile(nil, true, digits(true)), pre: "smollm"},
		"Llama 3":         {file: byteLevelFile(ignore, false, split(llama3Expression)), pre: "llama-bpe"},
		"DBRX":            {file: byteLevelFile(nil, false, split(llama3Expression)), pre: "dbrx"},
		"Qwen 2":          {file: byteLevelFile(nil, false, split(qwen2Expression)), pre: "qwen2"},
		"with NFC":        {file: with(byteLevelFile(nil, false, split(qwen2Expression)), "normalizer", object{"type": "NFC"}), pre: "qwen2", note: "NFC"},
		"Qwen 2 ignoring": {file: byteLevelFile(ignore, false, split(qwen2Expression)), refusal: "Split qwen2 Isolated, ByteLevel, with ignore_merges"},
		"groups":          {file: byteLevelFile(nil, true, digits(false)), refusal: "the pre-tokenizer Digits, Split gpt-2"},
		"no expression":   {file: byteLevelFile(nil, false), refusal: "the pre-tokenizer ByteLevel"},
		"normalizer":      {file: with(byteLevelFile(nil, true), "normalizer", object{"type": "Prepend", "prepend": "x"}), refusal: `the normalizer Prepend "x"`},
		"special lstrip":  {file: with(byteLevelFile(nil, true), "added_tokens", []object{with(added(258, "<x>", true), "lstrip", true)}), pre: "gpt-2", note: "lstrip"},
		"user's rstrip":   {file: with(byteLevelFile(nil, true), "added_tokens", []object{with(added(258, "<x>", false), "rstrip", true)}), refusal: `rstrip of the added token "<x>"`},
	} {
		v, err := read(t, test.file, model.Config{EOS: []int32{257}}, nil)
		if test.refusal != "" {
			if fault.KindOf(err) != fault.Infeasible || !strings.Contains(err.Error(), test.refusal) || !strings.Contains(err.Error(), "tokenizer.json") {
				t.Errorf("%s: %v, expected a refusal of %q", name, err, test.refusal)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if v.model != "gpt2" || v.pre != test.pre || test.note == "" && len(v.notes) > 0 || !strings.Contains(strings.Join(v.notes, " "), test.note) {
			t.Errorf("%s: %s %s, notes %q", name, v.model, v.pre, v.notes)
		}
		if m := list[string](v, "merges"); !slices.Equal(m, []string{"t h", "th e"}) {
			t.Errorf("%s: merges %q", name, m)
		}
	}
}

// with returns a copy of an object with another value.
func with(o object, key string, value any) object {
	c := object{key: value}
	for k, v := range o {
		if k != key {
			c[k] = v
		}
	}
	return c
}

// Tokens, types and scores of a vocabulary with visible spaces.
func TestSentencePiece(t *testing.T) {
	v, err := read(t, visibleFile(nil), model.Config{BOS: []int32{1}, EOS: []int32{2}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := object{
		"ggml.model": "llama", "ggml.pre": "default", "ggml.add_space_prefix": true, "ggml.add_bos_token": true, "ggml.add_eos_token": false,
		"ggml.bos_token_id": uint32(1), "ggml.eos_token_id": uint32(2), "ggml.unknown_token_id": uint32(0),
	}
	if got := keysOf(v); !reflect.DeepEqual(got, want) || len(v.notes) > 0 {
		t.Errorf("keys %v, notes %q; expected %v", got, v.notes, want)
	}
	types, tokens, scores := list[int32](v, "token_type"), list[string](v, "tokens"), list[float32](v, "scores")
	for id, want := range map[int]struct {
		token string
		kind  int32
		score float32
	}{
		0: {"<unk>", 2, -3}, 1: {"<s>", 3, -3}, 3: {"<0x00>", 6, -3}, 258: {"<0xFF>", 6, -3}, 259: {"a", 1, -3},
		265: {"th", 1, 0}, 266: {"the", 1, -1}, 267: {"▁the", 1, -2}, 269: {"[PAD269]", 5, -3},
	} {
		if tokens[id] != want.token || types[id] != want.kind || scores[id] != want.score {
			t.Errorf("token %d is %q of type %d with score %v, expected %v", id, tokens[id], types[id], scores[id], want)
		}
	}
	if len(tokens) != 270 || len(types) != 270 || len(scores) != 270 {
		t.Errorf("%d tokens, %d types, %d scores", len(tokens), len(types), len(scores))
	}
}

// Pipelines with visible spaces: what is added before a text, and what is refused.
func TestSpaces(t *testing.T) {
	metaspace := func(scheme string, split bool) func(object) {
		return func(o object) {
			o["normalizer"] = nil
			o["pre_tokenizer"] = object{"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split}
		}
	}
	bpe := func(key string, value any) func(object) {
		return func(o object) { o["model"].(object)[key] = value }
	}
	for name, test := range map[string]struct {
		change  func(object)
		prefix  bool
		note    string
		refusal string
	}{
		"prepend": {nil, true, "", ""},
		"replace only": {func(o object) {
			o["normalizer"] = object{"type": "Replace", "pattern": object{"String": " "}, "content": "▁"}
		}, false, "", ""},
		"never":            {metaspace("never", false), false, "", ""},
		"first":            {metaspace("first", false), true, "adds a space", ""},
		"always, split":    {metaspace("always", true), true, "adds a space", ""},
		"no spaces":        {func(o object) { o["normalizer"] = nil }, false, "", "without a visible space"},
		"NFC":              {func(o object) { o["normalizer"] = object{"type": "NFC"} }, false, "", "NFC"},
		"crossing words":   {crossing(metaspace("first", true)), false, "", `"the▁" crosses words`},
		"other merges":     {bpe("merges", []string{"th e", "t h", "▁ the"}), true, "", ""},
		"scores disagree":  {disagreeing, false, "", "do not follow from scores"},
		"no byte fallback": {bpe("byte_fallback", false), false, "", "byte_fallback"},
		"not made":         {notMade, false, "", `no text has the token "xy"`},
		"two before":       {twoBefore, false, "", "more than one token"},
	} {
		v, err := read(t, visibleFile(test.change), model.Config{EOS: []int32{2}}, nil)
		if test.refusal != "" {
			if fault.KindOf(err) != fault.Infeasible || !strings.Contains(err.Error(), test.refusal) {
				t.Errorf("%s: %v, expected a refusal of %q", name, err, test.refusal)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := keysOf(v)["ggml.add_space_prefix"]; got != test.prefix || test.note == "" && len(v.notes) > 0 || !strings.Contains(strings.Join(v.notes, " "), test.note) {
			t.Errorf("%s: prefix %v, notes %q", name, got, v.notes)
		}
	}
}

// grow adds tokens and merges to a tokenizer.
func grow(o object, tokens, merges []string) {
	m := o["model"].(object)
	vocab := m["vocab"].(object)
	for _, s := range tokens {
		vocab[s] = len(vocab)
	}
	m["merges"] = append(slices.Clone(m["merges"].([]string)), merges...)
}

func crossing(change func(object)) func(object) {
	return func(o object) {
		change(o)
		grow(o, []string{"the▁"}, []string{"the ▁"})
	}
}

// disagreeing adds a token that llama.cpp makes of "h" and "e", and no merge does.
func disagreeing(o object) { grow(o, []string{"he"}, nil) }

func notMade(o object) { grow(o, []string{"xy"}, nil) }

func twoBefore(o object) {
	o["post_processor"].(object)["single"] = []object{
		{"SpecialToken": object{"id": "<s>", "type_id": 0}}, {"SpecialToken": object{"id": "<s>", "type_id": 0}}, {"Sequence": object{"id": "A", "type_id": 0}},
	}
}

// Special tokens of config.json and tokenizer_config.json.
func TestSpecial(t *testing.T) {
	tokenizer := with(byteLevelFile(nil, true), "added_tokens", []object{added(258, "<a>", true), added(259, "<b>", true), added(260, "<c>", false)})
	none := object{"ggml.model": "gpt2", "ggml.pre": "gpt-2", "ggml.add_bos_token": false, "ggml.add_eos_token": false}
	both := func(o object) object {
		out := object{}
		for k, v := range none {
			out[k] = v
		}
		for k, v := range o {
			out["ggml."+k+"_token_id"] = v
		}
		return out
	}
	names := object{"bos_token": "<a>", "eos_token": object{"content": "<b>", "lstrip": false}, "pad_token": "<c>", "unk_token": "absent"}
	for name, test := range map[string]struct {
		cfg   model.Config
		files object
		want  object
	}{
		"none":    {model.Config{}, nil, none},
		"config":  {model.Config{BOS: []int32{258}, EOS: []int32{259, 260, 257}}, nil, both(object{"bos": uint32(258), "eos": uint32(259), "eot": uint32(260), "eom": uint32(257)})},
		"by name": {model.Config{}, object{"tokenizer_config.json": names}, both(object{"bos": uint32(258), "eos": uint32(259), "padding": uint32(260)})},
		"config decides": {model.Config{EOS: []int32{258}}, object{"tokenizer_config.json": names},
			both(object{"bos": uint32(258), "eos": uint32(258), "padding": uint32(260)})},
	} {
		v, err := read(t, tokenizer, test.cfg, test.files)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if got := keysOf(v); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %v, expected %v", name, got, test.want)
		}
	}
	v, err := read(t, tokenizer, model.Config{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(v.notes) != 1 || !strings.Contains(v.notes[0], "llama.cpp takes token 11") {
		t.Errorf("notes %q", v.notes)
	}
	if types := list[int32](v, "token_type"); types[259] != 3 || types[260] != 4 || types[257] != 1 || types[261] != 5 {
		t.Errorf("types %v", types[256:])
	}
}

// Chat templates of all files that may have them.
func TestTemplates(t *testing.T) {
	named := []object{{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}}
	for name, test := range map[string]struct {
		files object
		want  object
	}{
		"none":          {nil, object{}},
		"a file":        {object{"chat_template.jinja": "J", "tokenizer_config.json": object{"chat_template": "C"}}, object{"chat_template": "J"}},
		"JSON":          {object{"chat_template.json": object{"chat_template": "S"}, "tokenizer_config.json": object{"chat_template": "C"}}, object{"chat_template": "S"}},
		"configuration": {object{"tokenizer_config.json": object{"chat_template": "C"}}, object{"chat_template": "C"}},
		"null":          {object{"tokenizer_config.json": object{"chat_template": nil}}, object{}},
		"several":       {object{"tokenizer_config.json": object{"chat_template": named}}, object{"chat_template": "D", "chat_template.tool_use": "T"}},
	} {
		v, err := read(t, byteLevelFile(nil, true), model.Config{}, test.files)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := object{}
		for key, value := range keysOf(v) {
			if strings.HasPrefix(key, "chat_template") {
				got[key] = value
			}
		}
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %v, expected %v", name, got, test.want)
		}
	}
	for _, bad := range []any{7, []object{{"name": "a", "template": "1"}, {"name": "a", "template": "2"}}} {
		_, err := read(t, byteLevelFile(nil, true), model.Config{}, object{"tokenizer_config.json": object{"chat_template": bad}})
		var e *fault.Error
		if !errors.As(err, &e) || e.Kind != fault.Input || filepath.Base(e.File) != "tokenizer_config.json" {
			t.Errorf("%v: %v", bad, err)
		}
	}
}
