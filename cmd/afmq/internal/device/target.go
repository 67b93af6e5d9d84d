package device

import (
	"strings"

	"afmq/pkg/export/target"
	"afmq/pkg/fault"
)

// CheckTarget returns an error of kind fault.Usage if a profile is of a device that does not have
// the runtime of the target. A profile that does not say its system passes.
func CheckTarget(profiles []*Profile, t *target.Target) error {
	for _, p := range profiles {
		if p.System == "" || t.RunsOn(p.System) {
			continue
		}
		return fault.Usagef("device %s has the system %s, which target %s does not run on", p.Name, p.System, t.Name).
			WithHint("devices of the target are %s; `afmq devices` lists the targets of every device", strings.Join(devicesOf(t), ", "))
	}
	return nil
}

// devicesOf returns the names of the embedded profiles of devices that have the runtime.
func devicesOf(t *target.Target) []string {
	var out []string
	for _, name := range Names() {
		p, err := Load(name)
		if err != nil {
			panic(err) // a test loads them all
		}
		if t.RunsOn(p.System) {
			out = append(out, name)
		}
	}
	return out
}

// Targets returns the names of the targets that a device has the runtime of.
func Targets(p *Profile) []string {
	var out []string
	for _, name := range target.Names() {
		if t, err := target.Named(name); err == nil && t.RunsOn(p.System) {
			out = append(out, name)
		}
	}
	return out
}
