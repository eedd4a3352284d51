package web

import (
	"net/http"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// NewAdmin returns what the separate admin listener serves: /healthz (the
// process lives: for load balancers and restarts), /readyz (its parts answer:
// for alerts and rollouts) and /metrics. ready says what does not answer, or
// nothing.
func NewAdmin(metrics *Metrics, ready func() string) http.Handler {
	m := mux.NewRouter()
	m.Path("/healthz").Methods(http.MethodGet, http.MethodHead).HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		plain(w, http.StatusOK, "ok")
	})
	m.Path("/readyz").Methods(http.MethodGet, http.MethodHead).HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if what := ready(); what != "" {
			plain(w, http.StatusServiceUnavailable, what)
			return
		}
		plain(w, http.StatusOK, "ready")
	})
	m.Path("/metrics").Methods(http.MethodGet).Handler(promhttp.HandlerFor(metrics.registry, promhttp.HandlerOpts{}))
	return withoutBody(guarded(m))
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	w.Write([]byte(text + "\n"))
}
