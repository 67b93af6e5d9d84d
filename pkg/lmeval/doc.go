// Package lmeval reads what EleutherAI's lm-evaluation-harness writes with --output_path and
// --log_samples, and compares the run of a model with that of a reference.
//
//   - [Read] reads the results of one run: the file results_DATE.json, or the directory with it.
//   - [Results.CheckComparable] refuses two runs whose tasks differ: another version, number of
//     examples, prompt, limit or set of items.
//   - [Compare] returns the scores of a run beside those of the reference: recovery, and with the
//     samples of both the items that are right in one and wrong in the other ("flips", Dutta et al.
//     2024, arXiv:2407.09141).
//
// The format is that of lm_eval 0.4.13; testdata has output of it. All files are untrusted. Errors
// are of kind [fault.Input] and name the file and the key.
package lmeval
