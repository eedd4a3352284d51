package web

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/audit"
	"jumpgate/gateway/store"
	"jumpgate/idp"
	"jumpgate/sp"
)

// event returns what the trail keeps of a jump. It holds no token, and nothing
// else by which somebody could go on in the learner's place.
func (h *Handler) event(r *http.Request, site *Site, step, outcome string, a idp.Answer, start time.Time) audit.Event {
	e := audit.Event{
		Kind: audit.KindDecision, Site: site.Wwwroot.String(), Request: RequestID(r), Client: h.trust.Client(r).String(), Step: step,
		User: a.Username, Target: printable(asked(r, step, a)), Decision: audit.Allow, Rule: string(a.Rule), Outcome: outcome,
		Issuer: "gateway", Latency: time.Since(start).Microseconds(),
	}
	if a.Probe() {
		e.Kind = audit.KindProbe
	}
	if site.Guard != nil {
		e.Issuer = "moodle"
	}
	if a.Peer != nil {
		e.Peer = a.Peer.Wwwroot.String()
	}
	e.Origin, e.Signature, e.Link = string(a.Origin), string(a.Signature.Rule), printable(a.Signature.ID)
	switch {
	case a.Err != nil:
		e.Decision, e.Detail = audit.Failed, printable(a.Err.Error())
	case a.Refused:
		e.Decision = audit.Refuse
	case a.Confirm != nil:
		e.Decision = audit.Ask
	default:
		e.URL, e.Token = emitted(a)
	}
	if a.Moodle != "" {
		e.Detail = printable(a.Moodle)
	} else if a.Cause != nil {
		e.Detail = printable(a.Cause.Error())
	}
	return e
}

// asked returns what a jump asked for: the page, or all that the link says if
// that names no peer of ours. What comes back from a login is no link, but a
// secret.
func asked(r *http.Request, step string, a idp.Answer) string {
	if a.Peer == nil && (step == "jump" || step == "alias") {
		return withoutLink("?" + r.URL.RawQuery)
	}
	return a.Wantsurl
}

// signedLink is the parameter of a signed link. Whoever reads it could use it.
var signedLink = regexp.MustCompile(`([?&]link=)([^&#;]+)`)

// withoutLink puts the hash of a link's signature in its place.
func withoutLink(address string) string {
	return signedLink.ReplaceAllStringFunc(address, func(found string) string {
		name, token, _ := strings.Cut(found, "=")
		return name + "=sha256:" + audit.Hash(token)
	})
}

// emitted returns where the browser is sent, and the hash of the token there,
// which stands in its place. The address of a login page is named without the
// query, which names the pending jump.
func emitted(a idp.Answer) (url, token string) {
	if !a.Landing {
		if a.Outcome == "" {
			url, _, _ = strings.Cut(a.Location+a.Own, "?")
			return url, ""
		}
		return withoutLink(a.Location), ""
	}
	before, rest, _ := strings.Cut(a.Location, "token=")
	token, rest, _ = strings.Cut(rest, "&")
	token = audit.Hash(token)
	return before + "token=sha256:" + token + "&" + rest, token
}

// landingEvent returns what the trail keeps of a landing. Its user is who was
// logged in and, where that changes with the learner's consent or is known
// because we log them in, who is from now on; of whom a landing is otherwise, the
// home's trail says under the same token.
func (h *Handler) landingEvent(r *http.Request, site *Site, step, outcome string, a sp.Arrival, start time.Time) audit.Event {
	e := audit.Event{
		Kind: audit.KindLanding, Site: site.Wwwroot.String(), Request: RequestID(r), Client: h.trust.Client(r).String(), Step: step,
		User: a.Username, Target: printable(a.Wantsurl), Decision: audit.Allow, Rule: string(a.Rule), Outcome: outcome, URL: a.Location,
		Latency: time.Since(start).Microseconds(), Origin: string(a.Origin),
	}
	if a.Probe() {
		e.Kind = audit.KindProbe
	}
	if outcome == sp.OutcomeSwitched || outcome == sp.OutcomeLanded && a.Newcomer != "" {
		e.User = a.Newcomer
	}
	if a.Home != nil {
		e.Peer = a.Home.Wwwroot.String()
	} else if step == "land" {
		query := r.URL.Query()
		delete(query, "token")
		e.Target = printable("?" + query.Encode())
	}
	if a.Token != "" {
		e.Token = audit.Hash(a.Token)
	}
	switch {
	case a.Err != nil:
		e.Decision, e.Detail = audit.Failed, printable(a.Err.Error())
	case a.Refused:
		e.Decision = audit.Refuse
	case a.Question != nil:
		e.Decision = audit.Ask
	}
	if a.Cause != nil {
		e.Detail = printable(a.Cause.Error())
	}
	return e
}

// ObserveRedemptions returns what an identity provider calls for each token that
// a peer shows: it records that before the peer learns anything. The fault that
// the peer gets then is no event of its own.
func ObserveRedemptions(site gateway.Wwwroot, trail *audit.Trail) func(context.Context, idp.Redemption) error {
	return func(ctx context.Context, r idp.Redemption) error {
		e := audit.Event{
			Kind: audit.KindRedemption, Site: site.String(), Client: r.Addr.String(), Peer: r.Peer.Wwwroot.String(),
			User: r.Username, Decision: audit.Allow, Rule: r.Reason, Issuer: "gateway", Latency: r.Took.Microseconds(), Token: audit.Hash(r.Token),
		}
		call := callOf(ctx)
		e.Request, call.recorded = call.request, true
		if r.Err != nil {
			e.Decision, e.Detail = audit.Refuse, printable(r.Err.Error())
		}
		if errors.Is(r.Err, store.ErrUnavailable) {
			e.Decision = audit.Failed
		}
		return trail.Record(ctx, e)
	}
}
