package mail

import (
	"bytes"
	"strings"
	"unicode"
	"unicode/utf8"
)

// textFinder finds links in plain text: whatever has a scheme, up to white
// space or what is put around links, without the marks of a sentence at its end.
type textFinder struct {
	found
	jump    func(string) (string, bool)
	unicode bool // bytes beyond ASCII are UTF-8

	word    []byte // without white space, that is being written
	from    int64  // where it begins
	tooLong bool   // to be a link: the word is not kept
	matched int    // words of the armour line that comes next
	signed  bool   // by PGP, between armour lines
}

func (t *textFinder) settled() int64 {
	if t.tooLong || len(t.word) == 0 {
		return t.off
	}
	return t.from
}

func (t *textFinder) write(p []byte) {
	for _, c := range p {
		switch {
		case c <= ' ' || c == '<' || c == '>' || c == '"':
			t.end()
		case len(t.word) == maxLink:
			t.tooLong, t.word = true, t.word[:0]
		case !t.tooLong:
			if len(t.word) == 0 {
				t.from = t.off
			}
			t.word = append(t.word, c)
		}
		t.off++
	}
}

// end ends a word.
func (t *textFinder) end() {
	if len(t.word) > 0 && !t.tooLong {
		t.armour()
		if !t.signed && bytes.Contains(t.word, []byte("://")) {
			t.links()
		}
	}
	t.word, t.tooLong = t.word[:0], false
}

// The words of the lines between which a text is signed (RFC 9580, section 7).
var (
	armourBegins = []string{"-----BEGIN", "PGP", "SIGNED", "MESSAGE-----"}
	armourEnds   = []string{"-----END", "PGP", "SIGNATURE-----"}
)

func (t *textFinder) armour() {
	line := armourBegins
	if t.signed {
		line = armourEnds
	}
	if string(t.word) != line[t.matched] {
		t.matched = 0
		return
	}
	if t.matched++; t.matched == len(line) {
		t.signed, t.matched = !t.signed, 0
	}
}

// links finds the links in a word. One within the address of something else
// belongs to that.
func (t *textFinder) links() {
	others := afterMailto(t.word)
	for at := 0; ; {
		colon := bytes.Index(t.word[at:], []byte("://"))
		if colon < 0 {
			return
		}
		colon += at
		begin := colon
		for begin > at && isScheme(t.word[begin-1]) {
			begin--
		}
		end := t.linkEnd(colon + 3)
		scheme := t.word[begin:colon]
		if (bytes.EqualFold(scheme, []byte("http")) || bytes.EqualFold(scheme, []byte("https"))) && begin < others {
			link := t.trim(t.word[begin:end])
			if address, ok := t.jump(string(link)); ok && (t.unicode || isASCII(link)) {
				t.list = append(t.list, edit{t.from + int64(begin), t.from + int64(begin+len(link)), address})
			}
		}
		at = end
	}
}

// afterMailto returns where what a mailto: is for begins, or more than there is.
func afterMailto(word []byte) int {
	mailto := []byte("mailto:")
	for i := range len(word) - len(mailto) {
		if bytes.EqualFold(word[i:i+len(mailto)], mailto) {
			return i + len(mailto)
		}
	}
	return len(word)
}

func isScheme(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '+' || c == '-' || c == '.'
}

func isASCII(s []byte) bool {
	return !bytes.ContainsFunc(s, func(c rune) bool { return c >= utf8.RuneSelf })
}

// linkEnd returns where a link ends within the word. Letters may belong to it,
// but not of scripts that put no blank after it; other marks do not.
func (t *textFinder) linkEnd(at int) int {
	for t.unicode && at < len(t.word) {
		c, size := utf8.DecodeRune(t.word[at:])
		if c >= utf8.RuneSelf && c != utf8.RuneError &&
			(!unicode.In(c, unicode.L, unicode.M, unicode.Nd) || unicode.In(c, noBlanks...)) {
			return at
		}
		at += size
	}
	return len(t.word)
}

var noBlanks = []*unicode.RangeTable{
	unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul, unicode.Bopomofo,
	unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar, unicode.Tibetan,
}

// trim cuts what a sentence puts after a link. Brackets belong to the link if
// they were opened in it.
func (t *textFinder) trim(link []byte) []byte {
	for len(link) > 0 {
		c := link[len(link)-1]
		cut := strings.IndexByte(".,;:!?'*`", c) >= 0 || c >= utf8.RuneSelf && !t.unicode
		if i := strings.IndexByte(")]}", c); i >= 0 {
			cut = bytes.Count(link, []byte{c}) > bytes.Count(link, []byte{"([{"[i]})
		}
		if !cut {
			break
		}
		link = link[:len(link)-1]
	}
	return link
}
