package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"afmq/internal/infile"
)

// parseObject parses the JSON that another command printed, an object whose schema is want.
func parseObject(data []byte, want string, into any) error {
	if !utf8.Valid(data) {
		return errors.New("not valid UTF-8")
	}
	if err := infile.CheckJSON(data); err != nil {
		return err
	}
	if err := checkSchema(data, want); err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}

// checkSchema returns an error unless data is a JSON object whose schema is want. It reads no
// other key, so that the object of another command is named as what it is.
func checkSchema(data []byte, want string) error {
	var head struct {
		Schema json.RawMessage `json:"schema"`
		Error  json.RawMessage `json:"error"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return errors.New("it is not a JSON object")
	}
	var schema string
	if json.Unmarshal(head.Schema, &schema) != nil || schema == "" {
		return fmt.Errorf("it has no schema, which is %q", want)
	}
	var failure struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(head.Error, &failure) == nil && failure.Message != "" {
		return fmt.Errorf("the command failed: %.200q", failure.Message)
	}
	if schema != want {
		return fmt.Errorf("its schema is %.80q; this version reads %q", schema, want)
	}
	return nil
}
