package model

// Separator returns the token that stands between texts: the config's first
// end-of-sequence token, or -1 if it names none.
func (c *Config) Separator() int32 {
	if len(c.EOS) == 0 {
		return -1
	}
	return c.EOS[0]
}
