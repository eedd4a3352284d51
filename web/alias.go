package web

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"jumpgate/gateway"
)

// host is what answers to a Host header: a site, at its wwwroot, under former
// or second addresses, or both.
type host struct {
	site    *Site
	itself  bool // the site's wwwroot is here
	aliases []*alias
}

// alias is a former or second address of a site.
type alias struct {
	root gateway.Wwwroot
	site *Site
	ours http.Handler // what of us is served here too

	redirect func(w http.ResponseWriter, r *http.Request, status int, location string)
}

// alias returns the alias that a path belongs to, or nil if it belongs to the
// wwwroot itself or to nobody. Where one lies below the other, the longer one
// counts. A wwwroot that only changed its scheme is never told from its alias:
// nothing that arrives here says what the browser used.
func (h *host) alias(path string) *alias {
	var found *alias
	longest := -1
	if root := h.site.Wwwroot.Path(); h.itself && below(root, path) {
		longest = len(root)
	}
	for _, a := range h.aliases {
		if root := a.root.Path(); len(root) > longest && below(root, path) {
			longest, found = len(root), a
		}
	}
	return found
}

// below reports whether a path lies below that of a wwwroot.
func below(root, path string) bool {
	rest, ok := strings.CutPrefix(path, root)
	return ok && (rest == "" || rest[0] == '/')
}

// hostsOf returns the Host headers that name a wwwroot: its own host, and the
// same with the port that browsers leave out.
func hostsOf(w gateway.Wwwroot) []string {
	name := w.Host()
	switch {
	case strings.LastIndexByte(name, ':') > strings.LastIndexByte(name, ']'): // it has another port
		return []string{name}
	case w.Scheme() == "https":
		return []string{name, name + ":443"}
	}
	return []string{name, name + ":80"}
}

// at returns the entry of a Host header, made for the site if there is none.
func (h *Handler) at(name string, site *Site) *host {
	if h.hosts[name] == nil {
		h.hosts[name] = &host{site: site}
	}
	return h.hosts[name]
}

// ServeHTTP serves what peers need under the names they know, and takes
// everybody else to the same page of the wwwroot. Answers that lead there may
// not be kept: addresses hold tokens, and an alias may become a site again.
func (a *alias) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// Who lands under an old name is logged in under the new one.
	if p := ourPath(a.root, r.URL.Path); p != "" && p != gateway.Moodle.LandPath() {
		a.ours.ServeHTTP(w, a.atSite(r))
		return
	}
	unread(w, r)
	rest, ok := strings.CutPrefix(r.URL.EscapedPath(), a.root.Path())
	if !ok { // the alias itself is written with escapes
		rest = (&url.URL{Path: r.URL.Path[len(a.root.Path()):]}).EscapedPath()
	}
	to := a.site.Wwwroot.String() + "/" + strings.TrimPrefix(rest, "/")
	if r.URL.RawQuery != "" {
		to += "?" + r.URL.RawQuery
	}
	status := http.StatusMovedPermanently
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		status = http.StatusPermanentRedirect // with the same method and body
	}
	a.redirect(w, r, status, to)
}

// atSite returns r as if it had been sent to the wwwroot: a Moodle behind knows
// no other name.
func (a *alias) atSite(r *http.Request) *http.Request {
	out, u := r.WithContext(r.Context()), *r.URL
	u.Path, u.RawPath = a.site.Wwwroot.Path()+r.URL.Path[len(a.root.Path()):], ""
	out.Host, out.URL, out.RequestURI = a.site.Wwwroot.Host(), &u, u.RequestURI()
	return out
}

// forward serves our jump address under an alias.
func (h *Handler) forward(site *Site) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		forward := site.IDP.Forward
		if site.Guard != nil {
			forward = site.Guard.Forward
		}
		h.answer(w, r, site, "alias", forward(r), start)
	}
}
