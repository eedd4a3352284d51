package config

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"jumpgate/gateway"
)

// object is a mapping whose fields are known ones, each given once.
type object struct {
	*report
	at     place
	fields []field
	faulty bool // some fields were dropped: one that is absent may be meant by them
}

// object reads v as a mapping with the given fields; the name is for messages.
func (r *report) object(v *value, name string, known []string) (o object) {
	o = object{report: r, at: v.at}
	before := r.count()
	defer func() { o.faulty = r.count() > before }()
	if v.kind != mapping {
		r.errorf(v.at, "write its fields below it, indented: "+strings.Join(known, ", "),
			"%s must be a mapping, not %s", name, v.kind)
		return o
	}
	for _, f := range v.fields {
		switch {
		case !slices.Contains(known, f.key):
			r.errorf(f.at, hintUnknown(f.key, known), "unknown field %q", f.key)
		case o.has(f.key):
			r.errorf(f.at, "keep one of them", "%q is given twice, first at %s", f.key, o.place(f.key).position())
		case f.value.kind == null:
			r.errorf(f.at, "give it a value or remove the line; an empty list is [], an empty mapping {}",
				"%q has no value", f.key)
		default:
			o.fields = append(o.fields, f)
		}
	}
	return o
}

// fieldsOf returns the names in the yaml tags of a struct: the fields that a
// mapping may have are those that Print would print.
func fieldsOf[T any]() []string {
	var names []string
	for f := range reflect.TypeFor[T]().Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("yaml"), ","); name != "-" {
			names = append(names, name)
		}
	}
	return names
}

func hintUnknown(key string, known []string) string {
	best, bestDistance := "", 3
	for _, name := range known {
		if d := distance(strings.ToLower(key), name); d < bestDistance {
			best, bestDistance = name, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return "known fields here: " + strings.Join(known, ", ")
}

// distance counts the single characters to change, insert or remove between
// a and b (Levenshtein).
func distance(a, b string) int {
	if len(a) > 2*len(b) {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

func (o object) get(key string) *value {
	for _, f := range o.fields {
		if f.key == key {
			return f.value
		}
	}
	return nil
}

func (o object) has(key string) bool { return o.get(key) != nil }

// place returns where a field's value is, or the mapping if it is absent.
func (o object) place(key string) place {
	if v := o.get(key); v != nil {
		return v.at
	}
	return o.at
}

// require reports a field that is absent.
func (o object) require(key, what, hint string) bool {
	if !o.has(key) && !o.faulty {
		o.errorf(o.at, hint, "%s has no %q", what, key)
	}
	return o.has(key)
}

const maxText = 4096

// plain returns the text of a single value on one line.
func (r *report) plain(v *value, name string) (string, bool) {
	text := strings.TrimSuffix(v.text, "\n") // which every YAML block has
	switch {
	case v.kind != scalar:
		hint := "write one value, without dash or brackets"
		if v.kind == mapping {
			hint += "; between brackets, put what has a colon into quotes"
		}
		r.errorf(v.at, hint, "%s must be a single value, not %s", name, v.kind)
	case text == "":
		r.errorf(v.at, "give it a value or remove the line", "%s is empty", name)
	case len(text) > maxText:
		r.errorf(v.at, "write a shorter one", "%s is longer than %d bytes", name, maxText)
	case strings.ContainsFunc(text, unicode.IsControl):
		r.errorf(v.at, "write it on one line, without escapes such as \\t", "%s has a control character or a line break in it", name)
	default:
		return text, true
	}
	return "", false
}

// text returns a field's text, or the fallback if it is absent or wrong.
func (o object) text(key, fallback string) string {
	if v := o.get(key); v != nil {
		if text, ok := o.plain(v, strconv.Quote(key)); ok {
			return text
		}
	}
	return fallback
}

// choice is text out of a few.
func (o object) choice(key, fallback string, known ...string) string {
	text := o.text(key, fallback)
	if !slices.Contains(known, text) {
		o.errorf(o.place(key), "write one of: "+strings.Join(known, ", "), "unknown %s %q", key, text)
		return fallback
	}
	return text
}

// flag is true or false.
func (o object) flag(key string) bool {
	v := o.get(key)
	if v == nil {
		return false
	}
	if v.kind != scalar || v.quoted || v.text != "true" && v.text != "false" {
		o.errorf(v.at, "write true or false, without quotes", "%q must be true or false, not %s", key, v.show())
		return false
	}
	return v.text == "true"
}

// number is a whole number within bounds.
func (o object) number(key string, fallback, low, high int64) int64 {
	v := o.get(key)
	if v == nil {
		return fallback
	}
	n, err := strconv.ParseInt(v.text, 10, 64)
	if v.kind != scalar || v.quoted || err != nil || n < low || n > high {
		o.errorf(v.at, "write a whole number, without quotes or a unit", "%q must be a number from %d to %d, not %s", key, low, high, v.show())
		return fallback
	}
	return n
}

// duration is a length of time greater than zero, with a unit.
func (o object) duration(key string, fallback time.Duration) time.Duration {
	v := o.get(key)
	if v == nil {
		return fallback
	}
	const hint = "write a number with its unit: 30s, 15m, 8h"
	d, err := time.ParseDuration(v.text)
	switch _, unitless := strconv.ParseFloat(v.text, 64); {
	case v.kind != scalar:
		o.errorf(v.at, hint, "%q must be a length of time, not %s", key, v.kind)
	case unitless == nil:
		o.errorf(v.at, hint, "%q has no unit: %s what?", key, v.text)
	case err != nil:
		o.errorf(v.at, hint, "%q must be a length of time, not %s", key, v.show())
	case d < time.Millisecond || d > maxDuration:
		o.errorf(v.at, hint, "%q must be between 1ms and %s, not %s", key, duration(maxDuration), v.text)
	default:
		return d
	}
	return fallback
}

// rate is how often something may happen, or off.
func (o object) rate(key, fallback string) gateway.Rate {
	text := o.text(key, fallback)
	rate, err := gateway.ParseRate(text)
	if err == nil {
		return rate
	}
	const hint = "write a number per s, m or h, perhaps with what may come at once: 30/m, or 100/m burst 20; or off"
	o.errorf(o.place(key), hint, "%q must be a rate of 1 to 1000000, not %q", key, text)
	rate, _ = gateway.ParseRate(fallback)
	return rate
}

// list returns the items of a list.
func (o object) list(key string) []*value {
	v := o.get(key)
	if v == nil {
		return nil
	}
	if v.kind != list {
		o.errorf(v.at, "write each item on its own line after a dash, or all of them in [ ]",
			"%q must be a list, not %s", key, v.kind)
		return nil
	}
	return v.items
}

// path is the name of a file or directory, made absolute: a relative one is
// relative to the file that names it, or to the working directory in a flag.
func (o object) path(key string) string {
	name := o.text(key, "")
	if name == "" {
		return ""
	}
	if src := o.place(key).src; src != nil && !filepath.IsAbs(name) {
		name = filepath.Join(src.dir, name)
	}
	return absolute(name)
}

func absolute(name string) string {
	if abs, err := filepath.Abs(name); err == nil {
		return abs
	}
	return filepath.Clean(name)
}

// show returns a value as messages quote it.
func (v *value) show() string {
	switch {
	case v.kind != scalar:
		return v.kind.String()
	case len(v.text) > 64:
		return strconv.Quote(v.text[:64]) + "…"
	}
	return strconv.Quote(v.text)
}

// duration prints 8h0m0s as 8h.
func duration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
