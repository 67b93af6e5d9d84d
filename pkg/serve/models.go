package serve

import (
	"net/http"
)

// modelObject describes a model of the API.
type modelObject struct {
	ID          string  `json:"id"`
	Object      string  `json:"object"`
	Created     int64   `json:"created"`
	OwnedBy     string  `json:"owned_by"`
	Parent      *string `json:"parent"`        // the base of an adapter
	MaxModelLen int     `json:"max_model_len"` // tokens of prompt and answer
}

func (s *Server) model(name string) modelObject {
	m := modelObject{ID: name, Object: "model", Created: s.started.Unix(), OwnedBy: "afmq", MaxModelLen: s.engine.Ctx()}
	if name != s.opts.Name {
		m.Parent = &s.opts.Name
	}
	return m
}

// listModels answers GET /v1/models.
func (s *Server) listModels(w http.ResponseWriter, r *http.Request) error {
	data := []modelObject{s.model(s.opts.Name)}
	for _, name := range s.adapterNames() {
		data = append(data, s.model(name))
	}
	writeJSON(w, http.StatusOK, map[string]any{"object": "list", "data": data})
	return nil
}

// oneModel answers GET /v1/models/NAME.
func (s *Server) oneModel(w http.ResponseWriter, r *http.Request) error {
	_, name, err := s.named(r.PathValue("name"))
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, s.model(name))
	return nil
}

// health answers GET /health.
func (s *Server) health(w http.ResponseWriter, r *http.Request) error {
	if !s.engine.Accepts() {
		return newError(http.StatusServiceUnavailable, "server_error", "", "shutting_down", "the server takes no requests")
	}
	writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	return nil
}
