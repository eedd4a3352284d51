package web

import (
	"context"
	"log/slog"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/audit"
	"jumpgate/gateway/mnet"
)

// ObserveLogouts returns what is called for each session that was to end: it
// turns what became of it into one log line, an event of the trail and the
// metrics. While Redis is
// down anybody's new session may be the end of another, so of those one line a
// second is logged.
func ObserveLogouts(log *slog.Logger, metrics *Metrics, trail *audit.Trail) func(mnet.Logout) {
	unknown := &quiet{last: map[string]time.Time{}}
	return func(l mnet.Logout) {
		peer := ""
		if l.At != l.Site && l.Outcome != mnet.OutcomeNotSubscribed { // that may be no peer any more
			peer = l.At.String()
		}
		metrics.logouts.WithLabelValues(l.Site.String(), peer, l.Cause, l.Outcome).Inc()
		if l.Outcome == mnet.OutcomeUnknown && !unknown.mayLog(l.Site.String(), time.Now()) {
			return
		}
		level := slog.LevelWarn
		if l.Done() {
			level = slog.LevelInfo
		}
		log.LogAttrs(context.Background(), level, "logout", logoutAttrs(l)...)
		trail.Note(logoutEvent(l))
	}
}

func logoutEvent(l mnet.Logout) audit.Event {
	e := audit.Event{
		Kind: audit.KindLogout, Site: l.Site.String(), Step: l.Cause, User: l.Username, Outcome: l.Outcome, Latency: l.Took.Microseconds(),
	}
	if l.At != (gateway.Wwwroot{}) {
		e.Peer = l.At.String()
	}
	if l.Err != nil {
		e.Detail = printable(l.Err.Error())
	}
	return e
}

func logoutAttrs(l mnet.Logout) []slog.Attr {
	attrs := []slog.Attr{slog.String("site", l.Site.String())}
	if l.At != (gateway.Wwwroot{}) {
		attrs = append(attrs, slog.String("at", l.At.String()), slog.String("user", l.Username))
	}
	attrs = append(attrs, slog.String("cause", l.Cause), slog.String("outcome", l.Outcome))
	if l.Tries > 0 {
		attrs = append(attrs, slog.Int("tries", l.Tries), slog.Duration("took", l.Took))
	}
	if l.Err != nil {
		attrs = append(attrs, slog.Any("error", l.Err))
	}
	return attrs
}
