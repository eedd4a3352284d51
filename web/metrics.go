package web

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"jumpgate/gateway/audit"
)

// Metrics are what the gateway counts, for Prometheus.
type Metrics struct {
	registry    *prometheus.Registry
	requests    *prometheus.CounterVec
	jumps       *prometheus.CounterVec
	jumpOrigins *prometheus.CounterVec
	jumpSeconds *prometheus.HistogramVec
	probes      *prometheus.CounterVec
	calls       *prometheus.CounterVec
	logouts     *prometheus.CounterVec
	landings    *prometheus.CounterVec
	bounces     *prometheus.CounterVec
	reports     *prometheus.CounterVec
	failures    *prometheus.CounterVec
	redirects   *prometheus.CounterVec
	mails       *prometheus.CounterVec
	mailLinks   *prometheus.CounterVec
}

// NewMetrics returns empty metrics. up tells whether Redis answers.
func NewMetrics(up func() bool) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "jumpgate_requests_total", Help: "Requests, by the site that they were for.",
		}, []string{"site"}),
		jumps: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "jumpgate_jumps_total",
			Help: "Jumps, by peer, outcome (landed, login, confirm, home, own, moved, passed, refused, head, error) and the rule that decided.",
		}, []string{"site", "peer", "outcome", "rule"}),
		jumpOrigins: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "jumpgate_jump_origins_total",
			Help: "Jumps, by where the click came from (same-origin, same-site, none, cross-site) and what the link's signature is (none for a link without one, ok, or a rule).",
		}, []string{"site", "origin", "signature"}),
		jumpSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "jumpgate_jump_seconds", Help: "Time to decide a jump, by step (jump, return, callback, confirm, alias).",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}, []string{"site", "step"}),
		probes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "jumpgate_probes_total", Help: "Jumps and landings refused because they were made to lead somebody away from the peers, by rule.",
		}, []string{"site", "rule"}),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "jumpgate_rpc_total", Help: "MNet calls answered, by peer, method and why one was refused (ok if it was not).",
		}, []string{"site", "peer", "method", "reason"}),
		logouts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "jumpgate_logouts_total",
			Help: "Sessions that were to end, by peer (none for the one at the site itself), cause and outcome.",
		}, []string{"site", "peer", "cause", "outcome"}),
		landings: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "jumpgate_landings_total",
			Help: "Learners of other homes who come here, by home, outcome (landed, same, used, asked, switched, stayed, failed, unsure, refused, head, error) and the rule that decided.",
		}, []string{"site", "home", "outcome", "rule"}),
		bounces: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "jumpgate_bounces_total",
			Help: "Learners who were not logged in, by home (where they were sent, or if they were asked, the one that is remembered), outcome (bounced, choose, back, left, chosen, here, refused, error) and the rule that decided.",
		}, []string{"site", "home", "outcome", "rule"}),
		reports: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "jumpgate_keepalives_total", Help: "Reports to homes about which of their learners are busy here, by home and outcome (ok, failed).",
		}, []string{"site", "home", "outcome"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "jumpgate_upstream_failures_total", Help: "Requests that the Moodle behind did not answer, by status sent instead.",
		}, []string{"site", "status"}),
		redirects: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "jumpgate_upstream_redirects_total",
			Help: "Redirects of the Moodle behind to somewhere that is not allowed, by what became of them (reported, stopped).",
		}, []string{"site", "decision"}),
		mails: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "jumpgate_mails_total",
			Help: "Mails of a site's relay, by what became of them (sent, refused, deferred, aborted; unknown and unconfirmed may arrive twice).",
		}, []string{"site", "outcome"}),
		mailLinks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "jumpgate_mail_links_total", Help: "Links in sent mails that were changed to lead through a home.",
		}, []string{"site"}),
	}
	m.registry.MustRegister(m.requests, m.jumps, m.jumpOrigins, m.jumpSeconds, m.probes, m.calls, m.logouts, m.landings, m.bounces, m.reports, m.failures,
		m.redirects, m.mails, m.mailLinks,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "jumpgate_redis_up", Help: "1 while Redis answers."}, func() float64 {
			if up() {
				return 1
			}
			return 0
		}),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// WatchTrail adds what a trail counts.
func (m *Metrics) WatchTrail(trail *audit.Trail) {
	m.registry.MustRegister(
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "jumpgate_audit_events_total", Help: "Events written to the audit trail."}, func() float64 {
			written, _ := trail.Counts()
			return float64(written)
		}),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "jumpgate_audit_lost_total", Help: "Events that could not be written to the audit trail."}, func() float64 {
			_, lost := trail.Counts()
			return float64(lost)
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "jumpgate_audit_up", Help: "1 while the audit trail can be written."}, func() float64 {
			if trail.Broken() {
				return 0
			}
			return 1
		}))
}
