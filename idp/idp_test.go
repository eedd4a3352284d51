package idp_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/sessions"
	"github.com/redis/go-redis/v9"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/moodle"
	"jumpgate/gateway/store"
	"jumpgate/idp"
)

// Session ids as PHP makes them.
const (
	anonymous = "anonymous0anonymous0anonym"
	adas      = "adaadaadaadaadaadaadaadaad"
	guests    = "guestguestguestguestguestg"
	workers   = "loginasloginasloginasloginas"
	factors   = "factorfactorfactorfactorfa"
	overdue   = "overdueoverdueoverdueoverdue"
	broken    = "brokenbrokenbrokenbrokenbr"
)

var ada = gateway.User{ID: 3, Username: "ada", FirstName: "Ada", LastName: "Lovelace", Email: "ada@home.test", City: "London", Auth: "manual", MnetHostID: 1}

// people is an identity source with a fixed set of sessions.
type people struct {
	asked  atomic.Int32
	forgot atomic.Pointer[string]
	mfa    atomic.Bool // factors is complete

	changed atomic.Bool // overdue has a new password
}

func (p *people) Identity(_ context.Context, b moodle.Browser) (gateway.Identity, error) {
	p.asked.Add(1)
	switch b.Session {
	case adas:
		return gateway.Identity{User: ada}, nil
	case guests:
		return gateway.Identity{User: gateway.User{ID: 1, Username: "guest"}, Guest: true}, nil
	case workers:
		return gateway.Identity{User: ada, LoginAs: true}, nil
	case factors:
		return gateway.Identity{User: ada, MFAPending: !p.mfa.Load()}, nil
	case overdue:
		return gateway.Identity{User: ada, PasswordDue: !p.changed.Load()}, nil
	case broken:
		return gateway.Identity{}, errors.New("moodle's redis does not answer")
	}
	return gateway.Identity{}, nil
}

func (p *people) Forget(_ context.Context, session string) error {
	p.forgot.Store(&session)
	return nil
}

// trips counts round trips to Redis.
type trips struct{ n atomic.Int32 }

func (c *trips) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (c *trips) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { c.n.Add(1); return next(ctx, cmd) }
}

func (c *trips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { c.n.Add(1); return next(ctx, cmds) }
}

// home is a provider on an embedded Redis.
type home struct {
	*idp.Provider
	source *people
	redis  *store.Redis
	trips  *trips
	state  *store.Site
	now    time.Time
	nonce  byte
}

func wwwroot(t testing.TB, s string) gateway.Wwwroot {
	t.Helper()
	w, err := gateway.ParseWwwroot(s)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func newHome(t testing.TB, limits store.Limits, change ...func(*home, *idp.Options)) *home {
	t.Helper()
	h := &home{source: &people{}, trips: &trips{}, now: time.Unix(1795336536, 0)}
	var err error
	h.redis, err = store.Open(store.Options{Addr: store.Embedded, Now: func() time.Time { return h.now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.redis.Close() })
	site := wwwroot(t, "https://home.test/moodle")
	peers, err := gateway.NewAllowlist(
		&gateway.Peer{
			Wwwroot: wwwroot(t, "https://sp.test"), HostID: 3, Application: gateway.Moodle,
			Publish: []string{gateway.ServiceSSOIDP}, Subscribe: []string{gateway.ServiceSSOSP},
		},
		&gateway.Peer{
			Wwwroot: wwwroot(t, "https://mahara.test"), Application: gateway.Mahara,
			Publish: []string{gateway.ServiceSSOIDP}, Subscribe: []string{gateway.ServiceSSOSP},
		})
	if err != nil {
		t.Fatal(err)
	}
	h.state = h.redis.Site(site)
	client := func(*http.Request) netip.Addr { return netip.MustParseAddr("192.0.2.1") }
	options := idp.Options{
		Site: site, Peers: peers, Source: h.source, Store: h.state, Cookie: "MoodleSession",
		Browsers:       h.state.Sessions(sessions.Options{Path: "/", MaxAge: 900, HttpOnly: true, Secure: true}, limits, client),
		SessionTimeout: 8 * time.Hour, Client: client, Secrets: func() [][32]byte { return [][32]byte{{1}} },
		Children: mnet.NewChildren(func(mnet.Logout) {}, nil),
		Call:     func(context.Context, *gateway.Peer, string, ...mnet.Value) (mnet.Value, error) { return true, nil },
	}
	for _, c := range change {
		c(h, &options)
	}
	h.Provider = idp.New(options)
	if err := h.redis.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.redis.Client().AddHook(h.trips)
	return h
}

// browser keeps the cookies of one browser.
type browser map[string]string

func (b browser) request(method, target string) *http.Request {
	r := httptest.NewRequest(method, target, nil)
	r.Header.Set("User-Agent", "Mozilla/5.0 (test)")
	for name, value := range b {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	return r
}

func (b browser) keep(h http.Header) {
	for _, line := range h["Set-Cookie"] {
		if c, err := http.ParseSetCookie(line); err == nil {
			b[c.Name] = c.Value
			if c.MaxAge < 0 {
				delete(b, c.Name)
			}
		}
	}
}

// jump follows a jump link for wantsurl at https://sp.test.
func (h *home) jump(b browser, wantsurl string) idp.Answer {
	w := httptest.NewRecorder()
	r := b.request("GET", "https://home.test/moodle/auth/mnet/jump.php?hostwwwroot=https://sp.test&wantsurl="+url.QueryEscape(wantsurl))
	a := h.Jump(w, r)
	b.keep(w.Header())
	return a
}

// answer lets Return look at what Moodle answers to a request.
func (h *home) answer(b browser, r *http.Request, status int, header http.Header) (idp.Answer, bool) {
	if !h.Expects(r) {
		b.keep(header)
		return idp.Answer{}, false
	}
	w := httptest.NewRecorder()
	a, done := h.Return(w, r, &http.Response{StatusCode: status, Header: header})
	b.keep(header)
	b.keep(w.Header())
	return a, done
}

func redirect(cookies ...string) http.Header {
	h := http.Header{"Location": {"https://home.test/moodle/my/"}}
	for _, c := range cookies {
		h.Add("Set-Cookie", c)
	}
	return h
}

func page() http.Header { return http.Header{"Content-Type": {"text/html; charset=utf-8"}} }

// landing takes a landing address apart.
func landing(t *testing.T, a idp.Answer) (token, wantsurl string) {
	t.Helper()
	const prefix = "https://sp.test/auth/mnet/land.php?token="
	if a.Refused || a.Err != nil || !a.Landing || !strings.HasPrefix(a.Location, prefix) {
		t.Fatalf("no landing: %+v", a)
	}
	u, err := url.Parse(a.Location)
	if err != nil {
		t.Fatal(err)
	}
	if idp := u.Query().Get("idp"); idp != "https://home.test/moodle" {
		t.Errorf("idp is %q", idp)
	}
	return u.Query().Get("token"), u.Query().Get("wantsurl")
}
