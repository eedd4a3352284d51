package moodle

import (
	"encoding/binary"
	"errors"
	"strconv"
	"strings"
)

// kind is the type of a PHP value that is kept.
type kind uint8

const (
	kindNull kind = iota // also: absent
	kindBool             // text is "0" or "1"
	kindInt              // text is a decimal number that fits an int64
	kindFloat
	kindString
	kindOther // an array, an object, an enumeration's case or a reference
)

// scalar is a PHP value without parts; of other values, and of null, it keeps
// no more than the kind. The zero scalar is null.
type scalar struct {
	kind kind
	text string
}

var (
	errTruncated     = errors.New("session data is cut off")
	errTooLarge      = errors.New("session data is larger than 8 MiB")
	errNotSerialised = errors.New("value is not serialised by phpredis")
	errIgbinary      = errors.New("igbinary value is malformed or not a scalar")
)

// decodeValue takes phpredis' layer off one stored value: PHP's format
// ("i:3;", `s:4:"text";`, "N;") or igbinary's (a header of four bytes). Moodle
// stores only scalars. Text in neither format is errNotSerialised.
//
// A line feed after the value, which redis-cli adds, is ignored.
func decodeValue(raw string) (scalar, error) {
	if strings.HasPrefix(raw, "\x00\x00\x00\x01") || strings.HasPrefix(raw, "\x00\x00\x00\x02") {
		v, rest, err := decodeIgbinary(raw[4:])
		return v, atEnd(rest, err)
	}
	if raw == "" {
		return scalar{}, errTruncated
	}
	if len(raw) < 2 || raw[1] != ':' && raw != "N;" && raw != "N;\n" {
		return scalar{}, errNotSerialised
	}
	p := parser{text: raw}
	v, err := p.value(0)
	return v, atEnd(raw[p.pos:], err)
}

func atEnd(rest string, err error) error {
	if err == nil && rest != "" && rest != "\n" {
		return errors.New("session data goes on after its end")
	}
	return err
}

// decodeIgbinary reads one scalar of igbinary's format, in which a byte of
// type is followed by big-endian numbers and raw strings. Arrays, objects and
// references, of which phpredis would need none here, are refused.
func decodeIgbinary(s string) (v scalar, rest string, err error) {
	if s == "" {
		return scalar{}, "", errTruncated
	}
	code, s := s[0], s[1:]
	number := func(size int) (n uint64) {
		if len(s) < size {
			err = errTruncated
			return 0
		}
		var b [8]byte
		copy(b[8-size:], s)
		s = s[size:]
		return binary.BigEndian.Uint64(b[:])
	}
	switch code {
	case 0x00:
		v = scalar{kind: kindNull}
	case 0x04, 0x05:
		v = scalar{kindBool, strconv.Itoa(int(code - 0x04))}
	case 0x06, 0x08, 0x0a, 0x20: // positive, of 8, 16, 32 and 64 bits
		v = scalar{kindInt, strconv.FormatUint(number(igbinaryWidth(code)), 10)}
	case 0x07, 0x09, 0x0b, 0x21: // negative, the same
		v = scalar{kindInt, "-" + strconv.FormatUint(number(igbinaryWidth(code)), 10)}
	case 0x0d:
		v = scalar{kindString, ""}
	case 0x11, 0x12, 0x13: // lengths of 8, 16 and 32 bits
		length := number(igbinaryWidth(code))
		if err == nil && length > uint64(len(s)) {
			err = errTruncated
		}
		if err == nil {
			v, s = scalar{kindString, s[:length]}, s[length:]
		}
	default:
		err = errIgbinary
	}
	if err == nil && v.kind == kindInt {
		if _, e := strconv.ParseInt(v.text, 10, 64); e != nil {
			err = errIgbinary
		}
	}
	if err != nil {
		return scalar{}, "", err
	}
	return v, s, nil
}

// igbinaryWidth returns how many bytes of number follow a byte of type.
func igbinaryWidth(code byte) int {
	switch code {
	case 0x06, 0x07, 0x11:
		return 1
	case 0x08, 0x09, 0x12:
		return 2
	case 0x0a, 0x0b, 0x13:
		return 4
	}
	return 8
}
