package serve

import (
	"net/http"
)

// checkCount checks that the answers to a request may wait at the same time.
func (s *Server) checkCount(prompts, n int) error {
	if most := s.engine.Queue(); prompts > most/n {
		return invalid("prompt", "%d prompts with %d answers each; this server takes %d answers in a request at most", prompts, n, most)
	}
	return nil
}

// turn waits until the prompts of a request may be encoded: that takes a processor, and for a long
// text seconds. The function that it returns ends the turn.
func (s *Server) turn(r *http.Request) (release func(), err error) {
	select {
	case s.turns <- struct{}{}:
		return func() { <-s.turns }, nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}
