package mail

import (
	"bytes"
	"strings"

	"golang.org/x/net/html"
)

// htmlFinder finds the values of href in HTML. It walks through tags as the
// WHATWG standard's tokenizer does, as far as that matters, and keeps nothing but
// the value: the tokenizer of x/net/html would keep a whole tag, which may have
// megabytes of a picture in it. The tests compare the two.
type htmlFinder struct {
	found
	jump    func(string) (string, bool)
	unicode bool // bytes beyond ASCII are UTF-8

	state   htmlState
	name    []byte // of the tag, in lower case, as far as it matters
	starts  bool   // the tag is a start tag
	attr    []byte // name of the attribute, likewise
	isHref  bool   // that attribute is the first href of the tag: others do not count
	hadHref bool
	quote   byte   // around the value; 0 for none
	value   []byte // of href, raw
	from    int64  // where it begins
	keeping bool   // value and from are of use
	dashes  int    // before this byte of a comment; -1 after --!
	young   bool   // the comment has had nothing but dashes
	raw     []byte // what ends the text of a script or the like
	matched int    // bytes of raw
}

type htmlState int

const (
	inText htmlState = iota
	inRaw
	inPlain
	afterLess   // <
	afterSlash  // </
	afterBang   // <!
	afterDash   // <!-
	inComment   // <!--
	inBogus     // up to >
	inTagName   //
	beforeAttr  //
	inAttr      //
	afterAttr   // and blanks
	beforeValue // =
	inValue     //
	afterValue  // quoted
)

func (t *htmlFinder) settled() int64 {
	if t.keeping {
		return t.from
	}
	return t.off
}

func (t *htmlFinder) end() { t.keeping = false }

func (t *htmlFinder) write(p []byte) {
	for len(p) > 0 {
		if t.state == inText { // most of it
			n := bytes.IndexByte(p, '<')
			if n < 0 {
				n = len(p)
			}
			if t.off, p = t.off+int64(n), p[n:]; len(p) == 0 {
				return
			}
		}
		t.state = t.next(p[0])
		t.off++
		p = p[1:]
	}
}

const maxName = 16 // bytes of a name that matters

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		c |= 0x20
	}
	return c
}

func isLetter(c byte) bool { return lower(c) >= 'a' && lower(c) <= 'z' }

func isBlank(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' && c != '\v' }

// next takes a byte and returns the state after it.
func (t *htmlFinder) next(c byte) htmlState {
	switch t.state {
	case inText:
		return afterLess // the only byte that gets here
	case inRaw:
		return t.rawText(c)
	case inPlain:
		return inPlain
	case afterLess, afterSlash:
		return t.opening(c)
	case afterBang:
		if c == '-' {
			return afterDash
		}
		return t.bogus(c)
	case afterDash:
		if c == '-' {
			t.dashes, t.young = 2, true // <!--> is a comment already
			return inComment
		}
		return t.bogus(c)
	case inComment:
		return t.comment(c)
	case inBogus:
		return t.bogus(c)
	case inTagName:
		if !isBlank(c) && c != '/' && c != '>' {
			t.name = keepName(t.name, c)
			return inTagName
		}
		return t.attribute(c)
	case inValue:
		return t.inValue(c)
	case beforeValue:
		return t.beforeValue(c)
	}
	return t.attribute(c)
}

func keepName(name []byte, c byte) []byte {
	if len(name) < maxName {
		name = append(name, lower(c))
	}
	return name
}

// opening is after "<" or "</".
func (t *htmlFinder) opening(c byte) htmlState {
	switch {
	case isLetter(c):
		t.name, t.starts, t.hadHref = keepName(t.name[:0], c), t.state == afterLess, false
		return inTagName
	case t.state == afterSlash:
		return t.bogus(c)
	case c == '/':
		return afterSlash
	case c == '!':
		return afterBang
	case c == '?':
		return inBogus
	case c == '<':
		return afterLess
	}
	return inText
}

func (t *htmlFinder) bogus(c byte) htmlState {
	if c == '>' {
		return inText
	}
	return inBogus
}

// comment ends with -->, with --!> or, at its beginning, sooner.
func (t *htmlFinder) comment(c byte) htmlState {
	switch {
	case c == '-' && t.dashes < 0:
		t.dashes = 1
	case c == '-':
		t.dashes++
	case c == '>' && (t.dashes >= 2 || t.dashes < 0):
		return inText
	case c == '!' && t.dashes >= 2 && (!t.young || t.dashes >= 4):
		t.dashes, t.young = -1, false
	default:
		t.dashes, t.young = 0, false
	}
	return inComment
}

// attribute is within a tag and outside of names and values.
func (t *htmlFinder) attribute(c byte) htmlState {
	if t.state == inAttr && (c == '=' || c == '>' || c == '/' || isBlank(c)) {
		named := string(t.attr) == "href"
		t.isHref, t.hadHref = named && !t.hadHref, t.hadHref || named
	}
	switch {
	case t.state == afterAttr && c == '=', t.state == inAttr && c == '=':
		return beforeValue
	case c == '>':
		return t.tagEnds()
	case c == '/':
		return beforeAttr
	case isBlank(c) && (t.state == inAttr || t.state == afterAttr):
		return afterAttr
	case isBlank(c):
		return beforeAttr
	case t.state == inAttr:
		t.attr = keepName(t.attr, c)
		return inAttr
	}
	t.attr = keepName(t.attr[:0], c)
	return inAttr
}

func (t *htmlFinder) beforeValue(c byte) htmlState {
	switch {
	case isBlank(c):
		return beforeValue
	case c == '>':
		return t.tagEnds()
	}
	// Addresses that other addresses are relative to, and those of style sheets,
	// are no links.
	name := string(t.name)
	t.keeping = t.starts && t.isHref && name != "base" && name != "link"
	t.value, t.from, t.quote = t.value[:0], t.off, 0
	if c == '"' || c == '\'' {
		t.quote, t.from = c, t.off+1
		return inValue
	}
	return t.inValue(c)
}

func (t *htmlFinder) inValue(c byte) htmlState {
	switch {
	case t.quote == 0 && (isBlank(c) || c == '>'):
		t.link()
		if c == '>' {
			return t.tagEnds()
		}
		return beforeAttr
	case t.quote != 0 && c == t.quote:
		t.link()
		return afterValue
	case len(t.value) == maxLink:
		t.keeping = false
	case t.keeping:
		t.value = append(t.value, c)
	}
	return inValue
}

// tagEnds is after ">".
func (t *htmlFinder) tagEnds() htmlState {
	if t.starts {
		switch name := string(t.name); name {
		case "script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes":
			t.raw, t.matched = []byte("</"+name), 0
			return inRaw
		case "plaintext": // to the end
			return inPlain
		}
	}
	return inText
}

// rawText is where no tag counts but the end tag.
func (t *htmlFinder) rawText(c byte) htmlState {
	if t.matched == len(t.raw) && (isBlank(c) || c == '/' || c == '>') {
		t.starts, t.state = false, inTagName
		return t.attribute(c)
	}
	if t.matched < len(t.raw) && lower(c) == t.raw[t.matched] {
		t.matched++
	} else if t.matched = 0; c == '<' {
		t.matched = 1
	}
	return inRaw
}

// link looks at a value of href.
func (t *htmlFinder) link() {
	if !t.keeping {
		return
	}
	t.keeping = false
	raw := bytes.TrimLeft(t.value, " \t\r\n\f")
	from := t.from + int64(len(t.value)-len(raw))
	raw = bytes.TrimRight(raw, " \t\r\n\f")
	address, ok := t.jump(attribute(raw, t.quote))
	if ok && (t.unicode || isASCII(raw)) {
		t.list = append(t.list, edit{from, from + int64(len(raw)), html.EscapeString(address)})
	}
}

// attribute returns what an attribute's raw value means: there, &copy=1 is no
// copyright sign.
func attribute(raw []byte, quote byte) string {
	if amp := []byte("&amp;"); bytes.Count(raw, amp) == bytes.Count(raw, amp[:1]) { // nearly always
		return string(bytes.ReplaceAll(raw, amp, amp[:1]))
	}
	if quote == 0 {
		quote = '"'
		raw = bytes.ReplaceAll(raw, []byte(`"`), []byte("&quot;"))
	}
	z := html.NewTokenizer(strings.NewReader("<a href=" + string(quote) + string(raw) + string(quote) + ">"))
	z.Next()
	z.TagName()
	_, value, _ := z.TagAttr()
	return string(value)
}
