package moodletest

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"jumpgate/gateway/mnet"
)

// node is an element as PHP's SimpleXML gives it to Mahara: unlike Moodle's
// parser it wants a well-formed document, knows elements by their place and
// letter case, and takes the first of several. A prefixed element is not seen,
// save the root.
type node struct {
	name     string
	text     string // its own, not that of elements inside
	children []*node
}

// parseNode is new SimpleXMLElement($doc), which does not forgive blanks in
// front of an XML declaration.
func parseNode(doc []byte) (*node, error) {
	if !bytes.HasPrefix(doc, []byte("<?xml")) && bytes.HasPrefix(bytes.TrimLeft(doc, " \t\r\n"), []byte("<?xml")) {
		return nil, errors.New("an XML declaration is allowed only at the start of the document")
	}
	d := xml.NewDecoder(bytes.NewReader(doc))
	d.CharsetReader = charset
	top := &node{}
	open, names := []*node{top}, []xml.Name{{}}
	for {
		t, err := d.RawToken()
		if err == io.EOF && len(open) == 1 && len(top.children) == 1 && phpTrim(top.text) == "" {
			return top.children[0], nil
		}
		if err != nil {
			return nil, errors.New("string could not be parsed as XML")
		}
		last := len(open) - 1
		switch t := t.(type) {
		case xml.StartElement:
			n := &node{name: t.Name.Local}
			if t.Name.Space != "" && last > 0 {
				n.name = t.Name.Space + ":" + n.name
			}
			open[last].children = append(open[last].children, n)
			open, names = append(open, n), append(names, t.Name)
		case xml.EndElement:
			if last == 0 || names[last] != t.Name {
				return nil, errors.New("string could not be parsed as XML")
			}
			open, names = open[:last], names[:last]
		case xml.CharData:
			open[last].text += string(t)
		}
	}
}

// get follows a path of names and returns the text at its end, or "".
func (n *node) get(path ...string) string {
	for _, name := range path {
		var next *node
		for _, c := range n.children {
			if c.name == name {
				next = c
				break
			}
		}
		if next == nil {
			return ""
		}
		n = next
	}
	return n.text
}

// The documents of PHP's extension xmlrpc, with which Mahara speaks: other
// white space, blanks inside <value>, empty elements, and every byte that is
// not ASCII as a reference of its own.

func maharaCall(method string, params ...mnet.Value) []byte {
	w := &epiWriter{}
	w.line(0, `<?xml version="1.0" encoding="utf-8"?>`)
	w.line(0, "<methodCall>")
	w.leaf(0, "methodName", method)
	if len(params) == 0 {
		w.line(0, "<params/>")
	} else {
		w.params(params)
	}
	w.line(0, "</methodCall>")
	return w.b.Bytes()
}

func maharaResponse(v mnet.Value) []byte {
	w := &epiWriter{}
	w.line(0, `<?xml version="1.0" encoding="utf-8"?>`)
	w.line(0, "<methodResponse>")
	w.params([]mnet.Value{v})
	w.line(0, "</methodResponse>")
	return w.b.Bytes()
}

type epiWriter struct{ b bytes.Buffer }

func (w *epiWriter) line(depth int, s string) {
	w.b.WriteString(strings.Repeat(" ", depth))
	w.b.WriteString(s)
	w.b.WriteByte('\n')
}

func (w *epiWriter) leaf(depth int, name, text string) {
	if text == "" {
		w.line(depth, "<"+name+"/>")
		return
	}
	w.line(depth, "<"+name+">"+epiEscape(text)+"</"+name+">")
}

func (w *epiWriter) params(params []mnet.Value) {
	w.line(0, "<params>")
	for _, p := range params {
		w.line(1, "<param>")
		w.value(2, p)
		w.line(1, "</param>")
	}
	w.line(0, "</params>")
}

func (w *epiWriter) value(depth int, v mnet.Value) {
	w.line(depth, "<value>")
	switch v := v.(type) {
	case bool:
		w.leaf(depth+1, "boolean", mnet.Text(v))
	case int:
		w.leaf(depth+1, "int", strconv.Itoa(v))
	case mnet.Array:
		w.line(depth+1, "<array>")
		if len(v) == 0 {
			w.line(depth+2, "<data/>")
		} else {
			w.line(depth+2, "<data>")
			for _, item := range v {
				w.value(depth+3, item)
			}
			w.line(depth+2, "</data>")
		}
		w.line(depth+1, "</array>")
	case mnet.Struct:
		w.line(depth+1, "<struct>")
		for _, m := range v {
			w.line(depth+2, "<member>")
			w.leaf(depth+3, "name", m.Name)
			w.value(depth+3, m.Value)
			w.line(depth+2, "</member>")
		}
		w.line(depth+1, "</struct>")
	default:
		w.leaf(depth+1, "string", mnet.Text(v))
	}
	w.line(depth, "</value>")
}

func epiEscape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || strings.IndexByte(`&"<>`, c) >= 0 {
			fmt.Fprintf(&b, "&#%02d;", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// latin1 is what xmlrpc_decode, which Mahara calls without naming an encoding,
// makes of every string in an answer: what ISO-8859-1 has becomes one byte,
// everything else stays UTF-8. So the é of a sender that escapes characters
// breaks, and that of one which escapes bytes, as this extension does, does not.
func latin1(v mnet.Value) mnet.Value {
	switch v := v.(type) {
	case string:
		var b []byte
		for _, r := range v {
			if r < 0x100 {
				b = append(b, byte(r))
			} else {
				b = utf8.AppendRune(b, r)
			}
		}
		return string(b)
	case mnet.Array:
		list := mnet.Array{}
		for _, item := range v {
			list = append(list, latin1(item))
		}
		return list
	case mnet.Struct:
		fields := mnet.Struct{}
		for _, m := range v {
			fields = append(fields, mnet.Member{Name: m.Name, Value: latin1(m.Value)})
		}
		return fields
	}
	return v
}

// maharaSeal and maharaSign return Mahara's envelopes, which differ from
// Moodle's in an element X1 and in an address where no key can be had.
func maharaSeal(sealed []byte) []byte {
	return bytes.Replace(sealed, []byte("</wwwroot>\n    </encryptedMessage>"),
		[]byte("</wwwroot>\n        <X1>nothing</X1>\n    </encryptedMessage>"), 1)
}

func maharaSign(signed []byte) []byte {
	return bytes.Replace(signed, []byte("/mnet/publickey.php"), []byte("/api/xmlrpc/publickey.php"), 1)
}
