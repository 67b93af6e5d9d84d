package artifact

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The built-in text is one of the files. A record without the key, as of an artifact that used
// other text, has none.
func TestManifestNamesTheBuiltinText(t *testing.T) {
	m := smallManifest()
	m.Calibration = &CalibrationRecord{Digest: sum("tokens"), Tokens: 64, SeqLen: 32, Files: []string{sum("a"), sum("b")}, Passages: []string{}}
	for _, builtin := range []string{"", sum("b")} {
		m.Calibration.Builtin = builtin
		got, err := ParseManifest("m.json", encode(t, m))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(m.Calibration, got.Calibration); d != "" {
			t.Errorf("read back (-want +got):\n%s", d)
		}
	}
	m.Calibration.Builtin = sum("c")
	if _, _, err := m.Encode(); err == nil || !strings.Contains(err.Error(), "calibration.builtin") {
		t.Errorf("a built-in text that is not among the files: %v", err)
	}
}
