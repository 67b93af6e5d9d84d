package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"afmq/pkg/batch"
	"afmq/pkg/fault"
)

// apiError is an error with the status and the object of OpenAI's API.
type apiError struct {
	status     int
	Message    string  `json:"message"`
	Type       string  `json:"type"`
	Param      *string `json:"param"`
	Code       *string `json:"code"`
	retryAfter int     // seconds, for the header; 0 for none
	allow      string  // methods, for the header; empty for none
}

func (e *apiError) Error() string { return e.Message }

// invalid is an error in the value of a parameter, or of the whole request if param is empty.
func invalid(param, format string, args ...any) *apiError {
	return newError(http.StatusBadRequest, "invalid_request_error", param, "", format, args...)
}

func newError(status int, kind, param, code, format string, args ...any) *apiError {
	e := &apiError{status: status, Message: fmt.Sprintf(format, args...), Type: kind}
	if param != "" {
		e.Param = &param
	}
	if code != "" {
		e.Code = &code
	}
	return e
}

// asAPIError classifies an error of a request.
func asAPIError(err error) *apiError {
	var e *apiError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &e):
		return e
	case errors.As(err, &tooLarge):
		return newError(http.StatusRequestEntityTooLarge, "invalid_request_error", "", "request_too_large", "the request has more than %d bytes", tooLarge.Limit)
	case errors.Is(err, batch.ErrBusy):
		e = newError(http.StatusTooManyRequests, "rate_limit_error", "", "queue_full", "%v; try again later", err)
		e.retryAfter = 1
		return e
	case errors.Is(err, batch.ErrClosed):
		return newError(http.StatusServiceUnavailable, "server_error", "", "shutting_down", "the server is shutting down")
	case errors.Is(err, context.DeadlineExceeded):
		return newError(http.StatusGatewayTimeout, "server_error", "", "timeout", "the request took longer than the server allows")
	case errors.Is(err, context.Canceled): // nobody reads it
		return newError(statusClientClosed, "server_error", "", "cancelled", "the request was cancelled")
	}
	switch fault.KindOf(err) {
	case fault.Usage, fault.Infeasible:
		return invalid("", "%v", err)
	}
	// The cause may name files of the server; its log has it.
	return newError(http.StatusInternalServerError, "server_error", "", "internal_error", "internal error; the log of the server has its cause")
}

// withoutFile returns an error without the path of the server's file that it is about.
func withoutFile(err error) error {
	var f *fault.Error
	if !errors.As(err, &f) {
		return err
	}
	if f.Err != nil {
		return fmt.Errorf("%s: %w", f.Msg, f.Err)
	}
	return errors.New(f.Msg)
}

// statusClientClosed is the status that servers log for a client that closed the connection. It is
// never sent.
const statusClientClosed = 499

// writeError answers a request with an error.
func writeError(w http.ResponseWriter, e *apiError) {
	if e.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(e.retryAfter))
	}
	if e.allow != "" {
		w.Header().Set("Allow", e.allow)
	}
	if e.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	writeJSON(w, e.status, map[string]any{"error": e})
}

// answerTime is how long a client may take to read a whole answer.
const answerTime = 2 * time.Minute

// writeJSON answers a request with an object.
func writeJSON(w http.ResponseWriter, status int, object any) {
	data, err := json.Marshal(object)
	if err != nil { // a value that JSON cannot express
		status = http.StatusInternalServerError
		data, _ = json.Marshal(map[string]any{"error": newError(status, "server_error", "", "internal_error", "%v", err)})
	}
	w.Header().Set("Content-Type", "application/json")
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTime)) // not every connection has deadlines
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n')) // a client that is gone is no error of the server
}
