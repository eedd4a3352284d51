package web

import (
	"log/slog"
	"net/http"
	"strconv"

	"jumpgate/gateway"
)

// UpstreamFailed returns the page of a site for requests that the Moodle
// behind did not answer.
func UpstreamFailed(site gateway.Wwwroot, log *slog.Logger, metrics *Metrics) func(http.ResponseWriter, *http.Request, int, error) {
	return func(w http.ResponseWriter, r *http.Request, status int, err error) {
		metrics.failures.WithLabelValues(site.String(), strconv.Itoa(status)).Inc()
		log.LogAttrs(r.Context(), slog.LevelWarn, "upstream did not answer",
			slog.String("site", site.String()), slog.String("request", RequestID(r)),
			slog.Int("status", status), slog.Any("error", err))
		unread(w, r)
		switch status {
		case http.StatusBadGateway:
			writeProblem(w, r, upstreamDown, "", nil)
		case http.StatusGatewayTimeout:
			writeProblem(w, r, upstreamSlow, "", nil)
		case http.StatusMethodNotAllowed:
			writeProblem(w, r, wrongMethod, "", nil)
		default:
			writeProblem(w, r, problem{status, "This request could not be read",
				"What your browser sent did not arrive whole, or is too large.", "Try it once more."}, "", nil)
		}
	}
}
