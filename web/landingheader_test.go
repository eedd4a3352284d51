package web_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"jumpgate/gateway"
	"jumpgate/gateway/audit"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/moodle"
	"jumpgate/gateway/store"
	"jumpgate/sp"
)

// byHeader is a Moodle that logs in by headers, and a home that vouches for ada.
type byHeader struct {
	fault, rate, err error
	cookies          []string
}

func (m *byHeader) Identity(context.Context, moodle.Browser) (gateway.Identity, error) {
	return gateway.Identity{User: gateway.User{ID: 7, Username: "ada@sp.test", Auth: moodle.AuthHeader}}, nil
}

func (m *byHeader) HeaderLogin(context.Context, moodle.Browser, gateway.User) (moodle.Login, error) {
	return moodle.Login{Session: bobs, Cookies: m.cookies}, m.err
}

func (m *byHeader) Logout(context.Context, moodle.Browser, int64) error { return nil }

func newByHeader(t *testing.T) (*guarded, *byHeader) {
	g, m := newGuarded(t), &byHeader{cookies: []string{"MoodleSession=" + bobs + "; path=/; HttpOnly", "jumpgate-browser-x=evil", "MOODLEID1_=x"}}
	g.site.Peers.Peers()[0].Subscribe = []string{gateway.ServiceSSOIDP}
	names, err := gateway.ParseAccountNames(gateway.DefaultNames)
	if err != nil {
		t.Fatal(err)
	}
	redis, err := store.Open(store.Options{Addr: store.Embedded})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { redis.Close() })
	g.site.Visits = &sp.Visits{
		Site: g.site.Wwwroot, Peers: g.site.Peers, Cookie: "MoodleSession", Life: time.Hour, Store: redis.Site(g.site.Wwwroot),
		Secrets: func() [][32]byte { return [][32]byte{{1}} }, Now: time.Now, Logout: m.Logout,
		Children: mnet.NewChildren(func(mnet.Logout) {}, nil),
	}
	g.site.Landings.Source = m
	g.site.Landings.Spend = func(context.Context, netip.Addr) error { return m.rate }
	g.site.Landings.Logins = &sp.Logins{
		Names: names, Door: &sp.HeaderDoor{Moodle: m}, Visits: g.site.Visits,
		Call: func(context.Context, *gateway.Peer, string, ...mnet.Value) (mnet.Value, error) {
			return mnet.Struct{{Name: "username", Value: "ada"}, {Name: "firstname", Value: "Ada"}, {Name: "lastname", Value: "L"}, {Name: "email", Value: "a@b"}}, m.fault
		},
	}
	return g, m
}

func TestALandingByHeaderIsOneRedirectAndOneEvent(t *testing.T) {
	g, m := newByHeader(t)
	trail, dir := newTrail(t, true)
	g.site.Trail = trail
	w := g.do("GET", strings.Replace(landHere, "token=abc", "token=secret", 1), "")
	if w.Code != 303 || w.Header().Get("Location") != "https://home.test/mod/x#p3" || w.Body.Len() != 0 || g.seen != "" {
		t.Fatalf("%d %v\n%s\nMoodle saw %s", w.Code, w.Header(), w.Body, g.seen)
	}
	cookies := w.Header()["Set-Cookie"]
	if len(cookies) != 3 || cookies[0] != m.cookies[0] || !strings.Contains(cookies[2], "jumpgate-home-") || strings.Contains(strings.Join(cookies, "\n"), "evil") {
		t.Errorf("cookies %q", cookies)
	}
	m.err = fmt.Errorf("%w: status 404", moodle.ErrLoginRefused)
	g.do("GET", strings.Replace(landHere, "token=abc", "token=another", 1), "")
	trail.Close()
	base := audit.Event{Kind: audit.KindLanding, Site: "https://home.test", Client: "192.0.2.1", Peer: "https://sp.test", Step: "land", Target: "/mod/x#p3", Origin: "cross-site"}
	landed, refused := base, base
	landed.Decision, landed.Rule, landed.Outcome, landed.User, landed.URL, landed.Token = "allow", "path", "landed", "ada@sp.test", "https://home.test/mod/x#p3", audit.Hash("secret")
	refused.Decision, refused.Rule, refused.Outcome, refused.Token, refused.Detail = "refuse", "account-refused", "refused", audit.Hash("another"), "moodle logs nobody in: status 404"
	if diff := cmp.Diff([]audit.Event{landed, refused}, recorded(t, dir), cmpopts.IgnoreFields(audit.Event{}, "Seq", "Time", "Request", "Latency", "Prev")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if log := g.log.String(); !strings.Contains(log, "newcomer=ada@sp.test") || !strings.Contains(log, `cause="moodle logs nobody in: status 404"`) || strings.Contains(log, "secret") || strings.Contains(log, bobs) {
		t.Errorf("the log:\n%s", log)
	}
}

func TestALandingThatCannotBeRecordedLogsNobodyIn(t *testing.T) {
	g, _ := newByHeader(t)
	trail, _ := newTrail(t, true)
	trail.Close()
	g.site.Trail = trail
	if w := g.do("GET", landHere, ""); w.Code != 503 || w.Header()["Set-Cookie"] != nil || w.Header().Get("Location") != "" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

func TestThePageOfALandingByHeaderLeadsHome(t *testing.T) {
	const again = `href="https://sp.test/auth/mnet/jump.php?hostwwwroot=https%3A%2F%2Fhome.test&amp;wantsurl=%2Fmod%2Fx%23p3"`
	for _, test := range []struct {
		name   string
		change func(*byHeader, *gateway.Peer)
		status int
		page   []string
		retry  string
	}{
		{"a token that the home does not know", func(m *byHeader, _ *gateway.Peer) { m.fault = &mnet.Fault{Code: 1} },
			403, []string{"This login is over", again, `href="https://sp.test/"`, "<dd>token-refused</dd>"}, ""},
		{"a home that does not answer", func(m *byHeader, _ *gateway.Peer) { m.fault = errors.New("dial 10.0.0.1") },
			502, []string{"Your home site does not answer", again}, "30"},
		{"too many", func(m *byHeader, _ *gateway.Peer) {
			m.rate = &store.RateError{Rule: gateway.RuleRateAddress, After: 90 * time.Second}
		},
			429, []string{"Too many visitors", `href="https://sp.test/"`}, "90"},
		{"an account that is refused", func(m *byHeader, _ *gateway.Peer) { m.err = moodle.ErrLoginRefused }, 403, []string{"does not let you in", again}, ""},
		{"Moodle is down", func(m *byHeader, _ *gateway.Peer) { m.err = errors.New("dial 10.0.0.1") }, 503, []string{"a part of this site does not answer"}, "30"},
		{"a home that is off", func(_ *byHeader, p *gateway.Peer) { p.Off = true }, 403, []string{"switched off", `href="https://home.test/"`}, ""},
		{"a peer that is no home", func(_ *byHeader, p *gateway.Peer) { p.Subscribe = nil }, 403, []string{"does not log in its people"}, ""},
	} {
		g, m := newByHeader(t)
		test.change(m, g.site.Peers.Peers()[0])
		w := g.do("GET", strings.Replace(landHere, "token=abc", "token=secret", 1), "")
		page := w.Body.String()
		for _, want := range test.page {
			if !strings.Contains(page, want) {
				t.Errorf("%s: the page lacks %s:\n%s", test.name, want, page)
			}
		}
		if w.Code != test.status || w.Header().Get("Retry-After") != test.retry || w.Header()["Set-Cookie"] != nil || strings.Contains(page, "10.0.0.1") || strings.Contains(page, "secret") {
			t.Errorf("%s: %d %v\n%s", test.name, w.Code, w.Header(), page)
		}
	}
}

// TestNobodyReachesThePluginThatLogsIn: its logout.php ends the sessions of all
// whom we have logged in, for anybody, and redirects anywhere.
func TestNobodyReachesThePluginThatLogsIn(t *testing.T) {
	for _, path := range []string{
		"/auth/shibboleth/logout.php", "/auth/shibboleth/logout.php?action=logout&return=https://evil.test/", "/auth/shibboleth/logout.php/x",
		"/auth/shibboleth/index.php", "/auth/shibboleth/login.php", "/auth/shibboleth", "/auth/shibboleth/", "//auth//shibboleth/logout.php",
		"/x/../auth/shibboleth/logout.php", "/auth/%73hibboleth/logout.php", "/auth%2fshibboleth/logout.php", `/auth\shibboleth/logout.php`,
		"/Auth/SHIBBOLETH/logout.php", "/auth/shibboleth./logout.php", "/auth/shibboleth%20/logout.php", "/auth/shibboleth;x/logout.php",
	} {
		for _, method := range []string{"GET", "HEAD", "POST"} {
			g, _ := newByHeader(t)
			g.moodle = sends(200, nil)
			if w := g.do(method, "https://home.test"+path, "<Envelope/>"); w.Code != 404 || w.Header().Get("Location") != "" || g.seen != "" {
				t.Errorf("%s %s: %d %v\nMoodle saw %s", method, path, w.Code, w.Header(), g.seen)
			}
		}
	}
	for _, path := range []string{"/auth/shibbolethx/index.php", "/mod/page/auth/shibboleth/index.php", "/auth/oauth2/login.php?x=/auth/shibboleth/"} {
		g, _ := newByHeader(t)
		g.moodle = sends(200, nil)
		if w := g.do("GET", "https://home.test"+path, ""); w.Code != 200 || g.seen == "" {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	g := newGuarded(t) // where Moodle lands, the plugin may be somebody's
	g.moodle = sends(200, nil)
	if w := g.do("GET", "https://home.test/auth/shibboleth/index.php", ""); w.Code != 200 || g.seen == "" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}
