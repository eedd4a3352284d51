package web

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/audit"
	"jumpgate/gateway/mnet"
)

// ObserveCalls returns what an MNet server of site calls after each request:
// it turns what became of it into one log line, the metrics and, if it was
// refused or failed, an event of the trail. Strangers can send any number of
// messages that are nobody's, so of those one a second is logged for each
// reason; all are counted, and recorded.
func ObserveCalls(site gateway.Wwwroot, log *slog.Logger, metrics *Metrics, trail *audit.Trail) func(context.Context, mnet.Event) {
	strangers := &quiet{last: map[string]time.Time{}}
	return func(ctx context.Context, e mnet.Event) {
		// Only what is verified names a peer in the metrics: anybody can
		// claim to be one.
		peer, method := "", ""
		if e.Verified && e.Peer != nil {
			peer, method = e.Peer.Wwwroot.String(), e.Method
		}
		if e.Reason == mnet.ReasonUnknownMethod || e.Reason == mnet.ReasonMethodName || e.Reason == mnet.ReasonPassed {
			method = ""
		}
		metrics.calls.WithLabelValues(site.String(), peer, method, e.Reason).Inc()
		// A key that waits for an administrator is rare, and must be seen.
		_, held := errors.AsType[*mnet.HeldKeyError](e.Err)
		if e.Verified || held || strangers.mayLog(e.Reason, time.Now()) {
			log.LogAttrs(ctx, callLevel(e), "call", callAttrs(site, e)...)
		}
		switch call := callOf(ctx); {
		case e.Reason == mnet.ReasonOK, e.Reason == mnet.ReasonPassed, e.Reason == mnet.ReasonRelayed, call.recorded:
		default:
			a := callEvent(site, e)
			a.Request = call.request
			trail.Note(a)
		}
	}
}

func callEvent(site gateway.Wwwroot, e mnet.Event) audit.Event {
	a := audit.Event{
		Kind: audit.KindRPC, Site: site.String(), Client: e.Addr.String(), Step: printable(e.Method),
		Decision: audit.Refuse, Rule: e.Reason, Latency: e.Duration.Microseconds(),
	}
	if e.Verified && e.Peer != nil {
		a.Peer = e.Peer.Wwwroot.String()
	} else {
		a.Target = printable(e.Claimed) // whoever it was
	}
	if e.Fault != nil {
		a.Outcome = "fault " + strconv.Itoa(e.Fault.Code)
	} else if e.Status != http.StatusOK {
		a.Outcome = strconv.Itoa(e.Status)
	}
	if e.Err != nil {
		a.Detail = printable(e.Err.Error())
	}
	return a
}

func callLevel(e mnet.Event) slog.Level {
	switch e.Reason {
	case mnet.ReasonOK, mnet.ReasonPassed, mnet.ReasonRelayed, mnet.ReasonUnknownMethod: // peers ask for what older sites had
		return slog.LevelInfo
	}
	return slog.LevelWarn
}

func callAttrs(site gateway.Wwwroot, e mnet.Event) []slog.Attr {
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
	return attrs
}

// quiet lets one line a second pass for each of a few reasons.
type quiet struct {
	mu   sync.Mutex
	last map[string]time.Time
}

func (q *quiet) mayLog(reason string, now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if now.Sub(q.last[reason]) < time.Second {
		return false
	}
	q.last[reason] = now
	return true
}
