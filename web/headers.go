package web

import (
	"net/http"
	"time"

	"jumpgate/gateway"
	"jumpgate/idp"
)

// nothing is the Content-Security-Policy of an answer that is no page.
const nothing = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// guardAnswer sets the headers by which a browser takes an answer of ours for
// what it is, tells nobody about it and does not keep it. A page sets its own
// Content-Security-Policy afterwards.
func guardAnswer(h http.Header) {
	h.Set("Content-Security-Policy", nothing)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
}

// guardPage is guardAnswer for what is no redirect. What these two headers keep
// apart, a redirect of ours has to leave together: a page and the window in
// which it opened a jump, and a page elsewhere with a picture of the site's
// that it names by an alias.
func guardPage(h http.Header) {
	guardAnswer(h)
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
}

// guarded is a handler whose answers have these headers, whatever it writes.
// It is not for what passes Moodle's answers on.
func guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		guardPage(w.Header())
		next.ServeHTTP(w, r)
	})
}

// sameOrigin refuses what a page of another site makes a browser send to us, so
// that no form of ours, now or later, can be filled in by somebody else. Peers'
// calls to the MNet endpoint are no browser's, and are signed.
func (h *Handler) sameOrigin(site *Site, next http.Handler, endpoint string) http.Handler {
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(withoutBody(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.answer(w, r, site, "form", idp.Answer{Rule: gateway.RuleFormForeign, Refused: true, Origin: gateway.OriginCross}, time.Now())
	})))
	protected := protection.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == endpoint {
			next.ServeHTTP(w, r)
			return
		}
		protected.ServeHTTP(w, r)
	})
}
