package main

import (
	"encoding/xml"
	"fmt"
	"os"
	"slices"
)

// junitCase is a test case of a report.
type junitCase struct {
	Name    string    `xml:"name,attr"`
	Failure *struct{} `xml:"failure"`
	Error   *struct{} `xml:"error"`
}

// checkReport checks that the report has a test case for each limit that was given, by the name
// of its flag, and the number of failures and errors.
func checkReport(file string, limits []string, failures, errors int) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var report struct {
		Cases []junitCase `xml:"testsuite>testcase"`
	}
	if err := xml.Unmarshal(data, &report); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	var names []string
	failed, undecided := 0, 0
	for _, c := range report.Cases {
		names = append(names, c.Name)
		if c.Failure != nil {
			failed++
		}
		if c.Error != nil {
			undecided++
		}
	}
	slices.Sort(names)
	limits = slices.Sorted(slices.Values(limits))
	if !slices.Equal(names, limits) || failed != failures || undecided != errors {
		return fmt.Errorf("%s has the cases %v with %d failures and %d errors; expected %v with %d and %d",
			file, names, failed, undecided, limits, failures, errors)
	}
	return nil
}
