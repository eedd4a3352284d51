package web

import (
	"context"
	"log/slog"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
)

// ObserveCalls returns what an MNet server of site calls after each request:
// it turns what became of it into one log line and the metrics.
func ObserveCalls(site gateway.Wwwroot, log *slog.Logger, metrics *Metrics) func(context.Context, mnet.Event) {
	return func(ctx context.Context, e mnet.Event) {
		// Only what is verified names a peer in the metrics: anybody can
		// claim to be one.
		peer, method := "", ""
		if e.Verified && e.Peer != nil {
			peer, method = e.Peer.Wwwroot.String(), e.Method
		}
		if e.Reason == mnet.ReasonUnknownMethod || e.Reason == mnet.ReasonMethodName {
			method = ""
		}
		metrics.calls.WithLabelValues(site.String(), peer, method, e.Reason).Inc()

		level := slog.LevelInfo
		if e.Reason != mnet.ReasonOK {
			level = slog.LevelWarn
		}
		attrs := []slog.Attr{
			slog.String("site", site.String()),
			slog.String("client", e.Addr.String()),
			slog.String("claimed", printable(e.Claimed)),
			slog.Bool("verified", e.Verified),
			slog.String("method", printable(e.Method)),
			slog.String("reason", e.Reason),
			slog.Duration("took", e.Duration),
		}
		if e.Fault != nil {
			attrs = append(attrs, slog.Int("fault", e.Fault.Code))
		}
		if e.Err != nil {
			attrs = append(attrs, slog.Any("error", e.Err))
		}
		log.LogAttrs(ctx, level, "call", attrs...)
	}
}
