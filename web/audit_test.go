package web_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"jumpgate/gateway"
	"jumpgate/gateway/audit"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/store"
	"jumpgate/idp"
	"jumpgate/web"
)

func newTrail(t testing.TB, always bool) (*audit.Trail, string) {
	t.Helper()
	dir := t.TempDir()
	trail, err := audit.Open(audit.Options{Dir: dir, Always: always})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { trail.Close() })
	return trail, dir
}

// recorded returns what a trail holds, without the lines about itself.
func recorded(t testing.TB, dir string) []audit.Event {
	t.Helper()
	var all []audit.Event
	err := audit.Read(dir, audit.Filter{}, func(e audit.Event, _ []byte) error {
		if e.Key == "" {
			all = append(all, e)
		}
		return nil
	}, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestEveryDecisionIsAnEvent(t *testing.T) {
	trail, dir := newTrail(t, true)
	f := newRecordedFront(t, "https://home.test", trail)
	jump := "https://home.test/auth/mnet/jump.php?"
	landed := f.do("GET", jump+"hostid=3&wantsurl="+url.QueryEscape("/mod/x?a=b#p1"), asAda)
	login := f.do("GET", jump+"hostid=3&wantsurl=/mod/y")
	f.do("GET", jump+"hostid=3&wantsurl=%0a//evil.test%e2%80%ae", asAda)
	f.do("GET", jump+"hostwwwroot=https://evil.test&wantsurl="+strings.Repeat("x", 5000), asAda)
	f.do("GET", jump+"hostid=3&hostid=4", asAda)
	f.do("HEAD", jump+"hostid=3&wantsurl=/mod/x", asAda)
	f.do("GET", jump+"hostid=3&hostid=4&link=eyJ.secret.x&a=b", asAda)
	f.do("GET", "https://home.test/auth/mnet/land.php?token=secret&idp=https://sp.test&wantsurl=/my/")
	f.do("GET", "https://home.test/auth/mnet/land.php?token=secret&idp=https://evil.test&%74oken=secret")
	f.do("GET", "https://home.test/auth/mnet/land.php?token=secret&idp=https://sp.test&wantsurl=//evil.test")
	f.upstream.Close()
	f.do("GET", "https://home.test/auth/mnet/land.php?token=another&idp=https://sp.test&wantsurl=/my/")
	trail.Close()

	location := landed.Header().Get("Location")
	query, err := url.ParseQuery(location[strings.IndexByte(location, '?')+1:])
	if err != nil {
		t.Fatal(err)
	}
	token := query.Get("token")
	hash := audit.Hash(token)
	base := audit.Event{Kind: audit.KindDecision, Site: "https://home.test", Client: "192.0.2.1", Step: "jump", Issuer: "gateway", Origin: "cross-site"}
	with := func(change func(*audit.Event)) audit.Event {
		e := base
		change(&e)
		return e
	}
	want := []audit.Event{
		with(func(e *audit.Event) {
			e.User, e.Peer, e.Target, e.Decision, e.Rule, e.Outcome = "ada", "https://sp.test", "/mod/x?a=b#p1", "allow", "path", "landed"
			e.URL, e.Token = strings.Replace(location, token, "sha256:"+hash, 1), hash
		}),
		with(func(e *audit.Event) {
			e.Peer, e.Target, e.Decision, e.Rule, e.Outcome, e.URL = "https://sp.test", "/mod/y", "allow", "path", "login", "https://home.test/login/index.php"
		}),
		with(func(e *audit.Event) {
			e.Kind = audit.KindProbe
			e.Peer, e.Target, e.Decision, e.Rule, e.Outcome = "https://sp.test", `\n//evil.test\u202e`, "refuse", "control-byte", "refused"
		}),
		with(func(e *audit.Event) {
			e.Kind = audit.KindProbe
			e.Target, e.Decision, e.Rule, e.Outcome = ("?hostwwwroot=https://evil.test&wantsurl=" + strings.Repeat("x", 5000))[:2048], "refuse", "peer-unknown", "refused"
		}),
		with(func(e *audit.Event) {
			e.Target, e.Decision, e.Rule, e.Outcome = "?hostid=3&hostid=4", "refuse", "repeated", "refused"
		}),
		with(func(e *audit.Event) {
			e.Peer, e.Target, e.Decision, e.Rule, e.Outcome = "https://sp.test", "/mod/x", "allow", "path", "head"
		}),
		with(func(e *audit.Event) {
			e.Target, e.Decision, e.Rule, e.Outcome = "?hostid=3&hostid=4&link=sha256:"+audit.Hash("eyJ.secret.x")+"&a=b", "refuse", "repeated", "refused"
		}),
		{Kind: audit.KindLanding, Site: "https://home.test", Client: "192.0.2.1", Peer: "https://sp.test", Step: "land", Target: "/my/", Decision: "allow", Rule: "path", Outcome: "failed", Origin: "cross-site", Token: audit.Hash("secret")},
		{Kind: audit.KindLanding, Site: "https://home.test", Client: "192.0.2.1", Step: "land", Target: "?idp=https%3A%2F%2Fevil.test", Decision: "refuse", Rule: "repeated", Outcome: "refused", Origin: "cross-site"},
		{Kind: audit.KindProbe, Site: "https://home.test", Client: "192.0.2.1", Peer: "https://sp.test", Step: "land", Target: "//evil.test", Decision: "refuse", Rule: "scheme-relative", Outcome: "refused", Origin: "cross-site", Token: audit.Hash("secret")},
		{Kind: audit.KindLanding, Site: "https://home.test", Client: "192.0.2.1", Peer: "https://sp.test", Step: "land", Target: "/my/", Decision: "error", Rule: "path", Outcome: "error", Origin: "cross-site", Token: audit.Hash("another"), Detail: "the Moodle behind does not answer"},
	}
	got := recorded(t, dir)
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(audit.Event{}, "Seq", "Time", "Request", "Latency", "Prev")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, e := range got {
		if len(e.Request) != 16 {
			t.Errorf("request %q", e.Request)
		}
	}

	// No secret is in the files.
	pending := login.Header().Get("Location")
	_, pending, _ = strings.Cut(pending, "jumpgate=")
	names, err := audit.Files(dir)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{token, pending, adas, "secret"} {
		if secret == "" || strings.Contains(string(text), secret) {
			t.Errorf("%q is in the trail", secret)
		}
	}
}

// TestWhatCannotBeRecordedIsNotDone takes the trail away.
func TestWhatCannotBeRecordedIsNotDone(t *testing.T) {
	for _, always := range []bool{true, false} {
		trail, _ := newTrail(t, always)
		trail.Close()
		f := newRecordedFront(t, "https://home.test", trail)
		w := f.do("GET", "https://home.test/auth/mnet/jump.php?hostid=3&wantsurl=/mod/x", asAda)
		if always && (w.Code != 503 || w.Header().Get("Location") != "" || w.Header().Get("Retry-After") == "" || !strings.Contains(f.log.String(), "outcome=error")) {
			t.Errorf("a jump: %d %v\n%s", w.Code, w.Header(), f.log)
		}
		if !always && w.Code != 303 {
			t.Errorf("a jump: %d", w.Code)
		}
		if w := f.do("GET", "https://home.test/my/"); w.Code != 200 {
			t.Errorf("a page: %d", w.Code)
		}
		redeemed := web.ObserveRedemptions(wwwroot(t, "https://home.test"), trail)
		err := redeemed(t.Context(), idp.Redemption{Peer: &gateway.Peer{Wwwroot: wwwroot(t, "https://sp.test")}})
		if (err != nil) != always {
			t.Errorf("a redemption: %v", err)
		}
	}
}

func TestWhatMoodleDecidesIsNotPassedOnUnrecorded(t *testing.T) {
	trail, _ := newTrail(t, true)
	trail.Close()
	g := newGuarded(t)
	g.site.Trail = trail
	g.moodle = sends(200, http.Header{"Content-Type": {"text/html"}, "Set-Cookie": {"a=b"}})
	w := g.do("GET", "https://home.test/auth/mnet/jump.php?hostid=3&wantsurl=/mod/x", "")
	if w.Code != 503 || strings.Count(w.Body.String(), "<html") != 1 || !strings.Contains(w.Body.String(), "Not just now") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestAGuardedJumpIsAnEventWhateverMoodleDoes: it may answer with a page, with a
// redirect of its own, or not at all.
func TestAGuardedJumpIsAnEventWhateverMoodleDoes(t *testing.T) {
	trail, dir := newTrail(t, true)
	g := newGuarded(t)
	g.site.Trail = trail
	for _, g.moodle = range []http.HandlerFunc{
		sends(303, http.Header{"Location": {"https://home.test/login/index.php?secret"}}),
		sends(200, http.Header{"Content-Type": {"text/html"}}),
		sends(303, http.Header{"Location": {guardLand}}),
		sends(303, http.Header{"Location": {"https://evil.test/"}}),
		func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		g.do("GET", guardJump, "")
	}
	trail.Close()
	var got []string
	for _, e := range recorded(t, dir) {
		got = append(got, e.Decision+" "+string(e.Rule)+" "+e.Outcome+" "+e.URL+" "+e.Issuer)
	}
	want := []string{
		"allow path passed https://home.test/login/index.php moodle", "allow path passed  moodle",
		"allow path landed " + strings.Replace(guardLand, guardToken, "sha256:"+audit.Hash(guardToken), 1) + " moodle",
		"refuse upstream-location refused  moodle", "error path error  moodle",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestACallOfAPeerIsOneEventWithItsRequest: a token that is refused is a
// redemption, and no other fault; and none of the calls of strangers is left out.
func TestACallOfAPeerIsOneEventWithItsRequest(t *testing.T) {
	trail, dir := newTrail(t, true)
	f := newRecordedFront(t, "https://home.test", trail)
	site, sp := wwwroot(t, "https://home.test"), &gateway.Peer{Wwwroot: wwwroot(t, "https://sp.test")}
	called := web.ObserveCalls(site, slog.New(slog.DiscardHandler), web.NewMetrics(func() bool { return true }), trail)
	redeemed := web.ObserveRedemptions(site, trail)
	fault := mnet.Event{Peer: sp, Verified: true, Method: "user_authorise", Reason: "token-unknown", Fault: &mnet.Fault{Code: 1}}
	for _, f.rpc = range []http.HandlerFunc{
		func(_ http.ResponseWriter, r *http.Request) {
			redeemed(r.Context(), idp.Redemption{Peer: sp, Err: store.ErrNoToken, Reason: "token-unknown"})
			called(r.Context(), fault)
		},
		func(_ http.ResponseWriter, r *http.Request) { called(r.Context(), fault) },
		func(_ http.ResponseWriter, r *http.Request) {
			called(r.Context(), mnet.Event{Reason: mnet.ReasonMalformed})
		},
		func(_ http.ResponseWriter, r *http.Request) {
			called(r.Context(), mnet.Event{Reason: mnet.ReasonMalformed})
		},
	} {
		f.do("POST", "https://home.test/mnet/xmlrpc/server.php")
	}
	trail.Close()
	var got []string
	for _, e := range recorded(t, dir) {
		got = append(got, string(e.Kind)+" "+e.Rule)
		if len(e.Request) != 16 {
			t.Errorf("%s has the request %q", e.Kind, e.Request)
		}
	}
	if diff := cmp.Diff([]string{"redemption token-unknown", "rpc token-unknown", "rpc malformed", "rpc malformed"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRedemptionsFaultsAndLogoutsAreEvents(t *testing.T) {
	trail, dir := newTrail(t, true)
	site, sp := wwwroot(t, "https://home.test"), &gateway.Peer{Wwwroot: wwwroot(t, "https://sp.test")}
	addr := netip.MustParseAddr("192.0.2.7")
	log, metrics := slog.New(slog.DiscardHandler), web.NewMetrics(func() bool { return true })
	metrics.WatchTrail(trail)

	redeemed := web.ObserveRedemptions(site, trail)
	for _, r := range []idp.Redemption{
		{Peer: sp, Addr: addr, Token: "t1", Username: "ada"},
		{Peer: sp, Addr: addr, Token: "t2", Err: store.ErrOtherPeer, Reason: "token-of-another-peer", Took: time.Second},
		{Peer: sp, Addr: addr, Token: "t3", Err: store.ErrUnavailable},
	} {
		if err := redeemed(t.Context(), r); err != nil {
			t.Error(err)
		}
	}
	called := web.ObserveCalls(site, log, metrics, trail)
	called(context.Background(), mnet.Event{Addr: addr, Peer: sp, Verified: true, Method: "a/b", Reason: mnet.ReasonOK})
	called(context.Background(), mnet.Event{Addr: addr, Peer: sp, Claimed: "https://sp.test", Reason: mnet.ReasonBadSignature, Fault: &mnet.Fault{Code: 7010}, Status: 200})
	called(context.Background(), mnet.Event{Addr: addr, Peer: sp, Verified: true, Method: "a/b", Reason: mnet.ReasonFailed, Err: errors.New("why\n"), Status: 200})
	web.ObserveLogouts(log, metrics, trail)(mnet.Logout{
		Site: site, At: sp.Wwwroot, Username: "ada", Cause: mnet.CauseHome, Outcome: mnet.OutcomeFailed, Took: time.Second, Err: errors.New("no answer"),
	})
	trail.Close()

	base := audit.Event{Site: "https://home.test"}
	event := func(kind audit.Kind, change func(*audit.Event)) audit.Event {
		e := base
		e.Kind = kind
		change(&e)
		return e
	}
	want := []audit.Event{
		event(audit.KindRedemption, func(e *audit.Event) {
			e.User, e.Decision, e.Issuer, e.Token = "ada", audit.Allow, "gateway", audit.Hash("t1")
		}),
		event(audit.KindRedemption, func(e *audit.Event) {
			e.Decision, e.Issuer, e.Token, e.Detail = audit.Refuse, "gateway", audit.Hash("t2"), "token of another peer"
			e.Rule, e.Latency = "token-of-another-peer", 1e6
		}),
		event(audit.KindRedemption, func(e *audit.Event) {
			e.Decision, e.Issuer, e.Token, e.Detail = audit.Failed, "gateway", audit.Hash("t3"), "redis unavailable"
		}),
		event(audit.KindRPC, func(e *audit.Event) {
			e.Decision, e.Rule, e.Outcome, e.Target = audit.Refuse, "bad-signature", "fault 7010", "https://sp.test"
		}),
		event(audit.KindRPC, func(e *audit.Event) {
			e.Decision, e.Rule, e.Step, e.Detail = audit.Refuse, "failed", "a/b", `why\n`
		}),
		event(audit.KindLogout, func(e *audit.Event) {
			e.User, e.Step, e.Outcome, e.Latency, e.Detail = "ada", "home", "failed", 1e6, "no answer"
		}),
	}
	for i := range want {
		want[i].Client, want[i].Peer = addr.String(), "https://sp.test"
	}
	want[3].Peer, want[5].Client = "", "" // who claims to be a peer is none
	if diff := cmp.Diff(want, recorded(t, dir), cmpopts.IgnoreFields(audit.Event{}, "Seq", "Time", "Prev")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	w := httptest.NewRecorder()
	web.NewAdmin(metrics, func() string { return "" }).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, line := range []string{"jumpgate_audit_events_total 6", "jumpgate_audit_lost_total 0", "jumpgate_audit_up 1"} {
		if !strings.Contains(w.Body.String(), line) {
			t.Errorf("metrics lack %s", line)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "audit.pub")); err != nil {
		t.Error(err)
	}
}
