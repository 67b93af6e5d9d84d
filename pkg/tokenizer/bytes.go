package tokenizer

// TokenBytes returns the bytes that a token stands for within a text, after other tokens: a part
// of a character where the character has several tokens, and a leading space where the
// decoder omits it only at the beginning of a text. Special tokens stand for what
// Decode writes of them.
// It returns nil for an unknown id.
func (t *Tokenizer) TokenBytes(id int32) []byte {
	token, ok := t.decoded(id)
	if !ok {
		return nil
	}
	for _, create := range t.decoders {
		switch d := create().(type) {
		case *byteFallback:
			if b, ok := byteToken(token); ok {
				return []byte{b}
			}
		case *byteLevelDecoder:
			return fromByteLevel(token)
		case *strippingFused: // of the beginning and the end of the text
		default:
			text := ""
			d.push("x", func(string) {})
			d.push(token, func(s string) { text += s })
			token = text
		}
	}
	return []byte(token)
}

// fromByteLevel returns the bytes that ByteLevel's characters stand for. A token that has other
// characters, an added one, stands for itself.
func fromByteLevel(token string) []byte {
	var out []byte
	for _, c := range token {
		b, ok := charBytes[c]
		if !ok {
			return []byte(token)
		}
		out = append(out, b)
	}
	return out
}
