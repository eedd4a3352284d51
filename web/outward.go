package web

import (
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"jumpgate/gateway"
	"jumpgate/gateway/audit"
	"jumpgate/gateway/proxy"
)

// Outward says who looks where the Moodle behind a site sends browsers, and whom
// it tells. Everything but Trail is required.
type Outward struct {
	Site      gateway.Wwwroot
	Redirects *gateway.Redirects
	Enforce   bool // what is not allowed is stopped, not only recorded
	Trust     proxy.Trust
	Log       *slog.Logger
	Metrics   *Metrics
	Trail     *audit.Trail
}

// Inspect returns what looks at every answer of the Moodle: at Location where a
// browser follows it, at Refresh, and at Content-Location, which is never
// followed. What is stopped becomes a page of ours, with the cookies that Moodle
// set: it has done what it was asked to, and nobody should be logged in or out by
// halves. A Content-Location is taken away, and its page let through.
func (o Outward) Inspect() proxy.Inspect {
	seen := &redirectsSeen{events: rate.NewLimiter(redirectRate, redirectBurst)}
	return func(w http.ResponseWriter, r *http.Request, res *http.Response) bool {
		h := res.Header
		if values := h["Location"]; len(values) > 0 && res.StatusCode/100 == 3 {
			if d := o.first(values, o.Redirects.Address); !d.Allow && o.found(seen, r, res, "Location", d) {
				stopRedirect(w, r, res, o.Site, d)
				return true
			}
		}
		if values := h["Refresh"]; len(values) > 0 {
			if d := o.first(values, o.Redirects.Refresh); !d.Allow && o.found(seen, r, res, "Refresh", d) {
				stopRedirect(w, r, res, o.Site, d)
				return true
			}
		}
		if values := h["Content-Location"]; len(values) > 0 {
			if d := o.first(values, o.Redirects.Address); !d.Allow && o.found(seen, r, res, "Content-Location", d) {
				delete(h, "Content-Location")
			}
		}
		return false
	}
}

// first returns what was decided about the first value that is not allowed, or
// else about the last: which one a browser takes nobody knows.
func (o Outward) first(values []string, decide func(string, time.Time) gateway.Outward) (d gateway.Outward) {
	now := time.Now()
	if len(values) > 1 { // to some, they are one
		values = append(values[:len(values):len(values)], strings.Join(values, ", "))
	}
	for _, value := range values {
		if d = decide(value, now); !d.Allow {
			break
		}
	}
	return d
}

// found counts, logs and records a redirect that is not allowed, and reports
// whether it is stopped.
func (o Outward) found(seen *redirectsSeen, r *http.Request, res *http.Response, field string, d gateway.Outward) (stopped bool) {
	level, outcome, decision := slog.LevelInfo, "reported", audit.Allow
	if o.Enforce {
		level, outcome, decision = slog.LevelWarn, "stopped", audit.Refuse
	}
	o.Metrics.redirects.WithLabelValues(o.Site.String(), outcome).Inc()
	mayLog, mayRecord, unrecorded := seen.may(d.Origin, time.Now())
	client, where, page := o.Trust.Client(r).String(), printable(d.Where), r.Method+" "+printable(script(r.URL.Path))
	if mayLog {
		o.Log.LogAttrs(r.Context(), level, "redirect of the Moodle behind", slog.String("site", o.Site.String()), slog.String("request", RequestID(r)),
			slog.String("client", client), slog.String("outcome", outcome), slog.String("rule", string(d.Rule)),
			slog.String("field", field), slog.String("target", where), slog.String("page", page), slog.Int("status", res.StatusCode))
	}
	if mayRecord {
		o.Trail.Note(audit.Event{
			Kind: audit.KindRedirect, Site: o.Site.String(), Request: RequestID(r), Client: client, Step: field, Target: where,
			Decision: decision, Rule: string(d.Rule), Outcome: outcome, Detail: strconv.Itoa(res.StatusCode) + " to " + page, Count: unrecorded,
		})
	}
	return o.Enforce
}

// script returns a path up to the program that it names: what comes after may be
// a key (source: tokenpluginfile.php).
func script(path string) string {
	if i := strings.Index(path, ".php/"); i >= 0 {
		return path[:i+len(".php")]
	}
	return path
}

// stopRedirect answers with a page instead of an answer that leads away. Of what
// somebody else has written the page names the host alone.
func stopRedirect(w http.ResponseWriter, r *http.Request, res *http.Response, site gateway.Wwwroot, d gateway.Outward) {
	for _, cookie := range res.Header["Set-Cookie"] {
		w.Header().Add("Set-Cookie", cookie)
	}
	p := problemOf(d.Rule)
	switch d.Rule {
	case gateway.RuleRedirectForeign:
		_, host, _ := strings.Cut(d.Origin, "://")
		p = p.saying("This site was about to send you to "+host+". Its administrator has not allowed that address.", "")
	case gateway.RuleRedirectScheme:
		p = p.saying("This site was about to open another program ("+d.Origin+"). Its administrator has not allowed that.", "")
	}
	writeProblem(w, r, p, site.String(), []detail{{"rule", string(d.Rule)}})
}

const (
	redirectRate   = 5   // events a second, of one site
	redirectBurst  = 500 // of them at once
	redirectsNamed = 100 // origins that are logged in a minute
)

// redirectsSeen keeps a page that redirects without end from filling the log and
// from crowding decisions out of the trail.
type redirectsSeen struct {
	events *rate.Limiter

	mu         sync.Mutex
	began      time.Time // of the minute
	origins    map[string]bool
	unrecorded uint64
}

// may says whether a redirect is logged, and whether it is recorded, and how many
// before it were not.
func (s *redirectsSeen) may(origin string, now time.Time) (log, record bool, unrecorded uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.began) >= time.Minute {
		s.began, s.origins = now, map[string]bool{}
	}
	if !s.origins[origin] && len(s.origins) < redirectsNamed {
		s.origins[origin], log = true, true
	}
	if !s.events.AllowN(now, 1) {
		s.unrecorded++
		return log, false, 0
	}
	unrecorded, s.unrecorded = s.unrecorded, 0
	return log, true, unrecorded
}
