package idp_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/gorilla/sessions"

	"jumpgate/gateway"
	"jumpgate/gateway/store"
	"jumpgate/idp"
)

func minutely(n int) gateway.Rate { return gateway.Rate{N: n, Per: time.Minute, Burst: n} }

// limitedTo is a home whose jumps are limited, in both places.
func limitedTo(t testing.TB, rates idp.Rates, change ...func(*home, *idp.Options)) *home {
	return newHome(t, store.Limits{}, append(change, func(h *home, o *idp.Options) {
		o.Rates = rates
		client := func(r *http.Request) netip.Addr { return o.Client(r) }
		o.Browsers = h.state.Sessions(sessions.Options{Path: "/", MaxAge: 900, HttpOnly: true, Secure: true}, store.Limits{Jumps: rates.Address}, client)
	})...)
}

func asAda() browser { return browser{"MoodleSession": adas} }

func TestALearnerJumpsNoMoreOftenThanTheirLimit(t *testing.T) {
	h := limitedTo(t, idp.Rates{User: minutely(2)})
	for range 2 {
		landing(t, h.jump(asAda(), "/x"))
	}
	a := h.jump(asAda(), "/x")
	if !a.Refused || a.Rule != gateway.RuleRateUser || a.After != 30*time.Second || a.Location != "" || a.Err != nil || a.Username != "ada" {
		t.Fatalf("the third: %+v", a)
	}
	if a.Probe() {
		t.Error("an eager learner is taken for an attacker")
	}
	// What is no jump is not counted, and needs none left.
	if a := h.jump(asAda(), "//evil.test"); a.Rule != gateway.RuleSchemeRelative {
		t.Errorf("a refused target: %+v", a)
	}
	head := asAda().request("HEAD", "https://home.test/moodle/auth/mnet/jump.php?hostid=3&wantsurl=/x")
	if a := h.Jump(httptest.NewRecorder(), head); a.Refused || a.Err != nil {
		t.Errorf("a HEAD: %+v", a)
	}
	h.now = h.now.Add(a.After)
	landing(t, h.jump(asAda(), "/x"))
}

func TestAJumpThatIsConfirmedCountsAsAnyOther(t *testing.T) {
	h := careful(t, gateway.UnsignedConfirm, false)
	h.with(func(o *idp.Options) { o.Rates = idp.Rates{User: minutely(1)} })
	b := asAda()
	tickets := []string{h.click(b, crossSite, "").Confirm.Ticket, h.click(b, crossSite, "").Confirm.Ticket} // to be asked costs nothing
	landing(t, h.press(b, tickets[0]))
	if a := h.press(b, tickets[1]); a.Rule != gateway.RuleRateUser || a.Location != "" || a.After <= 0 {
		t.Errorf("the second: %+v", a)
	}
}

func TestWhatIsRefusedAndAHeadAreNotCharged(t *testing.T) {
	h := limitedTo(t, idp.Rates{User: minutely(1), Address: minutely(1), Peer: minutely(1)})
	for range 5 {
		h.jump(asAda(), "//evil.test")
		h.jump(browser{"MoodleSession": workers}, "/x")
		h.Jump(httptest.NewRecorder(), asAda().request("HEAD", "https://home.test/moodle/auth/mnet/jump.php?hostid=3&wantsurl=/x"))
	}
	landing(t, h.jump(asAda(), "/x"))
}

func TestAPeersOwnRateCounts(t *testing.T) {
	own := func(rate *gateway.Rate) func(*home, *idp.Options) {
		return func(_ *home, o *idp.Options) { o.Peers.FindID(3).Rate = rate }
	}
	for name, test := range map[string]struct {
		usual gateway.Rate
		own   *gateway.Rate
		most  int // of 5
	}{
		"of all peers":             {minutely(2), nil, 2},
		"its own, which is less":   {minutely(4), new(minutely(1)), 1},
		"its own, which is more":   {minutely(1), new(minutely(3)), 3},
		"none, though others do":   {minutely(1), new(gateway.Rate{}), 5},
		"its own, though no other": {gateway.Rate{}, new(minutely(2)), 2},
		"none":                     {gateway.Rate{}, nil, 5},
	} {
		h := limitedTo(t, idp.Rates{Peer: test.usual}, own(test.own))
		landed := 0
		for range 5 {
			switch a := h.jump(asAda(), "/x"); {
			case a.Landing:
				landed++
			case a.Rule != gateway.RuleRatePeer:
				t.Errorf("%s: %+v", name, a)
			}
		}
		if landed != test.most {
			t.Errorf("%s: %d landed, want %d", name, landed, test.most)
		}
	}
}

// A jump from one address counts once, whether its learner has to log in first
// or not.
func TestAnAddressIsChargedForAClickOnce(t *testing.T) {
	h := limitedTo(t, idp.Rates{Address: minutely(3)})
	b := browser{}
	if a := h.jump(b, "/1"); a.Refused || a.Landing {
		t.Fatalf("%+v", a)
	}
	a, done := h.answer(b, b.request("POST", login), 303, redirect("MoodleSession="+adas))
	if !done {
		t.Fatal("the login is not the jump")
	}
	landing(t, a)
	landing(t, h.jump(b, "/2"))
	if a := h.jump(browser{}, "/3"); a.Refused {
		t.Errorf("the third click: %+v", a)
	}
	for name, b := range map[string]browser{"logged in": asAda(), "anonymous": {}} {
		if a := h.jump(b, "/4"); a.Rule != gateway.RuleRateAddress || !a.Refused || a.After <= 0 || a.Location != "" {
			t.Errorf("%s, the fourth: %+v", name, a)
		}
		if name == "anonymous" && len(b) != 0 {
			t.Errorf("a refused jump left a cookie: %v", b)
		}
	}
}

// A learner who logs in with a jump that comes too soon is told so once, and is
// logged in all the same.
func TestALimitKeepsNobodyFromLoggingIn(t *testing.T) {
	h := limitedTo(t, idp.Rates{User: minutely(1)})
	landing(t, h.jump(asAda(), "/x"))
	b := browser{}
	h.jump(b, "/1")
	h.jump(b, "/2")
	a, done := h.answer(b, b.request("POST", login), 303, redirect("MoodleSession="+adas))
	if !done || !a.Refused || a.Rule != gateway.RuleRateUser || a.After <= 0 || a.Username != "ada" || a.Location != "" {
		t.Fatalf("answered %v: %+v", done, a)
	}
	if b["MoodleSession"] != adas {
		t.Error("the login is lost")
	}
	if _, done := h.answer(b, b.request("GET", "https://home.test/moodle/my/"), 200, page()); done {
		t.Error("told twice")
	}
	h.now = h.now.Add(time.Minute)
	landing(t, h.jump(b, "/1"))
}

func TestLimitsCostAJumpNoRoundTrip(t *testing.T) {
	h := limitedTo(t, idp.Rates{User: minutely(99), Address: minutely(99), Peer: minutely(99)})
	for name, b := range map[string]browser{"logged in": asAda(), "anonymous": {"MoodleSession": anonymous}} {
		h.jump(b, "/warm-up")
		for range 2 {
			before := h.trips.n.Load()
			h.jump(b, "/x")
			if got := h.trips.n.Load() - before; got != 1 {
				t.Errorf("%s: %d round trips", name, got)
			}
		}
	}
}

func TestLimitsHoldForLoginsAtAProvider(t *testing.T) {
	c := newCollege(t)
	c.Provider.Rates = idp.Rates{User: minutely(2), Address: minutely(9)}
	b := browser{}
	a, _ := c.comeBack(b, c.login(t, c.jump(b, "/1")))
	landing(t, a)
	before := c.trips.n.Load()
	landing(t, c.jump(b, "/2"))
	if n := c.trips.n.Load() - before; n != 2 {
		t.Errorf("a jump with a login of before costs %d round trips", n)
	}
	if a := c.jump(b, "/3"); a.Rule != gateway.RuleRateUser || a.After != 30*time.Second {
		t.Errorf("the third: %+v", a)
	}
	other := browser{} // the same learner in another browser
	if a, _ := c.comeBack(other, c.login(t, c.jump(other, "/4"))); a.Rule != gateway.RuleRateUser || !a.Refused {
		t.Errorf("after a login: %+v", a)
	}
}

func TestAGuardLimitsWhatMoodleCarriesOut(t *testing.T) {
	h := newHome(t, store.Limits{})
	g := newGuard(t).Limit(h.state, idp.Rates{User: minutely(1), Address: minutely(3), Peer: minutely(2)}, h.Client)
	jump := func(method, query string) (idp.Answer, string) { return g.Jump(jumpRequest(method, query)) }
	jump("GET", "hostid=3&wantsurl=/x") // loads the script
	before := h.trips.n.Load()
	if a, target := jump("GET", "hostid=3&wantsurl=/x"); a.Refused || target == "" {
		t.Fatalf("the second: %+v", a)
	}
	if n := h.trips.n.Load() - before; n != 1 {
		t.Errorf("%d round trips", n)
	}
	if a, target := jump("GET", "hostid=3&wantsurl=/x"); a.Rule != gateway.RuleRatePeer || a.After != 30*time.Second || target != "" {
		t.Errorf("the third there: %+v, %q", a, target)
	}
	if a, _ := jump("HEAD", "hostid=3&wantsurl=/x"); a.Refused {
		t.Errorf("a HEAD: %+v", a)
	}
	if a, target := jump("GET", "hostwwwroot=https://mahara.test&wantsurl=/x"); a.Refused || target == "" {
		t.Errorf("another peer: %+v", a)
	}
	if a, target := jump("GET", "hostwwwroot=https://mahara.test&wantsurl=/x"); a.Rule != gateway.RuleRateAddress || target != "" {
		t.Errorf("the fourth of the address: %+v, %q", a, target)
	}

	h.redis.Close()
	if a, target := jump("GET", "hostid=3&wantsurl=/x"); a.Err == nil || a.Refused || target != "" {
		t.Errorf("without Redis: %+v, %q", a, target)
	}
	if a, target := newGuard(t).Limit(h.state, idp.Rates{User: minutely(1)}, h.Client).Jump(jumpRequest("GET", "hostid=3&wantsurl=/x")); a.Err != nil || target == "" {
		t.Errorf("without Redis and without limits: %+v, %q", a, target)
	}
}

func TestAProbeIsToldFromAMistake(t *testing.T) {
	h := newHome(t, store.Limits{})
	tests := []struct {
		query string
		probe bool
	}{
		{"hostid=3&wantsurl=/x", false},
		{"hostid=3&wantsurl=//evil.test", true},
		{"hostid=3&wantsurl=https://evil.test/", true},
		{"hostid=3&wantsurl=.evil.test", true},
		{"hostid=3&wantsurl=/%5Cevil.test", true},
		{"hostid=3&wantsurl=/%2509/evil.test", true},
		{"hostid=3&wantsurl=/x%2525", false},
		{"hostid=3&wantsurl=/x%252", false}, // cut off in a mail
		{"hostid=99&wantsurl=/x", false},    // a link from before
		{"hostwwwroot=https://evil.test&wantsurl=/x", true},
		{"hostwwwroot=https://sp.test.evil.test", true},
		{"wr=https://evil.test", true},
		{"wantsurl=/x", false},
		{"hostid=x", false},
		{"hostid=3&hostid=3", false},
	}
	for _, test := range tests {
		for _, method := range []string{"GET", "HEAD"} {
			a := h.Jump(httptest.NewRecorder(), asAda().request(method, "https://home.test/moodle/auth/mnet/jump.php?"+test.query))
			if a.Probe() != test.probe {
				t.Errorf("%s %s: rule %s, probe %v", method, test.query, a.Rule, a.Probe())
			}
		}
	}
}

// BenchmarkJump measures a jump of a learner who is logged in, up to the
// address that they are sent to, with limits and without.
func BenchmarkJump(b *testing.B) {
	much := gateway.Rate{N: 1e6, Per: time.Second, Burst: 1e6}
	for name, rates := range map[string]idp.Rates{"limits": {User: much, Address: much}, "none": {}} {
		b.Run(name, func(b *testing.B) {
			h := limitedTo(b, rates)
			b.ReportAllocs()
			for b.Loop() {
				if a := h.jump(asAda(), "/x"); !a.Landing {
					b.Fatalf("%+v", a)
				}
			}
		})
	}
}
