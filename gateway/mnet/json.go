package mnet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// MarshalJSON writes an object whose members have the order of the struct.
func (s Struct) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	b.WriteByte('{')
	for i, m := range s {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := e.Encode(m.Name); err != nil {
			return nil, err
		}
		b.WriteByte(':')
		if err := e.Encode(m.Value); err != nil {
			return nil, err
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// ParseJSON reads a Value from JSON: objects become structs in their order,
// whole numbers ints, and null the empty string, as everywhere in MNet.
func ParseJSON(b []byte) (Value, error) {
	if len(b) > MaxBody {
		return nil, ErrTooLarge
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	v, err := parseJSON(d, 1)
	if err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("something follows the value")
		}
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("json: %w", err)
	}
	return v, nil
}

func parseJSON(d *json.Decoder, depth int) (Value, error) {
	if depth > MaxDepth {
		return nil, errors.New("values are nested too deep")
	}
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch token := token.(type) {
	case nil:
		return "", nil
	case json.Number:
		if n, err := strconv.Atoi(token.String()); err == nil {
			return n, nil
		}
		return token.Float64()
	case json.Delim:
		if token == '{' {
			return parseObject(d, depth)
		}
		items := Array{}
		for d.More() {
			item, err := parseJSON(d, depth+1)
			if err != nil {
				return nil, err
			}
			items = append(items, item)
		}
		_, err := d.Token()
		return items, err
	default: // string or bool
		return token, nil
	}
}

func parseObject(d *json.Decoder, depth int) (Value, error) {
	members, seen := Struct{}, map[string]bool{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, _ := token.(string) // the decoder takes nothing else here
		if seen[name] {
			return nil, fmt.Errorf("member %.40q is repeated", name)
		}
		seen[name] = true
		value, err := parseJSON(d, depth+1)
		if err != nil {
			return nil, err
		}
		members = append(members, Member{name, value})
	}
	_, err := d.Token()
	return members, err
}
