package gate

import (
	"afmq/pkg/eval"
	"afmq/pkg/fault"
)

// Limits of the share of a text that repeats earlier text of it. Of passages, novels repeat
// none, encyclopedia text a few tenths of a per cent and collections of web text one to three
// per cent. Of phrases, these texts repeat 0.1, 2 and 2 to 5 per cent; six copies with their
// lines shuffled, or with a word inserted in every twelve, 29 per cent or more.
const (
	maxPassages = 0.1
	maxPhrases  = 0.2
)

// CheckRepetition returns an error of kind [fault.Input], about the file of a text, if the share
// of it that repeats itself is too large for a test. The windows of copies are no new evidence,
// but they would count as such and make the intervals too narrow, whatever their standard error
// allows for. Paraphrases and templates with short fixed parts are not detected.
func CheckRepetition(file string, r eval.Repetition) error {
	hint := "remove the copies of documents; at most %.0f %% may repeat"
	if r.Passages > maxPassages {
		return fault.Inputf(file, "repeats itself: %.0f %% of its passages occur earlier in it, so that its windows are not independent evidence", 100*r.Passages).
			WithHint(hint, 100*maxPassages)
	}
	if r.Phrases > maxPhrases {
		return fault.Inputf(file, "repeats itself: %.0f %% of its phrases of %d bytes occur earlier in it, so that its windows are not independent evidence", 100*r.Phrases, eval.PhraseBytes).
			WithHint(hint, 100*maxPhrases)
	}
	return nil
}
