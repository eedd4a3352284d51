package web_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/proxy"
	"jumpgate/idp"
	"jumpgate/sp"
	"jumpgate/web"
)

const (
	guardToken = "0123456789abcdef0123456789abcdef01234567"
	guardLand  = "https://sp.test/auth/mnet/land.php?token=" + guardToken + "&idp=https://home.test&wantsurl=%2Fx%3Fd%3D1%23p2"
	guardJump  = "https://home.test/auth/mnet/jump.php?hostid=3&wantsurl=%2Fx%3Fd%3D1%23p2"
)

// guarded is a gateway in guard mode, before a Moodle that a test plays.
type guarded struct {
	http.Handler
	log     *logBuffer
	metrics *web.Metrics
	moodle  http.HandlerFunc
	site    *web.Site

	mu   sync.Mutex // a request that Moodle breaks off is sent again
	seen string     // what reached Moodle
}

func (g *guarded) see(what string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.seen = what
}

func newGuarded(t *testing.T, aliases ...gateway.Wwwroot) *guarded {
	t.Helper()
	g := &guarded{log: &logBuffer{}, metrics: web.NewMetrics(func() bool { return true })}
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		g.see(fmt.Sprintf("%s %s %s %q", r.Method, r.RequestURI, r.Header.Get("Cookie"), body))
		g.moodle(w, r)
	}))
	t.Cleanup(upstream.Close)
	behind, err := url.Parse(upstream.URL)
	if err != nil {
		t.Fatal(err)
	}
	site, log := wwwroot(t, "https://home.test"), slog.New(slog.NewTextHandler(g.log, nil))
	through, err := proxy.New(proxy.Options{Upstream: behind, Site: site, RequestID: web.RequestID, ErrorPage: web.UpstreamFailed(site, log, g.metrics)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(through.CloseIdle)
	peers, err := gateway.NewAllowlist(&gateway.Peer{
		Wwwroot: wwwroot(t, "https://sp.test"), HostID: 3, Application: gateway.Moodle,
		Publish: []string{gateway.ServiceSSOIDP}, Subscribe: []string{gateway.ServiceSSOSP},
	})
	if err != nil {
		t.Fatal(err)
	}
	g.site = &web.Site{
		Wwwroot: site, Aliases: aliases, Peers: peers, Proxy: through, Guard: idp.NewGuard(site, peers, aliases...),
		Homes:    &sp.Homes{Site: site, Peers: peers, Keys: func() [][32]byte { return make([][32]byte, 1) }, Now: time.Now},
		Landings: landings(site, peers, accounts{adas: "Ada Lovelace", bobs: "Bob Builder"}, &once{}, func(*http.Request) netip.Addr { return netip.MustParseAddr("192.0.2.1") }),
		RPC:      http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "rpc of "+r.Host+r.URL.Path) }),
	}
	g.Handler = web.NewHandler([]*web.Site{g.site}, nil, log, g.metrics)
	return g
}

// do sends a request with Moodle's cookie and one of ours, as is left from
// another issuer.
func (g *guarded) do(method, target, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Header.Set("Cookie", "MoodleSession=m; "+gateway.CookiePrefix+"browser-x=y")
	g.see("")
	w := httptest.NewRecorder()
	g.ServeHTTP(w, r)
	return w
}

func (g *guarded) scrape() string {
	w := httptest.NewRecorder()
	web.NewAdmin(g.metrics, func() string { return "" }).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.String()
}

func sends(status int, header http.Header) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for name, values := range header {
			w.Header()[name] = values
		}
		w.Header().Add("Set-Cookie", "MoodleSession=n")
		w.WriteHeader(status)
		io.WriteString(w, "moodle's own words, and "+guardToken)
	}
}

func TestAGuardedJumpLands(t *testing.T) {
	g := newGuarded(t)
	g.moodle = sends(302, http.Header{"Location": {guardLand}, "Cache-Control": {"public"}, "X-Redirect-By": {"Moodle"}})
	w := g.do("GET", guardJump+"&remoteurl=1", "hostid=4")
	if want := `GET /auth/mnet/jump.php?hostid=3&wantsurl=%2Fx%3Fd%3D1%23p2 MoodleSession=m ""`; g.seen != want {
		t.Errorf("Moodle got %s, want %s", g.seen, want)
	}
	h := w.Header()
	if w.Code != 303 || h.Get("Location") != guardLand || h.Get("Set-Cookie") != "MoodleSession=n" || w.Body.Len() > 0 ||
		h.Get("Cache-Control") != "no-store" || h.Get("Referrer-Policy") != "no-referrer" || h.Get("X-Redirect-By") != "" {
		t.Errorf("%d %v %s", w.Code, h, w.Body)
	}
	// A Mahara's jump is one that Moodle knows when it gets there.
	if g.do("GET", "https://home.test/auth/xmlrpc/jump.php?wr=https://sp.test&ins=4&wantsurl=%2Fx%3Fd%3D1%23p2", "hostid=4"); g.seen != `GET /auth/mnet/jump.php?hostid=3&wantsurl=%2Fx%3Fd%3D1%23p2 MoodleSession=m ""` {
		t.Errorf("of a Mahara's jump Moodle got %s", g.seen)
	}
	if line := g.log.String(); !strings.Contains(line, "level=INFO msg=jump") || !strings.Contains(line, "outcome=landed") || strings.Contains(line, guardToken) {
		t.Errorf("the log: %s", line)
	}
}

func TestWhatAHostileMoodleAnswersEndsOnAPage(t *testing.T) {
	for _, test := range []struct {
		name   string
		status int
		header http.Header
		record string
	}{
		{"another site", 303, http.Header{"Location": {"https://evil.test/?token=" + guardToken}}, "https://evil.test/?[query]"},
		{"two Locations", 303, http.Header{"Location": {guardLand, "https://evil.test/"}}, "Location: https://evil.test/"},
		{"another page of the peer", 303, http.Header{"Location": {strings.Replace(guardLand, "land.php", "jump.php", 1)}}, "not the landing address of https://sp.test"},
		{"a log line of its own", 303, http.Header{"Location": {"https://evil.test/\tx\"\xe2\x80\xae level=INFO"}}, "evil.test"},
		{"a page with a Refresh", 200, http.Header{"Refresh": {"0;url=https://evil.test/"}}, "Refresh: 0;url=https://evil.test/"},
		{"a redirect without an address", 307, nil, "307"},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := newGuarded(t)
			g.moodle = sends(test.status, test.header)
			w := g.do("GET", guardJump, "")
			page := w.Body.String()
			if w.Code != 502 || w.Header().Get("Location") != "" || w.Header().Get("Refresh") != "" || w.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("%d %v", w.Code, w.Header())
			}
			if !strings.Contains(page, "<title>We stopped this jump</title>") || !strings.Contains(page, "upstream-location") ||
				strings.Contains(page, "evil.test") || strings.Contains(page, guardToken) {
				t.Errorf("the page:\n%s", page)
			}
			line := g.log.String()
			for _, want := range []string{"level=WARN msg=jump", "outcome=refused", "rule=upstream-location", "peer=https://sp.test", test.record} {
				if strings.Count(line, "\n") != 1 || !strings.Contains(line, want) {
					t.Errorf("the log lacks %q: %s", want, line)
				}
			}
			if strings.ContainsAny(line, "\u202e") || strings.Contains(line, guardToken) {
				t.Errorf("the log: %q", line)
			}
			if want := `jumpgate_jumps_total{outcome="refused",peer="https://sp.test",rule="upstream-location",site="https://home.test"} 1`; !strings.Contains(g.scrape(), want) {
				t.Errorf("the metrics lack %s", want)
			}
		})
	}
}

func TestMoodlesOwnPagesPassAGuard(t *testing.T) {
	g := newGuarded(t)
	g.moodle = sends(303, http.Header{"Location": {"https://home.test/login/index.php"}})
	if w := g.do("GET", guardJump, ""); w.Code != 303 || w.Header().Get("Location") != "https://home.test/login/index.php" ||
		w.Header().Get("Set-Cookie") != "MoodleSession=n" {
		t.Errorf("its login page: %d %v", w.Code, w.Header())
	}
	g.moodle = sends(404, nil)
	if w := g.do("GET", guardJump, ""); w.Code != 404 || !strings.Contains(w.Body.String(), "moodle's own words") || len(w.Header()["Set-Cookie"]) != 1 ||
		!strings.HasPrefix(w.Header().Get("Content-Security-Policy"), "sandbox ") {
		t.Errorf("an error page: %d %v %s", w.Code, w.Header(), w.Body)
	}
	if n := strings.Count(g.log.String(), "outcome=passed rule=path"); n != 2 {
		t.Errorf("%d lines say so: %s", n, g.log)
	}
}

func TestWhatAGuardRefusesNeverReachesMoodle(t *testing.T) {
	g := newGuarded(t)
	g.moodle = sends(200, nil)
	for _, test := range []struct {
		name, method, target string
		status               int
	}{
		{"a refused target", "GET", "https://home.test/auth/mnet/jump.php?hostid=3&wantsurl=evil.test/", 403},
		{"an unknown peer", "GET", "https://home.test/auth/mnet/jump.php?hostwwwroot=https://evil.test", 404},
		{"a HEAD", "HEAD", guardJump, 200},
		{"a POST", "POST", guardJump, 405},
		{"another spelling of the jump", "GET", "https://home.test/auth/mnet/jump.php/x?hostid=3", 404},
		{"another spelling of the endpoint", "POST", "https://home.test/mnet/xmlrpc//server.php", 404},
		{"a POST to the key", "POST", "https://home.test/mnet/publickey.php", 405},
		{"the endpoint itself", "POST", "https://home.test/mnet/xmlrpc/server.php", 200}, // is the Relay's
	} {
		if w := g.do(test.method, test.target, ""); w.Code != test.status || g.seen != "" {
			t.Errorf("%s: %d; Moodle got %q", test.name, w.Code, g.seen)
		}
	}
	if g.do("GET", "https://home.test/mnet/publickey.php?x=1", "x"); g.seen != `GET /mnet/publickey.php MoodleSession=m ""` {
		t.Errorf("the key: Moodle got %q", g.seen)
	}
	// Whoever has a jump pending from another issuer reads pages as they come.
	r := httptest.NewRequest("GET", "https://home.test/my/", nil)
	r.AddCookie(&http.Cookie{Name: wwwroot(t, "https://home.test").CookieName("browser"), Value: strings.Repeat("a", 40)})
	r.AddCookie(&http.Cookie{Name: "MoodleSession", Value: adas})
	w := httptest.NewRecorder()
	if g.ServeHTTP(w, r); w.Code != 200 || !strings.HasPrefix(g.seen, "GET /my/ ") {
		t.Errorf("a page: %d; Moodle got %q", w.Code, g.seen)
	}
}

func TestAGuardedJumpWithoutMoodle(t *testing.T) {
	g := newGuarded(t)
	g.moodle = func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	if w := g.do("GET", guardJump, ""); w.Code != 502 || !strings.Contains(w.Body.String(), "The site does not answer") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestAGuardedMoodleIsAskedByItsOwnName(t *testing.T) {
	g := newGuarded(t, wwwroot(t, "http://old.test/moodle"))
	g.moodle = func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "moodle at "+r.Host+r.RequestURI) }
	for _, test := range [][3]string{
		{"GET", "/moodle/mnet/publickey.php", "moodle at home.test/mnet/publickey.php"},
		{"POST", "/moodle/mnet/xmlrpc/server.php", "rpc of home.test/mnet/xmlrpc/server.php"},
		{"GET", "/moodle/auth/mnet/jump.php?hostid=3&wantsurl=//evil.test", "scheme-relative"},
	} {
		if w := g.do(test[0], "http://old.test"+test[1], ""); !strings.Contains(w.Body.String(), test[2]) {
			t.Errorf("%s: %d %s", test[1], w.Code, w.Body)
		}
	}
	w := g.do("GET", "http://old.test/moodle/auth/mnet/jump.php?hostid=3&wantsurl=/x", "")
	if want := "https://home.test/auth/mnet/jump.php?hostwwwroot=https%3A%2F%2Fsp.test&wantsurl=%2Fx"; w.Code != 303 || w.Header().Get("Location") != want || g.seen != "" {
		t.Errorf("a jump: %d %s; Moodle saw %q", w.Code, w.Header().Get("Location"), g.seen)
	}
}
