package web

import (
	"errors"
	"log/slog"
	"net/http"
	"time"

	"jumpgate/gateway/audit"
	"jumpgate/gateway/proxy"
	"jumpgate/sp"
)

// bounce looks at what Moodle answers as the others do, and sends learners home
// who are not logged in. Who has a jump pending is about to log in here.
func (h *Handler) bounce(site *Site) proxy.Inspect {
	return func(w http.ResponseWriter, r *http.Request, res *http.Response) bool {
		expected := site.IDP != nil && site.IDP.Expects(r)
		if expected && site.loginReturn(w, r, res) {
			return true
		}
		if !expected {
			site.watch(w, r, res)
		}
		start := time.Now()
		a, ok := site.Bounces.Look(r, res)
		if !ok || expected {
			return false
		}
		for _, cookie := range res.Header["Set-Cookie"] {
			w.Header().Add("Set-Cookie", cookie)
		}
		h.bounced(w, r, site, "bounce", a, start)
		return true
	}
}

// askHome asks learners where they come from.
func (h *Handler) askHome(site *Site) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		h.bounced(w, r, site, "home", site.Bounces.Ask(r), start)
	}
}

// chooseHome takes the answers of learners who were asked.
func (h *Handler) chooseHome(site *Site) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		h.bounced(w, r, site, "choose", site.Bounces.Choose(w, r), start)
	}
}

// bounced turns what becomes of a learner who is not logged in into the
// response, one log line, the metrics and, unless they are asked, an event of
// the trail. step is "bounce", "home" or "choose".
//
// The event comes first: what has to be recorded and cannot be is not done.
func (h *Handler) bounced(w http.ResponseWriter, r *http.Request, site *Site, step string, a sp.Bounce, start time.Time) {
	if a.Err == nil && a.Location != "" && !site.mayLead(a.Location, time.Now()) {
		a.Err = errStray
	}
	outcome, home := a.Outcome, site.Wwwroot.String()
	if a.Refused {
		outcome = "refused"
	}
	if !a.Asks() {
		if a.Err != nil {
			outcome = "error"
		}
		if err := site.Trail.Record(r.Context(), h.bounceEvent(r, site, step, outcome, a, start)); err != nil {
			a.Err, outcome = errors.Join(a.Err, err), "error"
		}
	}
	if a.Err == nil {
		for _, cookie := range a.Cookies {
			http.SetCookie(w, cookie)
		}
	}
	switch {
	case errors.Is(a.Err, errStray):
		writeProblem(w, r, stray, home, nil)
	case a.Err != nil:
		writeProblem(w, r, notReady, home, nil)
	case a.Refused:
		writeProblem(w, r, problemOf(a.Rule), home, []detail{{"rule", string(a.Rule)}})
	case a.Location != "" && step == "choose":
		to := site.Wwwroot.Host() + site.Wwwroot.Path()
		if a.Home != nil {
			to = a.Home.Label()
		}
		writeDeparture(w, r, to, a.Location)
	case a.Location != "":
		writeRedirect(w, http.StatusSeeOther, a.Location)
	default:
		writeChooser(w, r, site, a)
	}
	h.logBounce(r, site, step, outcome, a, start)
}

func (h *Handler) logBounce(r *http.Request, site *Site, step, outcome string, a sp.Bounce, start time.Time) {
	level, home := slog.LevelInfo, ""
	if a.Err != nil {
		level = slog.LevelError
	}
	attrs := []slog.Attr{
		slog.String("site", site.Wwwroot.String()),
		slog.String("request", RequestID(r)),
		slog.String("client", h.trust.Client(r).String()),
		slog.String("step", step),
		slog.String("outcome", outcome),
		slog.String("rule", string(a.Rule)),
		slog.String("wantsurl", printable(a.Wantsurl)),
		slog.Duration("took", time.Since(start)),
	}
	if a.Home != nil {
		home = a.Home.Wwwroot.String()
		attrs = append(attrs, slog.String("home", home))
	}
	if a.Err != nil {
		attrs = append(attrs, slog.Any("error", a.Err))
	}
	h.log.LogAttrs(r.Context(), level, "bounce", attrs...)
	h.metrics.bounces.WithLabelValues(site.Wwwroot.String(), home, outcome, string(a.Rule)).Inc()
}

// bounceEvent returns what the trail keeps of a learner who is sent home.
func (h *Handler) bounceEvent(r *http.Request, site *Site, step, outcome string, a sp.Bounce, start time.Time) audit.Event {
	e := audit.Event{
		Kind: audit.KindBounce, Site: site.Wwwroot.String(), Request: RequestID(r), Client: h.trust.Client(r).String(), Step: step,
		Target: printable(a.Wantsurl), Decision: audit.Allow, Rule: string(a.Rule), Outcome: outcome, URL: a.Location,
		Latency: time.Since(start).Microseconds(),
	}
	if a.Home != nil {
		e.Peer = a.Home.Wwwroot.String()
	}
	switch {
	case a.Err != nil:
		e.Decision, e.Detail, e.URL = audit.Failed, printable(a.Err.Error()), ""
	case a.Refused:
		e.Decision = audit.Refuse
	}
	return e
}
