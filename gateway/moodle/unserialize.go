package moodle

import (
	"errors"
	"strings"
)

// maxDepth bounds how deep values may lie in one another. Moodle's sessions
// were seen to need 10.
const maxDepth = 256

var (
	errMalformed = errors.New("session data is not well-formed serialised PHP")
	errTooDeep   = errors.New("session data is nested too deep")
)

// parser walks over text in the format of PHP's serialize(). It builds
// nothing: a value without parts is returned as a slice of the text, the
// others are checked and skipped. Its work is linear in the text.
type parser struct {
	text string
	pos  int
	kept string // the text of the value that keep is called with
}

// value reads any one value. References are kindOther: PHP writes one only
// for a value that stood earlier in the session under another name, and none
// of what is kept ever does.
func (p *parser) value(depth int) (scalar, error) {
	if depth > maxDepth {
		return scalar{}, errTooDeep
	}
	if len(p.text)-p.pos < 2 {
		return scalar{}, errTruncated
	}
	code := p.text[p.pos]
	if code == 'N' {
		p.pos++
		return scalar{}, p.expect(';')
	}
	if p.text[p.pos+1] != ':' {
		return scalar{}, errMalformed
	}
	p.pos += 2
	switch code {
	case 's':
		s, err := p.quoted()
		if err == nil {
			err = p.expect(';')
		}
		return scalar{kindString, s}, err
	case 'i':
		s, err := p.until(';', isInt)
		return scalar{kindInt, s}, err
	case 'b':
		s, err := p.until(';', isBool)
		return scalar{kindBool, s}, err
	case 'd':
		s, err := p.until(';', isFloat)
		return scalar{kindFloat, s}, err
	case 'r', 'R':
		_, err := p.until(';', isDigits)
		return scalar{kind: kindOther}, err
	case 'a':
		return scalar{kind: kindOther}, p.members(depth, nil)
	case 'O':
		if _, err := p.quoted(); err != nil {
			return scalar{}, err
		}
		if err := p.expect(':'); err != nil {
			return scalar{}, err
		}
		return scalar{kind: kindOther}, p.members(depth, nil)
	case 'C': // an object that serialises itself, in a format of its own
		return scalar{kind: kindOther}, p.custom()
	case 'E': // a case of an enumeration: E:11:"Suit:Hearts";
		if _, err := p.quoted(); err != nil {
			return scalar{}, err
		}
		return scalar{kind: kindOther}, p.expect(';')
	}
	return scalar{}, errMalformed
}

// object reads one value and, if it is an object, calls keep for each of its
// properties. In the place of an object there may be null: then ok is false.
func (p *parser) object(keep func(name string, v scalar) error) (ok bool, err error) {
	if !strings.HasPrefix(p.text[p.pos:], "O:") {
		v, err := p.value(0)
		if err == nil && v.kind != kindNull {
			err = errors.New("session: a variable that is an object in Moodle is something else")
		}
		return false, err
	}
	p.pos += 2
	if _, err := p.quoted(); err != nil {
		return false, err
	}
	if err := p.expect(':'); err != nil {
		return false, err
	}
	return true, p.members(0, keep)
}

// members reads "COUNT:{key value key value …}".
func (p *parser) members(depth int, keep func(name string, v scalar) error) error {
	count, err := p.length()
	if err != nil {
		return err
	}
	if err := p.expect('{'); err != nil {
		return err
	}
	const least = len("i:0;N;")
	if count > (len(p.text)-p.pos)/least {
		return errTruncated
	}
	for range count {
		if p.pos >= len(p.text) {
			return errTruncated
		}
		if c := p.text[p.pos]; c != 's' && c != 'i' {
			return errMalformed
		}
		key, err := p.value(depth + 1)
		if err != nil {
			return err
		}
		start := p.pos
		v, err := p.value(depth + 1)
		if err != nil {
			return err
		}
		if keep != nil {
			p.kept = p.text[start:p.pos]
			if err := keep(key.text, v); err != nil {
				return err
			}
		}
	}
	return p.expect('}')
}

// custom skips `LEN:"class":LEN:{bytes}`.
func (p *parser) custom() error {
	if _, err := p.quoted(); err != nil {
		return err
	}
	if err := p.expect(':'); err != nil {
		return err
	}
	n, err := p.length()
	if err != nil {
		return err
	}
	if err := p.expect('{'); err != nil {
		return err
	}
	if n > len(p.text)-p.pos {
		return errTruncated
	}
	p.pos += n
	return p.expect('}')
}

// quoted reads `LEN:"bytes"`. The bytes may be any, quotes and NUL included.
func (p *parser) quoted() (string, error) {
	n, err := p.length()
	if err != nil {
		return "", err
	}
	if err := p.expect('"'); err != nil {
		return "", err
	}
	if n > len(p.text)-p.pos {
		return "", errTruncated
	}
	s := p.text[p.pos : p.pos+n]
	p.pos += n
	return s, p.expect('"')
}

// length reads "DIGITS:".
func (p *parser) length() (n int, err error) {
	start := p.pos
	for ; p.pos < len(p.text); p.pos++ {
		c := p.text[p.pos]
		if c == ':' && p.pos > start {
			p.pos++
			return n, nil
		}
		if c < '0' || c > '9' {
			return 0, errMalformed
		}
		if n = n*10 + int(c-'0'); n > maxSession {
			return 0, errTruncated // no text that is accepted is as long
		}
	}
	return 0, errTruncated
}

func (p *parser) expect(c byte) error {
	if p.pos >= len(p.text) {
		return errTruncated
	}
	if p.text[p.pos] != c {
		return errMalformed
	}
	p.pos++
	return nil
}

// until reads up to a mark, which it swallows, what satisfies valid.
func (p *parser) until(mark byte, valid func(string) bool) (string, error) {
	n := strings.IndexByte(p.text[p.pos:], mark)
	if n < 0 {
		return "", errTruncated
	}
	s := p.text[p.pos : p.pos+n]
	if !valid(s) {
		return "", errMalformed
	}
	p.pos += n + 1
	return s, nil
}

func isBool(s string) bool { return s == "0" || s == "1" }

func isInt(s string) bool { return isDigits(strings.TrimPrefix(s, "-")) }

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != "" && len(s) <= len("9223372036854775808")
}

func isFloat(s string) bool {
	return s != "" && (s == "INF" || s == "-INF" || s == "NAN" || strings.Trim(s, "+-.0123456789eE") == "")
}
