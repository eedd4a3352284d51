package gateway

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Origin says where the click came from that began a jump, in the words of
// the header Sec-Fetch-Site (W3C Fetch Metadata). They are stable: logs and
// metrics carry them.
type Origin string

// Origins of a jump. A browser that was redirected on the way says the least
// trustworthy of all that it met.
const (
	OriginOwn   Origin = "same-origin"
	OriginNear  Origin = "same-site" // another host of the site's domain
	OriginNone  Origin = "none"      // no page at all: an address bar, a bookmark, a mail program
	OriginCross Origin = "cross-site"
)

// Foreign reports whether somebody else's page may have sent the browser:
// whatever is not known to be the learner's own click.
func (o Origin) Foreign() bool {
	return o != OriginOwn && o != OriginNear && o != OriginNone
}

// Navigation reports whether a request with these headers can be what the
// learner looks at: not a script's, a picture's or a frame's, and not a page
// fetched in advance.
func Navigation(h http.Header) bool {
	// Browsers inside Android apps say there which app it is.
	if strings.EqualFold(h.Get("X-Requested-With"), "XMLHttpRequest") ||
		h.Get("Sec-Purpose") != "" || h.Get("Purpose") != "" || h.Get("X-Moz") != "" {
		return false
	}
	dest := h.Get("Sec-Fetch-Dest")
	return dest == "" || dest == "document"
}

// OriginOf reads where a request came from off its headers: Sec-Fetch-Site,
// which no page can forge, else Origin, else Referer, which are compared with
// the names of the site. With nothing to go by it is cross-site.
func OriginOf(h http.Header, names ...Wwwroot) Origin {
	if said := h["Sec-Fetch-Site"]; len(said) > 0 {
		if o := Origin(said[0]); len(said) == 1 && !o.Foreign() {
			return o
		}
		return OriginCross
	}
	from := h.Get("Origin")
	if len(h["Origin"]) == 0 {
		referer, err := url.Parse(h.Get("Referer"))
		if err != nil || referer.Opaque != "" || referer.User != nil {
			return OriginCross
		}
		from = referer.Scheme + "://" + referer.Host
	}
	w, err := ParseWwwroot(from)
	if err == nil && slices.ContainsFunc(names, func(name Wwwroot) bool { return name.Origin() == w.Origin() }) {
		return OriginOwn
	}
	return OriginCross
}
