package mnet

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// maxElements bounds the nesting of XML elements: three for each value inside
// a value (value, struct, member) and the frame around them.
const maxElements = 3*MaxDepth + 8

type tokenKind uint8

const (
	tokenEOF tokenKind = iota
	tokenStart
	tokenEnd
	tokenText
)

// token is one piece of a document. Names and text point into the document.
type token struct {
	kind  tokenKind
	name  []byte // of tokenStart and tokenEnd, with its prefix: MNet knows no namespaces (section 3.3)
	text  []byte // of tokenText, as it stands in the document
	cdata bool   // text is the content of a CDATA section
}

// scanner cuts a document into tokens, in one pass and without copying. It
// knows the XML that XML-RPC and the envelopes need and refuses the rest:
// document types, processing instructions, entities beyond the five of XML,
// encodings other than UTF-8, ASCII and ISO-8859-1. Attributes are skipped;
// no receiver of MNet reads them.
type scanner struct {
	data   []byte
	pos    int
	open   [][]byte // names of the open elements
	root   bool     // the root element has begun
	empty  bool     // the last start tag was an empty element: its end comes next
	latin1 bool
}

var errXMLEnd = errors.New("xml: document ends early")

func newScanner(doc []byte) (*scanner, error) {
	if len(doc) > MaxBody {
		return nil, ErrTooLarge
	}
	doc = bytes.TrimPrefix(doc, []byte("\xef\xbb\xbf"))
	s := &scanner{data: bytes.TrimFunc(doc, isSpaceRune), open: make([][]byte, 0, 16)}
	return s, s.declaration()
}

func isSpace(c byte) bool     { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }
func isSpaceRune(r rune) bool { return r < 0x80 && isSpace(byte(r)) }

func isBlank(b []byte) bool {
	for _, c := range b {
		if !isSpace(c) {
			return false
		}
	}
	return true
}

// declaration reads the XML declaration, if there is one, for its encoding.
func (s *scanner) declaration() error {
	rest, ok := bytes.CutPrefix(s.data, []byte("<?xml"))
	if !ok || len(rest) == 0 || !isSpace(rest[0]) {
		return nil
	}
	end := bytes.Index(rest[:min(len(rest), 256)], []byte("?>"))
	if end < 0 {
		return errors.New("xml: malformed declaration")
	}
	s.pos = len(s.data) - len(rest) + end + len("?>")
	for attrs := rest[:end]; !isBlank(attrs); {
		name, value, n, err := attribute(attrs)
		if err != nil {
			return err
		}
		attrs = attrs[n:]
		if string(name) != "encoding" {
			continue
		}
		switch string(bytes.ToLower(value)) {
		case "utf-8", "us-ascii", "ascii":
		case "iso-8859-1":
			s.latin1 = true
		default:
			return fmt.Errorf("xml: encoding %.40q is not supported", value)
		}
	}
	return nil
}

// next returns the next token. After the root element's end it returns
// tokenEOF, once it has seen that nothing follows.
func (s *scanner) next() (token, error) {
	if s.empty {
		s.empty = false
		return s.end(s.open[len(s.open)-1])
	}
	for {
		rest := s.data[s.pos:]
		switch {
		case len(rest) == 0:
			if !s.root || len(s.open) > 0 {
				return token{}, errXMLEnd
			}
			return token{kind: tokenEOF}, nil
		case rest[0] != '<':
			n := bytes.IndexByte(rest, '<')
			if n < 0 {
				n = len(rest)
			}
			s.pos += n
			if len(s.open) > 0 {
				return token{kind: tokenText, text: rest[:n]}, nil
			}
			if !isBlank(rest[:n]) {
				return token{}, errors.New("xml: text outside the root element")
			}
		case bytes.HasPrefix(rest, []byte("<!--")):
			n := bytes.Index(rest[4:], []byte("--"))
			if n < 0 || !bytes.HasPrefix(rest[4+n:], []byte("-->")) {
				return token{}, errors.New("xml: malformed comment")
			}
			s.pos += 4 + n + 3
		case bytes.HasPrefix(rest, []byte("<![CDATA[")):
			n := bytes.Index(rest, []byte("]]>"))
			if n < 0 || len(s.open) == 0 {
				return token{}, errors.New("xml: malformed CDATA section")
			}
			s.pos += n + 3
			return token{kind: tokenText, text: rest[9:n], cdata: true}, nil
		case len(rest) > 1 && (rest[1] == '!' || rest[1] == '?'):
			return token{}, errors.New("xml: document types and processing instructions are refused")
		case len(rest) > 1 && rest[1] == '/':
			return s.endTag(rest[2:])
		default:
			return s.startTag(rest[1:])
		}
	}
}

// startTag reads what follows a "<".
func (s *scanner) startTag(rest []byte) (token, error) {
	n := nameLen(rest)
	if n == 0 || len(s.open) == 0 && s.root {
		return token{}, errors.New("xml: malformed element")
	}
	if len(s.open) == maxElements {
		return token{}, errors.New("xml: elements are nested too deep")
	}
	name, rest := rest[:n], rest[n:]
	for {
		blank := 0
		for blank < len(rest) && isSpace(rest[blank]) {
			blank++
		}
		switch tail := rest[blank:]; {
		case len(tail) == 0:
			return token{}, errXMLEnd
		case tail[0] == '>':
			rest = tail[1:]
		case bytes.HasPrefix(tail, []byte("/>")):
			rest, s.empty = tail[2:], true
		case blank == 0:
			return token{}, errors.New("xml: malformed element")
		default:
			_, _, n, err := attribute(tail)
			if err != nil {
				return token{}, err
			}
			rest = tail[n:]
			continue
		}
		break
	}
	s.pos, s.root = len(s.data)-len(rest), true
	s.open = append(s.open, name)
	return token{kind: tokenStart, name: name}, nil
}

// endTag reads what follows a "</".
func (s *scanner) endTag(rest []byte) (token, error) {
	end := bytes.IndexByte(rest, '>')
	if end < 0 {
		return token{}, errXMLEnd
	}
	s.pos = len(s.data) - len(rest) + end + 1
	n := nameLen(rest[:end])
	if !isBlank(rest[n:end]) {
		return token{}, errors.New("xml: malformed end tag")
	}
	return s.end(rest[:n])
}

func (s *scanner) end(name []byte) (token, error) {
	last := len(s.open) - 1
	if last < 0 || !bytes.Equal(s.open[last], name) {
		return token{}, fmt.Errorf("xml: unexpected </%.40s>", name)
	}
	s.open = s.open[:last]
	return token{kind: tokenEnd, name: name}, nil
}

// element returns the next start tag, or a nil name at the end of the element
// that is open. Text other than white space is an error.
func (s *scanner) element() ([]byte, error) {
	for {
		t, err := s.next()
		switch {
		case err != nil:
			return nil, err
		case t.kind == tokenStart:
			return t.name, nil
		case t.kind != tokenText:
			return nil, nil
		case !isBlank(t.text):
			return nil, errors.New("xml: unexpected text")
		}
	}
}

// finish reports whether the document ends here.
func (s *scanner) finish() error {
	t, err := s.next()
	if err == nil && t.kind != tokenEOF {
		err = errors.New("xml: unexpected content")
	}
	return err
}

// leaf returns the text of the element that was just opened and reads its end.
// The text may point into the document. An element inside is an error.
func (s *scanner) leaf() ([]byte, error) {
	var text []byte
	for first := true; ; first = false {
		t, err := s.next()
		if err != nil {
			return nil, err
		}
		switch t.kind {
		case tokenEnd:
			return text, nil
		case tokenText:
			chunk, err := s.decode(t)
			if err != nil {
				return nil, err
			}
			if first {
				text = chunk[:len(chunk):len(chunk)]
			} else {
				text = append(text, chunk...)
			}
		default:
			return nil, fmt.Errorf("xml: unexpected <%.40s>", t.name)
		}
	}
}

// decode returns the text of t as UTF-8, with references resolved and line
// ends normalised. Mostly there is nothing to do and nothing is copied.
func (s *scanner) decode(t token) ([]byte, error) {
	b, plain := t.text, true
	for _, c := range b {
		if c < ' ' && !isSpace(c) {
			return nil, errors.New("xml: control character")
		}
		if c == '&' && !t.cdata || c == '\r' || c >= 0x80 && s.latin1 {
			plain = false
		}
	}
	if !s.latin1 && !utf8.Valid(b) {
		return nil, errors.New("xml: invalid UTF-8")
	}
	if plain {
		return b, nil
	}
	out := make([]byte, 0, len(b)+len(b)/8)
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '&' && !t.cdata:
			r, n, err := reference(b[i+1:])
			if err != nil {
				return nil, err
			}
			out = utf8.AppendRune(out, r)
			i += n
		case c == '\r':
			if i+1 == len(b) || b[i+1] != '\n' {
				out = append(out, '\n')
			}
		case c >= 0x80 && s.latin1:
			out = utf8.AppendRune(out, rune(c))
		default:
			out = append(out, c)
		}
	}
	return out, nil
}

// reference reads what follows an "&" and returns the character and how many
// bytes of b it took.
func reference(b []byte) (rune, int, error) {
	end := bytes.IndexByte(b[:min(len(b), 12)], ';')
	if end < 0 {
		return 0, 0, errors.New("xml: malformed reference")
	}
	name := string(b[:end])
	switch name {
	case "amp":
		return '&', end + 1, nil
	case "lt":
		return '<', end + 1, nil
	case "gt":
		return '>', end + 1, nil
	case "quot":
		return '"', end + 1, nil
	case "apos":
		return '\'', end + 1, nil
	}
	if len(name) < 2 || name[0] != '#' {
		return 0, 0, fmt.Errorf("xml: entity %q is refused", name)
	}
	digits, base := name[1:], 10
	if digits[0] == 'x' {
		digits, base = digits[1:], 16
	}
	n, err := strconv.ParseUint(digits, base, 32)
	if err != nil || n > utf8.MaxRune || !isChar(rune(n)) {
		return 0, 0, fmt.Errorf("xml: %q is not a character", name)
	}
	return rune(n), end + 1, nil
}

// isChar is the production Char of XML 1.0, section 2.2.
func isChar(r rune) bool {
	return r == '\t' || r == '\n' || r == '\r' || r >= ' ' && utf8.ValidRune(r) && r != 0xfffe && r != 0xffff
}

// attribute reads one attribute with the white space before it and returns
// how many bytes it took.
func attribute(b []byte) (name, value []byte, n int, err error) {
	malformed := errors.New("xml: malformed attribute")
	for n < len(b) && isSpace(b[n]) {
		n++
	}
	size := nameLen(b[n:])
	name, n = b[n:n+size], n+size
	for n < len(b) && isSpace(b[n]) {
		n++
	}
	if size == 0 || n == len(b) || b[n] != '=' {
		return nil, nil, 0, malformed
	}
	for n++; n < len(b) && isSpace(b[n]); {
		n++
	}
	if n == len(b) || b[n] != '"' && b[n] != '\'' {
		return nil, nil, 0, malformed
	}
	end := bytes.IndexByte(b[n+1:], b[n])
	if end < 0 {
		return nil, nil, 0, errXMLEnd
	}
	value = b[n+1 : n+1+end]
	if bytes.IndexByte(value, '<') >= 0 {
		return nil, nil, 0, malformed
	}
	return name, value, n + 1 + end + 1, nil
}

// nameLen returns how many bytes of b are an XML name, in ASCII: no element of
// MNet needs more.
func nameLen(b []byte) int {
	n := 0
	for ; n < len(b); n++ {
		switch c := b[n]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_', c == ':':
		case n > 0 && (c >= '0' && c <= '9' || c == '-' || c == '.'):
		default:
			return n
		}
	}
	return n
}
