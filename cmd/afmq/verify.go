package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"afmq/pkg/artifact"
)

type verifyObject struct {
	Schema      string                 `json:"schema"`
	Artifact    string                 `json:"artifact"`
	ContentHash string                 `json:"content_hash"`
	ToolVersion string                 `json:"tool_version"`
	Files       int                    `json:"files"`
	Tensors     int                    `json:"tensors"`
	Bytes       int64                  `json:"bytes"`
	BPW         artifact.BitsPerWeight `json:"bpw"`
	Ledger      artifact.Ledger        `json:"ledger"`
}

func newVerifyCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "verify ARTIFACT",
		Short: "Check every byte of an artifact against its manifest",
		Long: `Compares the SHA-256 of every file and tensor of ARTIFACT with manifest.json, computes the
sizes and the bits per weight from the tensors, and checks the values: look-up tables and
scales must be finite, the entries of a table in ascending order, and the padding bits of
indices zero. A changed byte, a missing file and an extra file give exit code 3 and a message
that names the file.

Verification detects damage, not forgery: the manifest is not signed.`,
		Example: "  afmq verify my-4bit",
		RunE: func(cmd *cobra.Command, args []string) error {
			v, err := artifact.Verify(cmd.Context(), args[0], artifact.VerifyOptions{Pool: a.workers(), Progress: a.progress()})
			if err != nil {
				return err
			}
			o := verifyObject{
				Schema: "afmq.verify/v1", Artifact: args[0], ContentHash: v.ContentHash, ToolVersion: v.ToolVersion,
				Files: v.Files, Tensors: v.Tensors, Bytes: v.Bytes, BPW: v.BPW, Ledger: v.Ledger,
			}
			return a.print(o, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%s: intact, %d files with %d tensors (%s)\ncontent hash %s\n",
					o.Artifact, o.Files, o.Tensors, size(o.Bytes), o.ContentHash)
				return err
			})
		},
	}
}
