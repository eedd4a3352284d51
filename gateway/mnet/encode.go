package mnet

import (
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"
)

// EncodeCall returns the document of a call, laid out as Moodle's client does.
// Like all our documents it is ASCII: everything else travels as decimal
// character references.
func EncodeCall(method string, params ...Value) []byte {
	e := encoder{buf: make([]byte, 0, 1024)}
	e.raw("<?xml version=\"1.0\" encoding=\"utf-8\" ?>\n<methodCall>\n<methodName>")
	e.text(method)
	e.raw("</methodName>\n<params>\n")
	for _, p := range params {
		e.param(p)
	}
	e.raw("</params>\n</methodCall>")
	return e.buf
}

// EncodeResponse returns the document of an answer, laid out as Moodle's
// server does: no encoding is declared (section 4). A nil value becomes an
// empty string, as PHP's null does; <nil/> is never sent.
func EncodeResponse(v Value) []byte {
	e := encoder{buf: make([]byte, 0, 1024), newlines: true}
	e.raw("<?xml version=\"1.0\"?>\n<methodResponse>\n<params>\n")
	e.param(v)
	e.raw("</params>\n</methodResponse>")
	return e.buf
}

// EncodeFault returns the document of a fault, laid out as Moodle's server
// does. Moodle's client reads a plain one in full only because of the white
// space between <fault> and <value> (section 3.3).
func EncodeFault(f *Fault) []byte {
	e := encoder{buf: make([]byte, 0, 1024)}
	e.raw(`<?xml version="1.0"?>
<methodResponse>
   <fault>
      <value>
         <struct>
            <member>
               <name>faultCode</name>
               <value><int>`)
	e.buf = strconv.AppendInt(e.buf, int64(f.Code), 10)
	e.raw(`</int></value>
            </member>
            <member>
               <name>faultString</name>
               <value><string>`)
	e.text(f.String)
	e.raw(`</string></value>
            </member>
         </struct>
      </value>
   </fault>
</methodResponse>`)
	return e.buf
}

type encoder struct {
	buf      []byte
	newlines bool // write line feeds as references, as Moodle does in answers
}

func (e *encoder) raw(s string) { e.buf = append(e.buf, s...) }

func (e *encoder) param(v Value) {
	e.raw("<param>\n")
	e.value(v)
	e.raw("</param>\n")
}

func (e *encoder) value(v Value) {
	e.raw("<value>")
	switch v := v.(type) {
	case nil:
		e.raw("<string></string>")
	case string:
		e.string(v)
	case int:
		// The int of XML-RPC has 32 bits, and receivers differ on what they
		// make of more; a number in a string is understood by all.
		if v != int(int32(v)) {
			e.string(strconv.Itoa(v))
			break
		}
		e.raw("<int>")
		e.buf = strconv.AppendInt(e.buf, int64(v), 10)
		e.raw("</int>")
	case bool:
		if v {
			e.raw("<boolean>1</boolean>")
		} else {
			e.raw("<boolean>0</boolean>")
		}
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			e.raw("<string></string>")
			break
		}
		e.raw("<double>")
		e.buf = strconv.AppendFloat(e.buf, v, 'f', -1, 64)
		e.raw("</double>")
	case Array:
		e.raw("<array>\n<data>\n")
		for _, item := range v {
			e.value(item)
		}
		e.raw("</data>\n</array>")
	case Struct:
		e.raw("<struct>\n")
		for _, m := range v {
			e.raw("<member><name>")
			e.text(m.Name)
			e.raw("</name>\n")
			e.value(m.Value)
			e.raw("</member>\n")
		}
		e.raw("</struct>")
	default:
		e.string(fmt.Sprint(v))
	}
	e.raw("</value>\n")
}

func (e *encoder) string(s string) {
	e.raw("<string>")
	e.text(s)
	e.raw("</string>")
}

// text escapes s. What XML cannot carry, control characters and invalid UTF-8,
// becomes U+FFFD: one such byte in somebody's profile must not cost the login.
func (e *encoder) text(s string) {
	for i := 0; i < len(s); {
		c := s[i]
		i++
		switch {
		case c == '&':
			e.raw("&amp;")
		case c == '<':
			e.raw("&lt;")
		case c == '>':
			e.raw("&gt;")
		case c == '"':
			e.raw("&quot;")
		case c == '\'':
			e.raw("&apos;")
		case c >= ' ' && c < utf8.RuneSelf, c == '\n' && !e.newlines:
			e.buf = append(e.buf, c)
		case c < utf8.RuneSelf:
			e.reference(rune(c))
		default:
			r, size := utf8.DecodeRuneInString(s[i-1:])
			e.reference(r)
			i += size - 1
		}
	}
}

func (e *encoder) reference(r rune) {
	if !isChar(r) {
		r = utf8.RuneError
	}
	e.raw("&#")
	e.buf = strconv.AppendInt(e.buf, int64(r), 10)
	e.buf = append(e.buf, ';')
}
