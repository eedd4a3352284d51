package gateway

import (
	"strings"
	"time"
)

// Covers reports whether an absolute address is one of a peer of the list with
// which the site deals at this time: whether it begins, letter by letter, with
// that peer's wwwroot, and stays below it as a browser reads it. It does not
// ask how the address came about: Decide says where somebody may go, and this
// is the last look of whoever is about to send them there.
func (l *Allowlist) Covers(address string, now time.Time) bool {
	head := before(address, "?#")
	scheme, rest, ok := strings.Cut(head, "://")
	if !ok || l == nil || l.closed || strings.Contains(head, `\`) ||
		strings.ContainsFunc(address, func(c rune) bool { return c < 0x21 || c == 0x7f }) {
		return false
	}
	origin := head[:len(scheme)+len("://")+len(before(rest, "/"))]
	for _, p := range l.byOrigin[origin] {
		below, ok := strings.CutPrefix(head[len(origin):], p.Wwwroot.Path())
		if !ok || below != "" && below[0] != '/' || p.Standing(now) != RuleOK {
			continue
		}
		if resolved, ok := resolveDots(below); ok && resolved == below {
			return true
		}
	}
	return false
}

// before returns s up to the first of the bytes.
func before(s, bytes string) string {
	if i := strings.IndexAny(s, bytes); i >= 0 {
		return s[:i]
	}
	return s
}
