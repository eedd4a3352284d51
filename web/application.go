package web

import (
	"bytes"
	_ "embed"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"jumpgate/gateway/audit"
	"jumpgate/gateway/proxy"
	"jumpgate/sp"
)

// The addresses, below the wwwroot, of a site whose application is no Moodle.
const (
	authPath   = "/jumpgate/auth"
	logoutPath = "/jumpgate/logout"
)

// keySetAge is how long others may keep the key set: a new key is in it a month
// before it signs, unless an administrator has made it.
const keySetAge = "public, max-age=300"

//go:embed templates/logout.html
var logoutHTML string

var logoutTemplate = template.Must(template.New("logout").Parse(logoutHTML))

var notLoggedIn = problem{http.StatusUnauthorized, "Please log in",
	"This page is for those who are logged in.", "Follow a link to it from your home site, or from a mail."}

// application routes what a site has that is no Moodle.
func (h *Handler) application(site *Site, route func(path string, methods []string, next http.Handler)) {
	read := []string{http.MethodGet, http.MethodHead}
	route(sp.KeySetPath, read, withoutBody(h.keySet(site, site.Landings.App.Assertions)))
	route(authPath, read, withoutBody(h.auth(site)))
	route(logoutPath, read, withoutBody(askLogout(site)))
	route(logoutPath, []string{http.MethodPost}, form(site, h.logout(site)))
}

// isWellKnown reports whether a request asks a site for what we publish about it.
// Whatever else may mean the same is the application's: there is nothing to protect.
func (site *Site) isWellKnown(r *http.Request) bool {
	page, ok := strings.CutPrefix(r.URL.Path, site.Wwwroot.Path())
	switch {
	case !ok:
		return false
	case site.Provider != nil:
		return page == sp.KeySetPath || page == sp.DiscoveryPath
	}
	return page == sp.KeySetPath && site.Landings != nil && site.Landings.App != nil
}

// asLearner passes a request on and tells the application who makes it. While that
// cannot be found out, nobody is told that it is nobody.
func (h *Handler) asLearner(w http.ResponseWriter, r *http.Request, site *Site) {
	assertion, err := site.Landings.App.Assertion(r)
	switch {
	case err != nil:
		h.unasserted(w, r, site, err)
	case assertion != "" && mayLast(r):
		r, stop := site.Landings.App.Lasting(r)
		defer stop()
		site.Proxy.ServeAs(w, r, assertion, personal)
	case assertion != "":
		site.Proxy.ServeAs(w, r, assertion, personal)
	case site.Bounces != nil && site.Bounces.Watches(r):
		site.Proxy.Serve(w, r, site.bounce)
	default:
		site.Proxy.ServeHTTP(w, r)
	}
}

// mayLast reports whether what a request asks for goes on for hours, as websockets and
// event streams do.
func mayLast(r *http.Request) bool {
	return len(r.Header["Upgrade"]) > 0 || slices.ContainsFunc(r.Header["Accept"], func(v string) bool { return strings.Contains(v, "text/event-stream") })
}

// personal marks an answer as made for who has asked: the application does not see
// the cookie that makes the difference.
func personal(_ http.ResponseWriter, _ *http.Request, res *http.Response) bool {
	res.Header.Add("Vary", "Cookie")
	return false
}

func (h *Handler) unasserted(w http.ResponseWriter, r *http.Request, site *Site, err error) {
	unread(w, r)
	h.failed(r, site, "who makes a request could not be found out", err)
	writeProblem(w, r, notReady, site.Wwwroot.String(), nil)
}

// auth tells a web server in front of the application who makes a request: 200 with
// an assertion, or 401. That is all that nginx asks for. Others pass on to the
// browser what is not 2xx; for them, with redirect=1, a learner who may log in is
// led to where that is done, and brought back to the page by way of their home.
func (h *Handler) auth(site *Site) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		assertion, err := site.Landings.App.Assertion(r)
		switch {
		case err != nil:
			h.unasserted(w, r, site, err)
			return
		case assertion != "":
			guardPage(w.Header())
			w.Header().Set(proxy.AssertionHeader, assertion)
			w.WriteHeader(http.StatusOK)
			return
		}
		if site.Bounces != nil && r.URL.RawQuery == "redirect=1" && site.Bounces.Watches(r) && h.asksForPage(r) {
			if a, ok := site.Bounces.Away(r, h.pageOf(site, r)); ok {
				h.leadAway(w, r, site, a, start)
				return
			}
		}
		writeProblem(w, r, notLoggedIn, "", nil)
	}
}

// leadAway sends a learner home, or to the page that asks where that is. It must
// never answer with that page itself, whose status would let the request pass.
func (h *Handler) leadAway(w http.ResponseWriter, r *http.Request, site *Site, a sp.Bounce, start time.Time) {
	if !a.Asks() {
		h.bounced(w, r, site, "bounce", a, start)
		return
	}
	to := site.Wwwroot.String() + sp.HomePath + "?wantsurl=" + url.QueryEscape(a.Page.String())
	if err := h.redirect(w, r, site, http.StatusSeeOther, to); err != nil {
		h.failed(r, site, "nobody is led to the page that asks where they come from", err)
	}
}

// asksForPage reports whether what a web server asks about is a GET.
func (h *Handler) asksForPage(r *http.Request) bool {
	method := r.Header["X-Forwarded-Method"]
	return len(method) == 0 || len(method) == 1 && method[0] == http.MethodGet
}

// pageOf returns the page that a web server asks about, if it may be believed, or
// the front page.
func (h *Handler) pageOf(site *Site, r *http.Request) string {
	if uri := r.Header["X-Forwarded-Uri"]; len(uri) == 1 && h.trust.Direct(r) {
		return uri[0]
	}
	return site.Wwwroot.Path() + "/"
}

// asked returns the host that a web server in front asks about, if it asks for a
// check of ours under another one, and may be believed.
func (h *Handler) asked(r *http.Request) *host {
	if names := r.Header["X-Forwarded-Host"]; len(names) == 1 && h.trust.Direct(r) {
		if at := h.named(names[0]); at != nil && ourPath(at.site.Wwwroot, r.URL.Path) == authPath {
			return at
		}
	}
	return nil
}

// keySet serves the public keys of assertions.
func (h *Handler) keySet(site *Site, keys *sp.Assertions) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		set, err := keys.KeySet()
		if err != nil {
			h.failed(r, site, "key set", err)
			writeProblem(w, r, notReady, site.Wwwroot.String(), nil)
			return
		}
		guardPage(w.Header())
		w.Header().Set("Cache-Control", keySetAge)
		writeText(w, r, http.StatusOK, "application/jwk-set+json", set)
	}
}

// askLogout is a page with a button, so that no link or picture logs anybody out.
func askLogout(site *Site) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var page bytes.Buffer
		err := logoutTemplate.Execute(&page, map[string]any{
			"Site": site.Wwwroot.Host() + site.Wwwroot.Path(), "Action": site.Wwwroot.String() + logoutPath, "Home": site.Wwwroot.String(),
			"Style": template.CSS(style),
		})
		if err != nil { // the template and its data are our own
			panic(err)
		}
		guardPage(w.Header())
		w.Header().Set("Content-Security-Policy", contentPolicy("'self'"))
		w.Header().Set("Referrer-Policy", "same-origin")
		writePage(w, r, http.StatusOK, page.Bytes())
	}
}

// logout ends a session, here and at home, and leads the learner there. If the home may
// not be led to (any more), the front page will do.
func (h *Handler) logout(site *Site) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		unread(w, r)
		d, gone, err := site.Landings.App.Leave(r)
		if err != nil {
			h.unasserted(w, r, site, err)
			return
		}
		if !d.Visit.Home.IsZero() {
			h.left(r, site, d, start)
		}
		http.SetCookie(w, gone)
		if site.Bounces != nil {
			http.SetCookie(w, site.Bounces.LoggedOut())
		}
		if d.Location != "" && site.mayLead(d.Location, time.Now()) {
			writeDeparture(w, r, d.Home.Label(), d.Location)
			return
		}
		if err := h.redirect(w, r, site, http.StatusSeeOther, site.Wwwroot.String()+"/"); err != nil {
			h.failed(r, site, "nobody is led to the front page", err)
		}
	}
}

// left tells of a session that a learner has ended here. What becomes of the one at
// home ObserveLogouts tells.
func (h *Handler) left(r *http.Request, site *Site, d sp.Departure, start time.Time) {
	home, user := d.Visit.Home.String(), d.Visit.Account
	h.log.LogAttrs(r.Context(), slog.LevelInfo, "logout", slog.String("site", site.Wwwroot.String()), slog.String("request", RequestID(r)),
		slog.String("home", home), slog.String("user", user), slog.String("cause", "logout"), slog.String("outcome", "ended"))
	h.metrics.logouts.WithLabelValues(site.Wwwroot.String(), home, "logout", "ended").Inc()
	site.Trail.Note(audit.Event{
		Kind: audit.KindLogout, Site: site.Wwwroot.String(), Request: RequestID(r), Client: h.trust.Client(r).String(),
		Peer: home, Step: "logout", User: user, Outcome: "ended", Latency: time.Since(start).Microseconds(),
	})
}

// noJumps answers at a site from which nobody jumps: it has no learners of its own.
func noJumps(site *Site) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, r, noSuchPage, site.Wwwroot.String(), nil)
	}
}
