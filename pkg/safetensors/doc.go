// Package safetensors reads and writes the safetensors file format.
package safetensors
