package proxy

import (
	"net/http"
	"net/url"
	"strings"
)

// target returns path and query as they came. A blank, which HTTP/2 can
// carry and HTTP/1 cannot, is escaped.
func target(r *http.Request) string {
	t := r.RequestURI
	if t == "" || t[0] != '/' { // absolute form, asterisk form
		t = r.URL.RequestURI()
	}
	if strings.IndexByte(t, ' ') >= 0 {
		t = strings.ReplaceAll(t, " ", "%20")
	}
	return t
}

// setTarget makes u.RequestURI return target. What begins with two slashes
// cannot be Opaque, which would make it a host; there, bytes that a path may
// not hold are escaped.
func setTarget(u *url.URL, target string) {
	if !strings.HasPrefix(target, "//") {
		u.Opaque = target
		return
	}
	path, query, found := strings.Cut(target, "?")
	u.RawPath = escapeInvalid(path)
	u.Path, _ = url.PathUnescape(u.RawPath)
	u.RawQuery, u.ForceQuery = query, found
}

func escapeInvalid(path string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(path) {
		c := path[i]
		if c > 0x20 && c < 0x7f && !strings.ContainsRune("\"#<>?\\^`{|}", rune(c)) {
			b.WriteByte(c)
			continue
		}
		b.Write([]byte{'%', hex[c>>4], hex[c&15]})
	}
	return b.String()
}
