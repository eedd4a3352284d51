package gateway

import "strings"

// component is a part of a URL with its own set of bytes to escape.
type component uint8

const (
	inPath component = 1 << iota
	inQuery
	inFragment
)

// escapeSet says in which components an ASCII byte is escaped: the sets of
// the WHATWG URL standard, so that a browser changes nothing any more. Where
// versions of the standard differ (^ and | in paths), it is escaped, which
// all of them leave alone.
var escapeSet = func() (set [128]component) {
	for c, in := range map[byte]component{
		'"': inPath | inQuery | inFragment,
		'<': inPath | inQuery | inFragment,
		'>': inPath | inQuery | inFragment,
		'`': inPath | inFragment,
		'{': inPath, '}': inPath, '^': inPath, '|': inPath,
		'\'': inQuery,
	} {
		set[c] = in
	}
	return set
}()

const upperHex = "0123456789ABCDEF"

// escape appends s with every byte escaped that must be. Escapes already
// there stay as they are.
func escape(b *strings.Builder, s string, in component) {
	start := 0
	for i := range len(s) {
		if c := s[i]; c >= 0x80 || escapeSet[c]&in != 0 {
			b.WriteString(s[start:i])
			b.WriteByte('%')
			b.WriteByte(upperHex[c>>4])
			b.WriteByte(upperHex[c&15])
			start = i + 1
		}
	}
	b.WriteString(s[start:])
}

// unescape takes off one layer of escapes. A percent sign that begins none
// stays, as in PHP. Without any escape it returns s itself.
func unescape(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	start := 0
	for i := 0; i+2 < len(s); i++ {
		if s[i] != '%' {
			continue
		}
		hi, lo := hexValue(s[i+1]), hexValue(s[i+2])
		if hi > 15 || lo > 15 {
			continue
		}
		b.WriteString(s[start:i])
		b.WriteByte(hi<<4 | lo)
		i += 2
		start = i + 1
	}
	if start == 0 {
		return s
	}
	b.WriteString(s[start:])
	return b.String()
}

// Layers returns s, and what is left of it when escapes are taken off once,
// twice and so on, n times at most, until there is nothing left to take off. A
// percent sign that begins no escape stays, as in PHP.
func Layers(s string, n int) []string {
	all := []string{s}
	for range n {
		next := unescape(s)
		if next == s {
			break
		}
		all, s = append(all, next), next
	}
	return all
}

// wellEscaped reports whether every percent sign begins an escape.
func wellEscaped(s string) bool {
	for {
		i := strings.IndexByte(s, '%')
		if i < 0 {
			return true
		}
		if len(s) < i+3 || hexValue(s[i+1]) > 15 || hexValue(s[i+2]) > 15 {
			return false
		}
		s = s[i+3:]
	}
}

// hexValue returns the value of a hexadecimal digit, or 255.
func hexValue(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 255
}

// writeQuery appends a query and turns &amp; between parameters into &:
// Moodle escapes the links of its HTML mails for the page and then again for
// the URL. Links that went through two such mills are repaired too.
func writeQuery(b *strings.Builder, query string) {
	for {
		i := strings.Index(query, "&amp;")
		if i < 0 {
			escape(b, query, inQuery)
			return
		}
		escape(b, query[:i+1], inQuery)
		query = query[i+len("&amp;"):]
		for strings.HasPrefix(query, "amp;") {
			query = query[len("amp;"):]
		}
	}
}
