package stage

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"afmq/pkg/fault"
)

// Name is what people call a key of a job: the flag that sets it. Key is the dotted path of a
// value, an object or a list in the job; "modules.*" is the first different one of an object, and
// is only named if nothing before it is.
type Name struct{ Key, Words string }

// otherJob returns the error for the state of the job old where now is to run: another command,
// or the same one with other options or inputs. The key "job" of a job has its command and the
// version of its state: "quantize/v2".
func (d *Dir) otherJob(old, now []byte, names []Name) error {
	if was := command(old); was != "" && was != command(now) {
		return fault.Inputf(d.root, "holds the state of an interrupted `afmq %s`", was).
			WithHint("repeat that command to finish it, choose another --out, or add --restart to discard it")
	}
	return fault.Inputf(d.root, "holds the state of an interrupted run of another job: %s", Difference(old, now, names)).
		WithHint("give the former options and inputs to finish it, or add --restart to discard it")
}

// command returns the command of a job, "" if it names none.
func command(job []byte) string {
	var v struct {
		Job string `json:"job"`
	}
	if json.Unmarshal(job, &v) != nil {
		return ""
	}
	name, _, _ := strings.Cut(v.Job, "/")
	return name
}

// maxNamed is how many options a message names.
const maxNamed = 3

// Difference describes how two jobs differ: by the first keys that have names, in the order of
// names, or else by the first key in alphabetical order.
func Difference(oldJob, nowJob []byte, names []Name) string {
	old, now := map[string]string{}, map[string]string{}
	if !flattenObject(oldJob, old) || !flattenObject(nowJob, now) {
		return "one of their descriptions is not a JSON object"
	}
	if named := namedDifference(old, now, names); named != "" {
		return named
	}
	k := firstDifference(old, now, "")
	x, inOld := old[k]
	y, inNow := now[k]
	switch {
	case !inOld && !inNow:
		return "their descriptions have equal values in different encodings"
	case !inOld:
		return fmt.Sprintf("%s was absent and is now %s", k, y)
	case !inNow:
		return fmt.Sprintf("%s was %s and is now absent", k, x)
	}
	return fmt.Sprintf("%s was %s and is now %s", k, x, y)
}

// namedDifference describes the differences that have names; "" if there are none.
func namedDifference(old, now map[string]string, names []Name) string {
	var out []string
	for _, n := range names {
		if all, ok := strings.CutSuffix(n.Key, "*"); ok {
			if k := firstDifference(old, now, all); k != "" && len(out) == 0 {
				out = append(out, change(n.Words+" "+strings.TrimPrefix(k, all), value(old, k), value(now, k)))
			}
			continue
		}
		told := slices.ContainsFunc(out, func(s string) bool { return strings.HasPrefix(s, n.Words+" ") })
		if x, y := value(old, n.Key), value(now, n.Key); x != y && !told && !absentObject(old, n.Key) && !absentObject(now, n.Key) {
			out = append(out, change(n.Words, x, y))
		}
	}
	return strings.Join(out[:min(len(out), maxNamed)], "; ")
}

// change describes a changed value. A digest tells a person nothing.
func change(what, old, now string) string {
	if hasDigest(old) && hasDigest(now) {
		return what + " has other content"
	}
	return fmt.Sprintf("%s was %s and is now %s", what, plain(old), plain(now))
}

// firstDifference returns the first key with this prefix, in alphabetical order, whose values
// differ; "" if there is none.
func firstDifference(old, now map[string]string, prefix string) string {
	keys := maps.Clone(old)
	maps.Copy(keys, now)
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		if strings.HasPrefix(k, prefix) && old[k] != now[k] {
			return k
		}
	}
	return ""
}

// absentObject reports whether a key is in an object that the job does not have.
func absentObject(job map[string]string, key string) bool {
	for i, r := range key {
		if r == '.' && value(job, key[:i]) == "none" {
			return true
		}
	}
	return false
}

// value returns the value of a key as JSON; "given" for an object, "none" for null, for an
// empty object and for a key that is absent.
func value(job map[string]string, key string) string {
	if v, ok := job[key]; ok && v != "null" && v != "{}" {
		return v
	}
	for k := range job {
		if strings.HasPrefix(k, key+".") {
			return "given"
		}
	}
	return "none"
}

var digest = regexp.MustCompile(`\b[0-9a-f]{64}\b`)

// hasDigest reports whether a value is a SHA-256 or a list of them.
func hasDigest(v string) bool { return digest.MatchString(v) }

// plain returns a JSON value for people.
func plain(v string) string {
	if hasDigest(v) {
		return "given"
	}
	if s, err := strconv.Unquote(v); err == nil && s != "" && !strings.ContainsFunc(s, unicode.IsControl) {
		return s
	}
	return v
}

// flattenObject stores the values of a JSON object in m under their dotted paths. It
// returns false if data is not an object.
func flattenObject(data []byte, m map[string]string) bool {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v map[string]any
	if d.Decode(&v) != nil || v == nil {
		return false
	}
	flatten("", v, m)
	return true
}

func flatten(prefix string, v map[string]any, m map[string]string) {
	for k, x := range v {
		if strings.ContainsFunc(k, unicode.IsControl) {
			k = strconv.Quote(k)
		}
		if nested, ok := x.(map[string]any); ok && len(nested) > 0 {
			flatten(prefix+k+".", nested, m)
			continue
		}
		text, err := json.Marshal(x)
		if err != nil {
			text = []byte(fmt.Sprint(x))
		}
		m[prefix+k] = string(text)
	}
}
