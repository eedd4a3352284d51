package moodletest

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A PHP value is one of nil, bool, int64, float64, string, *phpArray and
// *phpObject: all that a Moodle session holds.

// phpArray is a PHP array, or the properties of an object: pairs in order.
type phpArray struct {
	pairs []phpPair
}

// phpPair has an int64 or a string as its key.
type phpPair struct {
	key   any
	value any
}

// phpObject is an instance of a class.
type phpObject struct {
	class string
	phpArray
}

// newObject returns a stdClass with the given names and values, alternating.
func newObject(namesAndValues ...any) *phpObject {
	return &phpObject{class: "stdClass", phpArray: *newArray(namesAndValues...)}
}

// newArray returns an array with the given keys and values, alternating.
func newArray(keysAndValues ...any) *phpArray {
	a := &phpArray{}
	for i := 0; i+1 < len(keysAndValues); i += 2 {
		a.pairs = append(a.pairs, phpPair{keysAndValues[i], keysAndValues[i+1]})
	}
	return a
}

func (a *phpArray) find(key any) int {
	for i, p := range a.pairs {
		if p.key == key {
			return i
		}
	}
	return -1
}

// get returns the value at key, or nil.
func (a *phpArray) get(key string) any {
	if i := a.find(key); i >= 0 {
		return a.pairs[i].value
	}
	return nil
}

// text returns the string or the number at key as PHP would print it.
func (a *phpArray) text(key string) string {
	switch v := a.get(key).(type) {
	case string:
		return v
	case int64:
		return strconv.FormatInt(v, 10)
	}
	return ""
}

// set replaces the value at key or appends a pair, as PHP does.
func (a *phpArray) set(key string, value any) {
	if i := a.find(key); i >= 0 {
		a.pairs[i].value = value
		return
	}
	a.pairs = append(a.pairs, phpPair{key, value})
}

func (a *phpArray) unset(keys ...string) {
	for _, key := range keys {
		if i := a.find(key); i >= 0 {
			a.pairs = append(a.pairs[:i:i], a.pairs[i+1:]...)
		}
	}
}

// appendPHP appends v as PHP's serialize() writes it.
func appendPHP(b []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, "N;"...)
	case bool:
		if v {
			return append(b, "b:1;"...)
		}
		return append(b, "b:0;"...)
	case int:
		return fmt.Appendf(b, "i:%d;", v)
	case int64:
		return fmt.Appendf(b, "i:%d;", v)
	case float64:
		return fmt.Appendf(b, "d:%s;", strconv.FormatFloat(v, 'G', -1, 64))
	case string:
		return fmt.Appendf(b, "s:%d:\"%s\";", len(v), v)
	case *phpArray:
		b = fmt.Appendf(b, "a:%d:{", len(v.pairs))
		return append(appendPairs(b, v), '}')
	case *phpObject:
		b = fmt.Appendf(b, "O:%d:\"%s\":%d:{", len(v.class), v.class, len(v.pairs))
		return append(appendPairs(b, &v.phpArray), '}')
	}
	panic(fmt.Sprintf("moodletest: %T is no PHP value", v)) // a mistake in this package, never input
}

func appendPairs(b []byte, a *phpArray) []byte {
	for _, p := range a.pairs {
		b = appendPHP(appendPHP(b, p.key), p.value)
	}
	return b
}

// appendSession appends the variables of a session as PHP's own session
// serialiser writes them: name|value name|value.
func appendSession(b []byte, vars *phpArray) []byte {
	for _, p := range vars.pairs {
		b = append(append(b, p.key.(string)...), '|')
		b = appendPHP(b, p.value)
	}
	return b
}

var errPHP = errors.New("not a PHP serialisation")

// parsePHP reads one value as unserialize() does and nothing after it.
func parsePHP(s string) (any, error) {
	r := phpReader{s: s}
	v := r.value(0)
	if r.failed || r.s != "" {
		return nil, errPHP
	}
	return v, nil
}

// parseSession reads what appendSession writes.
func parseSession(s string) (*phpArray, error) {
	vars := &phpArray{}
	r := phpReader{s: s}
	for r.s != "" && !r.failed {
		name := r.until('|')
		vars.pairs = append(vars.pairs, phpPair{name, r.value(0)})
	}
	if r.failed {
		return nil, errPHP
	}
	return vars, nil
}

const maxPHPDepth = 64

// phpReader consumes s from its front; once failed it stays so.
type phpReader struct {
	s      string
	failed bool
}

func (r *phpReader) fail() { r.failed, r.s = true, "" }

// until returns what stands before the next sep and skips both.
func (r *phpReader) until(sep byte) string {
	head, rest, ok := strings.Cut(r.s, string(sep))
	if !ok {
		r.fail()
		return ""
	}
	r.s = rest
	return head
}

func (r *phpReader) expect(prefix string) {
	rest, ok := strings.CutPrefix(r.s, prefix)
	if !ok {
		r.fail()
		return
	}
	r.s = rest
}

func (r *phpReader) number(end byte) int64 {
	n, err := strconv.ParseInt(r.until(end), 10, 64)
	if err != nil {
		r.fail()
	}
	return n
}

// quoted reads "…" of the length that stands before it.
func (r *phpReader) quoted() string {
	n := r.number(':')
	r.expect(`"`)
	if n < 0 || n > int64(len(r.s)) {
		r.fail()
		return ""
	}
	text := r.s[:n]
	r.s = r.s[n:]
	r.expect(`"`)
	return text
}

func (r *phpReader) value(depth int) any {
	if depth > maxPHPDepth || len(r.s) < 2 {
		r.fail()
		return nil
	}
	kind := r.s[:2]
	r.s = r.s[2:]
	switch kind {
	case "N;":
		return nil
	case "b:":
		return r.number(';') != 0
	case "i:":
		return r.number(';')
	case "d:":
		f, err := strconv.ParseFloat(r.until(';'), 64)
		if err != nil {
			r.fail()
		}
		return f
	case "s:":
		text := r.quoted()
		r.expect(";")
		return text
	case "a:":
		return &phpArray{pairs: r.pairs(depth)}
	case "O:":
		class := r.quoted()
		r.expect(":")
		return &phpObject{class: class, phpArray: phpArray{pairs: r.pairs(depth)}}
	}
	r.fail()
	return nil
}

func (r *phpReader) pairs(depth int) []phpPair {
	n := r.number(':')
	r.expect("{")
	var pairs []phpPair
	for ; n > 0 && !r.failed; n-- {
		key := r.value(depth + 1)
		switch key.(type) {
		case int64, string:
		default:
			r.fail()
		}
		pairs = append(pairs, phpPair{key, r.value(depth + 1)})
	}
	r.expect("}")
	return pairs
}
