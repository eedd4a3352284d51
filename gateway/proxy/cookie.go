package proxy

import "strings"

// ourCookie reports whether a cookie of this name belongs to the gateway. A
// browser treats names as they are, but a clean-up must not be the place
// where letter case matters.
//
// A cookie may have no name, and is sent back as its value alone: what begins
// with "=" is a cookie of ours the next time.
func ourCookie(pair string) bool {
	pair = strings.TrimLeft(pair, " \t=")
	if hasPrefixFold(pair, "__") {
		for _, prefix := range []string{"__Host-", "__Secure-", "__Http-", "__Host-Http-"} {
			if hasPrefixFold(pair, prefix+"jumpgate-") {
				return true
			}
		}
	}
	return hasPrefixFold(pair, "jumpgate-")
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// withoutOurCookies removes the gateway's cookies from the values of Cookie
// fields. All others stay byte for byte; fields left empty go. The values are
// returned as they are, without an allocation, if there is none of ours.
func withoutOurCookies(values []string) []string {
	found := false
	for _, value := range values {
		for pair := range strings.SplitSeq(value, ";") {
			found = found || ourCookie(pair)
		}
	}
	if !found {
		return values
	}
	kept := make([]string, 0, len(values))
	for _, value := range values {
		var b strings.Builder
		for pair := range strings.SplitSeq(value, ";") {
			switch {
			case ourCookie(pair):
			case b.Len() == 0:
				b.WriteString(strings.TrimLeft(pair, " \t"))
			default:
				b.WriteByte(';')
				b.WriteString(pair)
			}
		}
		if b.Len() > 0 {
			kept = append(kept, b.String())
		}
	}
	return kept
}

// WithoutOurSetCookies removes the Set-Cookie values by which an upstream
// would set, or overwrite, a cookie of the gateway.
func WithoutOurSetCookies(values []string) []string {
	kept := values[:0]
	for _, value := range values {
		if !ourCookie(value) {
			kept = append(kept, value)
		}
	}
	return kept
}
