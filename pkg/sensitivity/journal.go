package sensitivity

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

// Journal keeps records across a crash. The journal of an output directory is one.
type Journal interface {
	Records() []json.RawMessage // of earlier runs, oldest first
	Append(v any) error         // as one line of JSON; returns when it is durable
}

// Record is the journal entry of one finished unit of work.
type Record struct {
	Score  *UnitRecord `json:"score"`
	SHA256 string      `json:"sha256"` // of the job and of Score
}

// UnitRecord is the result of one unit of work: of the scores, or of their validation.
type UnitRecord struct {
	Validation bool           `json:"validation,omitempty"`
	Unit       int            `json:"unit"`
	Costs      []Contribution `json:"costs"`
}

// unitLog reads and writes the records of one job.
type unitLog struct {
	journal  Journal // nil: nothing is kept
	identity []byte  // of the job
	state    string  // path of the directory with the journal, for messages
}

// record returns the record of a unit. Its digest covers the identity of the job and all
// of its content, so that an edited record, or one of another job, is recognized.
func (l *unitLog) record(u *UnitRecord) (Record, error) {
	content, err := json.Marshal(u)
	if err != nil {
		return Record{}, err
	}
	h := sha256.New()
	h.Write(l.identity) // a hash returns no error
	h.Write([]byte{0})
	h.Write(content)
	return Record{u, hex.EncodeToString(h.Sum(nil))}, nil
}

// finished returns the results of the units that earlier runs finished. A record that
// differs from what this job would have written is ignored: its unit is computed again.
func (l *unitLog) finished(validation bool) map[int][]Contribution {
	done := map[int][]Contribution{}
	if l.journal == nil {
		return done
	}
	for _, line := range l.journal.Records() {
		var r Record
		if json.Unmarshal(line, &r) != nil || r.Score == nil || r.Score.Validation != validation {
			continue
		}
		want, err := l.record(r.Score)
		if err != nil {
			continue
		}
		if data, err := json.Marshal(want); err != nil || !bytes.Equal(data, line) {
			continue
		}
		done[r.Score.Unit] = r.Score.Costs
	}
	return done
}

// append adds the record of a unit.
func (l *unitLog) append(u *UnitRecord) error {
	if l.journal == nil {
		return nil
	}
	r, err := l.record(u)
	if err != nil {
		return err
	}
	return l.journal.Append(r)
}
