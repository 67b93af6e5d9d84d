// Package jinja renders chat templates: the part of Jinja 2 that they use, with the semantics
// that transformers gives it (jinja2's ImmutableSandboxedEnvironment with trim_blocks,
// lstrip_blocks, loop controls, the tag "generation", and its own tojson).
//
// The files follow a template's way: lex.go makes tokens, parse*.go the tree of ast.go, and
// exec.go and eval.go walk the tree. Values are those of Python (value.go), with its printing
// (print.go), its operators (ops.go, compare.go), and the methods of its strings and
// dictionaries (methods*.go). filters*.go, tests.go and globals.go have what Jinja adds.
//
// What Jinja knows and this package does not render is an error of kind [Refused] that names
// the construct and its line.
//
// # Untrusted templates
//
// A template reaches nothing outside its variables: there are no loaders, and attributes are
// looked up in tables, never in Go values. Work, allocation and depth have budgets (limits.go).
package jinja
