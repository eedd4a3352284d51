package web

import (
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"
)

// errStray is a redirect of ours that leads where none may lead: a fault of
// ours, since everything that gets here was decided on.
var errStray = errors.New("a redirect of our own was stopped: it leads neither to the site nor to a peer nor to its login provider")

// mayLead is the last line of defence behind gateway.Decide: whatever came
// about on the way, nobody leaves for anything but a page of the site itself,
// one below the wwwroot of a peer, or the login of the site's OpenID provider.
func (site *Site) mayLead(location string, now time.Time) bool {
	if strings.ContainsFunc(location, func(c rune) bool { return c < 0x21 || c == 0x7f }) {
		return false
	}
	return strings.HasPrefix(location, site.Wwwroot.String()+"/") ||
		site.Peers.Covers(location, now) ||
		site.IDP != nil && site.IDP.LeadsToLogin(location)
}

// redirect answers with a redirect that may lead where it leads. An error means
// that it was answered with a page instead.
func (h *Handler) redirect(w http.ResponseWriter, r *http.Request, site *Site, status int, location string) error {
	if !site.mayLead(location, time.Now()) {
		writeProblem(w, r, stray, site.Wwwroot.String(), nil)
		return errStray
	}
	writeRedirect(w, status, location)
	return nil
}

// writeRedirect is the one place where a redirect of ours is written, after
// mayLead. It has no body: the address may hold a token, and what is not
// written cannot be cached, saved or prefetched.
func writeRedirect(w http.ResponseWriter, status int, location string) {
	header := w.Header()
	guardAnswer(header)
	header.Set("Location", location)
	header.Set("Content-Length", "0")
	w.WriteHeader(status)
}

// aliasRedirect is redirect for the pages of a site's aliases.
func (h *Handler) aliasRedirect(site *Site) func(http.ResponseWriter, *http.Request, int, string) {
	return func(w http.ResponseWriter, r *http.Request, status int, location string) {
		if err := h.redirect(w, r, site, status, location); err != nil {
			h.log.LogAttrs(r.Context(), slog.LevelError, "alias", slog.String("site", site.Wwwroot.String()),
				slog.String("request", RequestID(r)), slog.Any("error", err))
		}
	}
}
