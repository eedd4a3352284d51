package mail

import (
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

const maxAddress = 512 // bytes, as it is written

// envelope returns an address as a command may carry it, or false if none may.
// go-smtp takes the quotes off the part before the @ and puts none on: what was
// quoted could become a parameter of the command, or another address.
func envelope(address string) (string, bool) {
	at := strings.LastIndexByte(address, '@')
	if at < 1 || at == len(address)-1 || len(address) > maxAddress || !utf8.ValidString(address) || strings.ContainsFunc(address, unicode.IsControl) {
		return "", false
	}
	local, domain := address[:at], address[at+1:]
	if strings.ContainsFunc(domain, func(c rune) bool {
		return c < utf8.RuneSelf && !isAtom(c, "-._:[]") || unicode.IsSpace(c)
	}) {
		return "", false
	}
	if strings.ContainsFunc(local, func(c rune) bool {
		return c < utf8.RuneSelf && !isAtom(c, "!#$%&'*+-/=?^_`{|}~.") || unicode.IsSpace(c)
	}) {
		local = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(local) + `"`
	}
	return local + "@" + domain, true
}

func isAtom(c rune, others string) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune(others, c)
}

// printable makes what the next server said fit to be said again.
func printable(s string) string {
	if len(s) > maxAddress {
		s = s[:maxAddress]
	}
	return strings.Map(func(c rune) rune {
		if c == '\n' || c >= ' ' && c <= '~' {
			return c
		}
		return '?'
	}, s)
}

// guardedReader stops a mail in which a dot follows a carriage return alone:
// some servers take that for the beginning of a line, and so perhaps for the end
// of the mail and what follows for commands. A line feed alone leaves as a whole
// line end, with the dot doubled.
type guardedReader struct {
	r   io.Reader
	cr  bool
	err error // that reading ended with, but io.EOF
}

func (g *guardedReader) Read(p []byte) (int, error) {
	if g.err != nil {
		return 0, g.err
	}
	n, err := g.r.Read(p)
	for _, c := range p[:n] {
		if g.cr && c == '.' {
			err, n = errBareCR, 0
			break
		}
		g.cr = c == '\r'
	}
	if err != nil && err != io.EOF {
		g.err = err
	}
	return n, err
}
