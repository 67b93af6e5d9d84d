package model

// Separator returns the token that separates texts: the first end-of-sequence token of the
// config, or -1 if it has none.
func (c *Config) Separator() int32 {
	if len(c.EOS) == 0 {
		return -1
	}
	return c.EOS[0]
}
