package stage

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"

	"afmq/internal/disk"
	"afmq/pkg/fault"
)

// Journal is an append-only list of JSON records.
type Journal struct {
	path    string
	file    *os.File
	records []json.RawMessage
}

// Journal opens the journal of the run; every call returns the same one. Everything from
// the first line that is not valid JSON is discarded, such as a record that a crash cut
// short.
func (d *Dir) Journal() (*Journal, error) {
	if d.journal != nil {
		return d.journal, nil
	}
	j := &Journal{path: d.sub(journalName)}
	data, err := readBounded(j.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	records, whole := parseJournal(data)
	if j.file, err = disk.OpenAppend(j.path); err != nil {
		return nil, fault.Writing(j.path, err)
	}
	if whole < len(data) {
		if err := j.file.Truncate(int64(whole)); err != nil {
			j.file.Close()
			return nil, fault.Writing(j.path, err)
		}
	}
	if err := disk.SyncDir(d.root); err != nil {
		j.file.Close()
		return nil, fault.Writing(j.path, err)
	}
	j.records, d.journal = records, j
	return j, nil
}

// parseJournal returns the records of the leading lines that are valid JSON, and the
// length of these lines in bytes.
func parseJournal(data []byte) (records []json.RawMessage, whole int) {
	for {
		n := bytes.IndexByte(data[whole:], '\n')
		if n < 0 {
			return records, whole
		}
		line := data[whole : whole+n]
		if !json.Valid(line) {
			return records, whole
		}
		records = append(records, json.RawMessage(line))
		whole += n + 1
	}
}

// Records returns the records of earlier runs, oldest first.
func (j *Journal) Records() []json.RawMessage { return j.records }

// Append appends v as one line of JSON and syncs the journal.
func (j *Journal) Append(v any) error {
	line, err := json.Marshal(v) // contains no line breaks
	if err != nil {
		return err
	}
	if _, err := j.file.Write(append(line, '\n')); err != nil {
		return fault.Writing(j.path, err)
	}
	disk.Step("appended")
	return fault.Writing(j.path, j.file.Sync())
}

// JournalPath returns the path of the journal.
func (d *Dir) JournalPath() string { return d.sub(journalName) }

// ReleaseJournal closes the journal, so that another program can append to it. The next call of
// Journal reads what it has then.
func (d *Dir) ReleaseJournal() {
	d.closeJournal()
	d.journal = nil
}

func (d *Dir) closeJournal() {
	if d.journal != nil {
		d.journal.file.Close()
	}
}
