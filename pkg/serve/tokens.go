package serve

import (
	"encoding/json"
	"net/http"
	"strings"
)

// tokenizeRequest is the body of POST /tokenize: a text or a conversation.
type tokenizeRequest struct {
	conversation
	Model            string  `json:"model"`
	Prompt           *string `json:"prompt"`
	AddSpecialTokens *bool   `json:"add_special_tokens"` // default true; a template adds its own
	ReturnTokenStrs  bool    `json:"return_token_strs"`
}

type tokenizeReply struct {
	Count       int      `json:"count"`
	MaxModelLen int      `json:"max_model_len"`
	Tokens      []int32  `json:"tokens"`
	TokenStrs   []string `json:"token_strs"` // their forms in the tokenizer's file; null unless they are wanted
}

// tokenize answers POST /tokenize.
func (s *Server) tokenize(w http.ResponseWriter, r *http.Request) error {
	var q tokenizeRequest
	if err := s.decode(w, r, &q); err != nil {
		return err
	}
	m, _, err := s.named(q.Model)
	if err != nil {
		return err
	}
	release, err := s.turn(r)
	if err != nil {
		return err
	}
	defer release()
	var ids []int32
	switch {
	case q.Prompt != nil && q.Messages != nil:
		return invalid("", "the request has both prompt and messages")
	case q.Prompt != nil && (q.Tools != nil || q.AddGenerationPrompt != nil || q.ContinueFinalMessage || q.Variables != nil):
		return invalid("", "tools, add_generation_prompt, continue_final_message and chat_template_kwargs need messages")
	case q.Messages != nil && q.AddSpecialTokens != nil && *q.AddSpecialTokens:
		return invalid("add_special_tokens", "add_special_tokens has no meaning with messages: the chat template adds special tokens")
	case q.Prompt != nil:
		ids = m.Tokenizer.Encode(*q.Prompt, q.AddSpecialTokens == nil || *q.AddSpecialTokens).IDs
	case q.Messages != nil:
		p, err := q.conversation.encode(s, m.Tokenizer)
		if err != nil {
			return err
		}
		ids = p.ids
	default:
		return invalid("prompt", "prompt is missing")
	}
	out := tokenizeReply{Count: len(ids), MaxModelLen: s.engine.Ctx(), Tokens: append([]int32{}, ids...)}
	if q.ReturnTokenStrs {
		out.TokenStrs = []string{}
		for _, id := range ids {
			text, _ := m.Tokenizer.Token(id)
			out.TokenStrs = append(out.TokenStrs, text)
		}
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

// detokenize answers POST /detokenize.
func (s *Server) detokenize(w http.ResponseWriter, r *http.Request) error {
	var q struct {
		Model  string  `json:"model"`
		Tokens []int32 `json:"tokens"`
	}
	if err := s.decode(w, r, &q); err != nil {
		return err
	}
	m, _, err := s.named(q.Model)
	if err != nil {
		return err
	}
	if q.Tokens == nil {
		return invalid("tokens", "tokens is missing")
	}
	for _, id := range q.Tokens {
		if _, ok := m.Tokenizer.Token(id); !ok {
			return invalid("tokens", "the tokenizer has no token %d; it has 0 to %d", id, m.Tokenizer.MaxID())
		}
	}
	writeJSON(w, http.StatusOK, map[string]string{"prompt": m.Tokenizer.Decode(q.Tokens, false)})
	return nil
}

// tokenizerInfo answers GET /tokenizer_info.
func (s *Server) tokenizerInfo(w http.ResponseWriter, r *http.Request) error {
	m := s.models[s.opts.Name]
	out := map[string]any{
		"bos_token": nil, "eos_token": nil, "pad_token": nil, "chat_template": nil,
		"add_bos_token": false, "model_max_length": s.engine.Ctx(), "vocab_size": int(m.Tokenizer.MaxID()) + 1,
	}
	if id, ok := m.Tokenizer.BOS(); ok {
		out["bos_token"], _ = m.Tokenizer.Token(id)
		out["add_bos_token"] = true
	} else if len(m.Config.BOS) > 0 {
		if text, ok := m.Tokenizer.Token(m.Config.BOS[0]); ok {
			out["bos_token"] = text
		}
	}
	if len(m.Config.EOS) > 0 {
		if text, ok := m.Tokenizer.Token(m.Config.EOS[0]); ok {
			out["eos_token"] = text
		}
	}
	if s.opts.Template != nil {
		if source, ok := s.opts.Template.Source("default"); ok {
			out["chat_template"] = source
		}
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

// ordinal returns the place of element i in a list for people: "the 1st".
func ordinal(i int) string {
	n := i + 1
	ending := "th"
	switch {
	case n%100 >= 11 && n%100 <= 13:
	case n%10 == 1:
		ending = "st"
	case n%10 == 2:
		ending = "nd"
	case n%10 == 3:
		ending = "rd"
	}
	b, _ := json.Marshal(n)
	return "the " + strings.TrimSpace(string(b)) + ending
}
