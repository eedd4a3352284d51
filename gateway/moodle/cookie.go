package moodle

import (
	"net/http"
	"net/url"
	"strings"
)

// WithoutSession returns the values of Cookie fields without what PHP takes for
// the cookie of that name, in any spelling that some PHP does. All others stay
// as they are.
func WithoutSession(values []string, cookie string) []string {
	var kept []string
	for _, value := range values {
		var pairs []string
		for pair := range strings.SplitSeq(value, ";") {
			if pair = strings.TrimSpace(pair); pair != "" && !namesCookie(pair, cookie) {
				pairs = append(pairs, pair)
			}
		}
		if len(pairs) > 0 {
			kept = append(kept, strings.Join(pairs, "; "))
		}
	}
	return kept
}

// namesCookie reports whether PHP may take a pair for the cookie of that name
// or an element of it. Until PHP 7.4.11 it unescaped names too.
func namesCookie(pair, cookie string) bool {
	name, _, _ := strings.Cut(pair, "=")
	for range 2 {
		name = strings.TrimSpace(name)
		if rest, ok := cutCookieName(name, cookie); ok && (rest == "" || rest[0] == '[' || rest[0] == 0) {
			return true
		}
		plain, err := url.QueryUnescape(name)
		if err != nil {
			return false
		}
		name = plain
	}
	return false
}

// ReplacesOther returns the name of a cookie which looks like Moodle's session
// cookie, is not the one of that name, and would be replaced in the browser by
// an answer; or "". It is a sign that the name is wrong.
func ReplacesOther(r *http.Request, h http.Header, cookie string) string {
	for _, line := range h["Set-Cookie"] {
		name, _, _ := strings.Cut(line, "=")
		if name = strings.TrimSpace(name); name == cookie || !strings.HasPrefix(name, DefaultCookie) {
			continue
		}
		if _, err := r.Cookie(name); err == nil {
			return name
		}
	}
	return ""
}

// KeepSession removes from an answer of Moodle's what would set or delete the
// session cookie of that name: the browser keeps the session that it has.
func KeepSession(h http.Header, cookie string) {
	var kept []string
	for _, line := range h["Set-Cookie"] {
		name, _, _ := strings.Cut(line, ";")
		if name, _, _ = strings.Cut(name, "="); strings.TrimSpace(name) != cookie {
			kept = append(kept, line)
		}
	}
	if len(kept) == 0 {
		h.Del("Set-Cookie")
		return
	}
	h["Set-Cookie"] = kept
}
