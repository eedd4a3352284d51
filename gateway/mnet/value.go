package mnet

import (
	"math"
	"strconv"
	"strings"
)

// Value is a value of XML-RPC: a string, int, bool, float64, Array or Struct.
// Decoding yields these alone; base64 and dateTime.iso8601 become strings.
type Value any

// Array is an XML-RPC array.
type Array []Value

// Struct is an XML-RPC struct in the order of the wire, without repeated names.
type Struct []Member

// Member is one named value of a Struct.
type Member struct {
	Name  string
	Value Value
}

// Get returns the value of the named member.
func (s Struct) Get(name string) (Value, bool) {
	for _, m := range s {
		if m.Name == name {
			return m.Value, true
		}
	}
	return nil, false
}

// Text returns a scalar as text. Peers send numbers as strings and strings as
// numbers (section 4), so whoever wants text takes either. It is empty for
// arrays and structs; booleans are "1" and "0".
func Text(v Value) string {
	switch v := v.(type) {
	case string:
		return v
	case int:
		return strconv.Itoa(v)
	case bool:
		if v {
			return "1"
		}
		return "0"
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return ""
}

// Int returns a number that may have travelled as int, string, boolean or
// whole double (section 4), and whether v is one.
func Int(v Value) (int, bool) {
	switch v := v.(type) {
	case int:
		return v, true
	case string:
		n, err := strconv.Atoi(strings.TrimSpace(v))
		return n, err == nil
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return int(v), true
		}
	}
	return 0, false
}

// Map returns a PHP map, which travels as a struct or, when it is empty, as an
// empty array (section 4), and whether v is one.
func Map(v Value) (Struct, bool) {
	switch v := v.(type) {
	case Struct:
		return v, true
	case Array:
		return nil, len(v) == 0
	}
	return nil, false
}
