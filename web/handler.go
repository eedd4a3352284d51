// Package web is what a browser meets that is not Moodle: the router, the
// pages, and the one place where decisions become responses, log lines and
// metrics.
package web

import (
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"jumpgate/gateway"
	"jumpgate/gateway/audit"
	"jumpgate/gateway/proxy"
	"jumpgate/gateway/store"
	"jumpgate/idp"
	"jumpgate/sp"
)

// Site is a Moodle with everything that answers at its public address.
type Site struct {
	Wwwroot   gateway.Wwwroot
	Aliases   []gateway.Wwwroot // former or second addresses, which lead to it
	Peers     *gateway.Allowlist
	Proxy     *proxy.Proxy  // everything that is not ours
	IDP       *idp.Provider // nil also where the application is no Moodle
	Guard     *idp.Guard    // in guard mode, which has neither IDP nor PublicKey
	Homes     *sp.Homes
	Bounces   *sp.Bounces // nil if nobody is sent home
	Landings  *sp.Landings
	Provider  *sp.Provider // nil if nobody lands by OAuth 2
	Visits    *sp.Visits   // nil if Moodle itself logs in who lands; those of Landings.App, if there is one
	RPC       http.Handler // the MNet endpoint; nil if MNet is switched off
	PublicKey http.Handler // nil then too
	Trail     *audit.Trail // of decisions; nil for none

	ours        http.Handler
	watch       proxy.Inspect // looks at what Moodle answers
	loginReturn proxy.Inspect // and lets a pending jump take its place
	bounce      proxy.Inspect // does both, and sends learners home
	leave       proxy.Inspect // watches, and sends those home who log out
	requests    prometheus.Counter
}

// Handler routes requests to sites by the host they name. Everything that is
// not ours streams through to the Moodle behind.
type Handler struct {
	hosts   map[string]*host // by Host header
	trust   proxy.Trust
	log     *slog.Logger
	metrics *Metrics
}

// NewHandler returns the handler of all sites.
func NewHandler(sites []*Site, trust proxy.Trust, log *slog.Logger, metrics *Metrics) *Handler {
	h := &Handler{hosts: make(map[string]*host, len(sites)), trust: trust, log: log, metrics: metrics}
	for _, site := range sites {
		jump := h.jump(site)
		if site.Guard != nil {
			jump = h.guardedJump(site)
		}
		site.ours = h.router(site, jump)
		site.watch, site.loginReturn, site.bounce, site.leave = h.watch(site), h.loginReturn(site), h.bounce(site), h.leave(site)
		site.requests = metrics.requests.WithLabelValues(site.Wwwroot.String())
		for _, name := range hostsOf(site.Wwwroot) {
			h.at(name, site).itself = true
		}
		for _, root := range site.Aliases {
			a := &alias{root: root, site: site, ours: h.router(site, h.forward(site)), redirect: h.aliasRedirect(site)}
			for _, name := range hostsOf(root) {
				at := h.at(name, site)
				at.aliases = append(at.aliases, a)
			}
		}
	}
	return h
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	identify(r, h.trust)
	defer h.recovered(r)
	if !wellFormedTarget(r) {
		unread(w, r)
		writeProblem(w, r, badAddress, "", nil)
		return
	}
	at := h.named(r.Host)
	if at == nil {
		at = h.asked(r)
	}
	var former *alias
	if at != nil && len(at.aliases) > 0 {
		former = at.alias(r.URL.Path)
	}
	if at == nil || !at.itself && former == nil {
		unread(w, r)
		writeProblem(w, r, noSuchSite, "", []detail{{"host", printable(r.Host)}})
		return
	}
	site := at.site
	site.requests.Inc()
	switch {
	case former != nil:
		former.ServeHTTP(w, r)
	case site.isOurs(r.URL.Path), site.isWellKnown(r):
		site.ours.ServeHTTP(w, r)
	case site.IDP != nil && site.IDP.Forgets(r) && h.forgot(w, r, site): // which has answered
	case site.Landings != nil && site.Landings.App != nil:
		h.asLearner(w, r, site)
	case site.Visits != nil && site.Visits.Leaves(r):
		site.Proxy.Serve(w, r, site.leave)
	case site.Bounces != nil && site.Bounces.Watches(r):
		site.Proxy.Serve(w, r, site.bounce)
	case site.IDP != nil && site.IDP.Expects(r):
		site.Proxy.Serve(w, r, site.loginReturn)
	case site.Visits != nil, site.IDP != nil && site.IDP.Watches(r):
		site.Proxy.Serve(w, r, site.watch)
	default:
		site.Proxy.ServeHTTP(w, r)
	}
}

// named returns what answers to a Host header, or nil.
func (h *Handler) named(name string) *host {
	if at := h.hosts[name]; at != nil {
		return at
	}
	return h.hosts[strings.ToLower(name)]
}

// recovered logs a fault of ours and ends the connection. A proxied answer
// that breaks off ends in a panic too, which is none.
func (h *Handler) recovered(r *http.Request) {
	switch p := recover(); p {
	case nil:
	case http.ErrAbortHandler:
		panic(p)
	default:
		h.log.LogAttrs(r.Context(), slog.LevelError, "panic", slog.String("request", RequestID(r)),
			slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
		panic(http.ErrAbortHandler)
	}
}

// watch looks at what Moodle answers without ever changing what it says.
func (h *Handler) watch(site *Site) proxy.Inspect {
	return func(_ http.ResponseWriter, r *http.Request, res *http.Response) bool {
		if site.IDP != nil && site.IDP.Watches(r) {
			if err := site.IDP.Watch(r, res); err != nil {
				h.failed(r, site, "identity could not be forgotten", err)
			}
		}
		if site.Visits != nil && site.Landings.App == nil { // which sees who uses what
			site.Visits.Use(r, res)
		}
		return false
	}
}

// failed logs what a page did not wait for. That Redis is down is said once,
// by who watches it.
func (h *Handler) failed(r *http.Request, site *Site, what string, err error) {
	level := slog.LevelError
	if errors.Is(err, store.ErrUnavailable) {
		level = slog.LevelDebug
	}
	h.log.LogAttrs(r.Context(), level, what,
		slog.String("site", site.Wwwroot.String()), slog.String("request", RequestID(r)), slog.Any("error", err))
}

// loginReturn lets the identity provider look at what Moodle answers a
// browser that has a jump pending.
func (h *Handler) loginReturn(site *Site) proxy.Inspect {
	return func(w http.ResponseWriter, r *http.Request, res *http.Response) bool {
		site.watch(w, r, res)
		start := time.Now()
		answer, done := site.IDP.Return(w, r, res)
		if !done {
			if answer.Err != nil {
				h.failed(r, site, "pending jump could not be taken up", answer.Err)
			}
			return false
		}
		for _, cookie := range res.Header["Set-Cookie"] {
			w.Header().Add("Set-Cookie", cookie)
		}
		h.answer(w, r, site, "return", answer, start)
		return true
	}
}
