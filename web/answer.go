package web

import (
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"jumpgate/gateway"
	"jumpgate/idp"
)

// answer turns what became of a jump into the response, one log line, one event
// of the trail and the metrics. step says where it came from: "jump", "login", "return",
// "callback", "confirm" or "alias". It reports false if there is nothing to
// answer: Moodle's own answer is to be passed on.
//
// The event comes first: what has to be recorded and cannot be is not done.
func (h *Handler) answer(w http.ResponseWriter, r *http.Request, site *Site, step string, a idp.Answer, start time.Time) bool {
	if a.Err == nil && a.Location != "" && !site.mayLead(a.Location, time.Now()) {
		a.Err = errStray
	}
	outcome := outcomeOf(a)
	if err := site.Trail.Record(r.Context(), h.event(r, site, step, outcome, a, start)); err != nil {
		a.Err, outcome = errors.Join(a.Err, err), "error"
	}
	switch {
	case errors.Is(a.Err, errStray):
		writeProblem(w, r, stray, site.Wwwroot.String(), nil)
	case a.Err != nil:
		writeProblem(w, r, notReady, site.Wwwroot.String(), nil)
	case a.Refused:
		p, home := problemOf(a.Rule).lacking(a.Lacking).waiting(a.After), site.Wwwroot
		if a.Home != nil && a.Rule == gateway.RuleUserRemote {
			p, home = remoteOf(a.Home), a.Home.Wwwroot
		}
		if a.Rule == gateway.RuleNoCookie {
			p.Advice = adviceThere
		}
		if a.After > 0 {
			w.Header().Set("Retry-After", strconv.FormatInt(int64(math.Ceil(a.After.Seconds())), 10))
		}
		writeRetry(w, r, p, a.Again, home.String(), refusal(a))
	case a.Confirm != nil:
		writeConfirm(w, r, site.Wwwroot, a)
	case a.Passed:
	case a.Location == "": // a HEAD: decided, not done
		guardPage(w.Header())
	default:
		writeRedirect(w, http.StatusSeeOther, a.Location)
	}
	h.logJump(r, site, step, outcome, a, start)
	return outcome != "passed"
}

// outcomeOf says in a word what became of a jump.
func outcomeOf(a idp.Answer) string {
	switch {
	case a.Err != nil:
		return "error"
	case a.Refused:
		return "refused"
	case a.Confirm != nil:
		return "confirm"
	case a.Passed:
		return "passed"
	case a.Location == "":
		return "head"
	case a.Landing:
		return "landed"
	case a.Outcome != "":
		return a.Outcome
	}
	return "login"
}

func (h *Handler) logJump(r *http.Request, site *Site, step, outcome string, a idp.Answer, start time.Time) {
	level := slog.LevelInfo
	switch {
	case a.Err != nil:
		level = slog.LevelError
	case a.Moodle != "", a.Cause != nil:
		level = slog.LevelWarn
	}
	attrs := []slog.Attr{
		slog.String("site", site.Wwwroot.String()),
		slog.String("request", RequestID(r)),
		slog.String("client", h.trust.Client(r).String()),
		slog.String("step", step),
		slog.String("outcome", outcome),
		slog.String("rule", string(a.Rule)),
		slog.Duration("took", time.Since(start)),
	}
	peer := ""
	if a.Peer != nil {
		peer = a.Peer.Wwwroot.String()
		attrs = append(attrs, slog.String("peer", peer), slog.String("wantsurl", printable(a.Wantsurl)))
	}
	if a.Origin != "" {
		attrs = append(attrs, slog.String("origin", string(a.Origin)))
	}
	if a.Signature.Rule != "" {
		attrs = append(attrs, slog.String("signature", string(a.Signature.Rule)))
	}
	if a.Signature.ID != "" {
		attrs = append(attrs, slog.String("link", printable(a.Signature.ID)))
	}
	if a.Username != "" {
		attrs = append(attrs, slog.String("user", a.Username))
	}
	if a.Home != nil {
		attrs = append(attrs, slog.String("home", a.Home.Wwwroot.String()))
	}
	if a.Moodle != "" {
		attrs = append(attrs, slog.String("moodle", printable(a.Moodle)))
	}
	if a.OtherCookie != "" {
		attrs = append(attrs, slog.String("hint", "the browser has the cookie "+printable(a.OtherCookie)+": is identity.cookie right?"))
	}
	if a.Cause != nil {
		attrs = append(attrs, slog.String("cause", printable(a.Cause.Error())))
	}
	if a.Err != nil {
		attrs = append(attrs, slog.Any("error", a.Err))
	}
	h.log.LogAttrs(r.Context(), level, "jump", attrs...)
	h.metrics.jumps.WithLabelValues(site.Wwwroot.String(), peer, outcome, string(a.Rule)).Inc()
	h.metrics.jumpOrigins.WithLabelValues(site.Wwwroot.String(), string(a.Origin), string(a.Signature.Rule)).Inc()
	if a.Probe() {
		h.metrics.probes.WithLabelValues(site.Wwwroot.String(), string(a.Rule)).Inc()
	}
	h.metrics.jumpSeconds.WithLabelValues(site.Wwwroot.String(), step).Observe(time.Since(start).Seconds())
}

// refusal returns what helps an administrator to see why.
func refusal(a idp.Answer) []detail {
	details := []detail{{"rule", string(a.Rule)}}
	if a.Peer != nil {
		details = append(details, detail{"site", a.Peer.Wwwroot.String()})
	}
	if a.Username != "" {
		details = append(details, detail{"account", legible(a.Username)})
	}
	if a.Home != nil {
		details = append(details, detail{"home", a.Home.Wwwroot.String()})
	}
	return details
}

// legible returns a name with what nobody can see, or what changes how the rest
// is read, escaped.
func legible(s string) string {
	if len(s) > 255 {
		s = strings.ToValidUTF8(s[:255], "")
	}
	if strings.ContainsFunc(s, func(c rune) bool { return c == unicode.ReplacementChar || !unicode.IsPrint(c) }) {
		return printable(s)
	}
	return s
}

// printable returns s with everything but printable ASCII escaped, cut at
// 2 KB: a hostile target must not reach a terminal or a log reader as it is.
func printable(s string) string {
	if len(s) > 2048 {
		s = s[:2048]
	}
	if !strings.ContainsFunc(s, func(c rune) bool { return c < 0x20 || c > 0x7e || c == '"' || c == '\\' }) {
		return s
	}
	quoted := strconv.QuoteToASCII(s)
	return quoted[1 : len(quoted)-1]
}
