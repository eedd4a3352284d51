package web

import (
	"log/slog"
	"net/http"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/proxy"
)

// leave looks at what Moodle answers to who logs out, as the others do, and leads
// learners home whose session here we began. Moodle's cookies ride on that. If the
// home may not be led to (any more), Moodle's own answer will do.
func (h *Handler) leave(site *Site) proxy.Inspect {
	return func(w http.ResponseWriter, r *http.Request, res *http.Response) bool {
		site.watch(w, r, res)
		if site.Bounces != nil {
			site.Bounces.Look(r, res) // which marks the browser
		}
		d := site.Visits.Leave(r, res)
		if d.Location == "" || !site.mayLead(d.Location, time.Now()) {
			return false
		}
		for _, cookie := range res.Header["Set-Cookie"] {
			w.Header().Add("Set-Cookie", cookie)
		}
		writeRedirect(w, http.StatusSeeOther, d.Location)
		return true
	}
}

// ObserveReports returns what the visits of a site tell of keeping sessions at
// homes alive: a log line each, and the metrics.
func ObserveReports(site gateway.Wwwroot, log *slog.Logger, metrics *Metrics) func(gateway.Wwwroot, int, error) {
	return func(home gateway.Wwwroot, learners int, err error) {
		attrs := []any{slog.String("site", site.String()), slog.String("home", home.String()), slog.Int("learners", learners)}
		outcome := "ok"
		if err != nil {
			outcome = "failed"
		}
		metrics.reports.WithLabelValues(site.String(), home.String(), outcome).Inc()
		if err != nil {
			log.Warn("keep-alive", append(attrs, slog.Any("error", err))...)
			return
		}
		log.Info("keep-alive", attrs...)
	}
}
