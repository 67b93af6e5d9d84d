// Package memory says how much memory a job may use, and keeps values that do not fit in files.
package memory
