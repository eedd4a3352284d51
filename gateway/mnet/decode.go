package mnet

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// DecodeCall reads the document of a call. It is as liberal as section 4 asks
// (untyped values, i4 and i8, any white space) within the limits of this
// package.
func DecodeCall(doc []byte) (method string, params []Value, err error) {
	d, err := newDecoder(doc, "methodCall")
	if err != nil {
		return "", nil, err
	}
	for seen := false; ; {
		name, err := d.element()
		switch {
		case err != nil:
			return "", nil, err
		case name == nil:
			if method == "" {
				return "", nil, errors.New("xml-rpc: call without a method name")
			}
			return method, params, d.finish()
		case string(name) == "methodName" && method == "":
			text, err := d.leaf()
			if err != nil {
				return "", nil, err
			}
			if method = string(text); method == "" {
				return "", nil, errors.New("xml-rpc: empty method name")
			}
		case string(name) == "params" && !seen:
			seen = true
			if params, err = d.params(); err != nil {
				return "", nil, err
			}
		default:
			return "", nil, unexpected(name)
		}
	}
}

// DecodeResponse reads the document of an answer. A fault is returned as a
// *Fault error.
func DecodeResponse(doc []byte) (Value, error) {
	d, err := newDecoder(doc, "methodResponse")
	if err != nil {
		return nil, err
	}
	name, err := d.element()
	if err != nil {
		return nil, err
	}
	var v Value
	switch string(name) {
	case "params":
		params, err := d.params()
		if err != nil {
			return nil, err
		}
		if len(params) != 1 {
			return nil, fmt.Errorf("xml-rpc: answer with %d values", len(params))
		}
		v = params[0]
	case "fault":
		if v, err = d.only("value", 1); err != nil {
			return nil, err
		}
	default:
		return nil, unexpected(name)
	}
	if err := d.close(); err != nil {
		return nil, err
	}
	if err := d.finish(); err != nil {
		return nil, err
	}
	if string(name) == "fault" {
		return nil, asFault(v)
	}
	return v, nil
}

func asFault(v Value) error {
	s, _ := v.(Struct)
	code, _ := s.Get("faultCode")
	text, ok := s.Get("faultString")
	n, numeric := Int(code)
	if !ok || !numeric {
		return errors.New("xml-rpc: malformed fault")
	}
	return &Fault{Code: n, String: Text(text)}
}

func unexpected(name []byte) error {
	if name == nil {
		return errors.New("xml-rpc: an element is missing")
	}
	return fmt.Errorf("xml-rpc: unexpected <%.40s>", name)
}

type decoder struct {
	*scanner
	values int
}

func newDecoder(doc []byte, root string) (*decoder, error) {
	s, err := newScanner(doc)
	if err != nil {
		return nil, err
	}
	name, err := s.element()
	if err != nil {
		return nil, err
	}
	if string(name) != root {
		return nil, unexpected(name)
	}
	return &decoder{scanner: s}, nil
}

// params reads up to </params>.
func (d *decoder) params() ([]Value, error) {
	var params []Value
	for {
		name, err := d.element()
		switch {
		case err != nil:
			return nil, err
		case name == nil:
			return params, nil
		case string(name) != "param":
			return nil, unexpected(name)
		}
		v, err := d.only("value", 1)
		if err != nil {
			return nil, err
		}
		params = append(params, v)
	}
}

// only reads the one child of the open element, which is a value, and the end
// of the open element.
func (d *decoder) only(child string, depth int) (Value, error) {
	name, err := d.element()
	if err != nil {
		return nil, err
	}
	if string(name) != child {
		return nil, unexpected(name)
	}
	v, err := d.value(depth)
	if err != nil {
		return nil, err
	}
	return v, d.close()
}

// close reads the end of the open element.
func (d *decoder) close() error {
	name, err := d.element()
	if err == nil && name != nil {
		err = unexpected(name)
	}
	return err
}

// value reads up to </value>.
func (d *decoder) value(depth int) (Value, error) {
	if d.values++; d.values > MaxValues {
		return nil, errors.New("xml-rpc: too many values")
	}
	if depth > MaxDepth {
		return nil, errors.New("xml-rpc: values are nested too deep")
	}
	var text []byte
	for {
		t, err := d.next()
		if err != nil {
			return nil, err
		}
		switch t.kind {
		case tokenText:
			chunk, err := d.decode(t)
			if err != nil {
				return nil, err
			}
			text = append(text, chunk...)
		case tokenStart:
			if !isBlank(text) {
				return nil, unexpected(t.name)
			}
			v, err := d.typed(string(t.name), depth)
			if err != nil {
				return nil, err
			}
			return v, d.close()
		default:
			return string(text), nil
		}
	}
}

// typed reads up to the end of the element that names the type of a value.
func (d *decoder) typed(kind string, depth int) (Value, error) {
	switch kind {
	case "array":
		return d.array(depth)
	case "struct":
		return d.structure(depth)
	}
	leaf, err := d.leaf()
	if err != nil {
		return nil, err
	}
	text := string(leaf)
	switch kind {
	case "string":
		return text, nil
	case "int", "i4", "i8":
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("xml-rpc: %.40q is not an integer", text)
		}
		return n, nil
	case "boolean":
		switch strings.ToLower(strings.TrimSpace(text)) {
		case "1", "true":
			return true, nil
		case "0", "false":
			return false, nil
		}
		return nil, fmt.Errorf("xml-rpc: %.40q is not a boolean", text)
	case "double":
		f, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return nil, fmt.Errorf("xml-rpc: %.40q is not a number", text)
		}
		return f, nil
	case "dateTime.iso8601":
		return text, nil
	case "base64":
		b, err := decodeBase64(leaf)
		return string(b), err
	}
	return nil, unexpected([]byte(kind))
}

func (d *decoder) array(depth int) (Value, error) {
	name, err := d.element()
	if err != nil {
		return nil, err
	}
	if string(name) != "data" {
		return nil, unexpected(name)
	}
	items := Array{}
	for {
		name, err := d.element()
		switch {
		case err != nil:
			return nil, err
		case name == nil:
			return items, d.close()
		case string(name) != "value":
			return nil, unexpected(name)
		}
		item, err := d.value(depth + 1)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
}

func (d *decoder) structure(depth int) (Value, error) {
	members, seen := Struct{}, map[string]bool{}
	for {
		name, err := d.element()
		switch {
		case err != nil:
			return nil, err
		case name == nil:
			return members, nil
		case string(name) != "member":
			return nil, unexpected(name)
		}
		m, err := d.member(depth)
		if err != nil {
			return nil, err
		}
		// Receivers differ on which of two members of one name counts.
		if seen[m.Name] {
			return nil, fmt.Errorf("xml-rpc: member %.40q is repeated", m.Name)
		}
		seen[m.Name] = true
		members = append(members, m)
	}
}

// member reads up to </member>.
func (d *decoder) member(depth int) (m Member, err error) {
	name, err := d.element()
	if err != nil {
		return m, err
	}
	if string(name) != "name" {
		return m, unexpected(name)
	}
	text, err := d.leaf()
	if err != nil {
		return m, err
	}
	m.Name = string(text)
	m.Value, err = d.only("value", depth+1)
	return m, err
}
