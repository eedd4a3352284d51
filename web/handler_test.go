package web_test

import (
	"bytes"
	"context"
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

	"github.com/gorilla/sessions"

	"jumpgate/gateway"
	"jumpgate/gateway/audit"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/moodle"
	"jumpgate/gateway/proxy"
	"jumpgate/gateway/store"
	"jumpgate/idp"
	"jumpgate/sp"
	"jumpgate/web"
)

// source knows one session, ada's.
type source struct{}

const adas = "adaadaadaadaadaadaadaadaad"

func (source) Identity(_ context.Context, b moodle.Browser) (gateway.Identity, error) {
	if b.Session != adas {
		return gateway.Identity{}, nil
	}
	return gateway.Identity{User: gateway.User{ID: 3, Username: "ada", FirstName: "Ada", LastName: "Lovelace", Email: "ada@home.test"}}, nil
}

// front is a gateway in front of an upstream that answers with the path that
// it was asked for.
type front struct {
	http.Handler
	upstream *httptest.Server
	redis    *store.Redis
	metrics  *web.Metrics
	log      *logBuffer
	rpc      http.HandlerFunc
	last     proxy.Inspect
	site     *web.Site
}

// logBuffer is a log that many goroutines may write to and read.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func wwwroot(t testing.TB, s string) gateway.Wwwroot {
	t.Helper()
	w, err := gateway.ParseWwwroot(s)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func newFront(t testing.TB, root string, change ...func(*idp.Options)) *front {
	t.Helper()
	return newRecordedFront(t, root, nil, change...)
}

// newRecordedFront is newFront with a trail.
func newRecordedFront(t testing.TB, root string, trail *audit.Trail, change ...func(*idp.Options)) *front {
	t.Helper()
	f := &front{log: &logBuffer{}, rpc: func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "rpc") }}
	f.upstream = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Seen-Id", r.Header.Get("X-Request-Id"))
		io.WriteString(w, "upstream "+r.RequestURI)
	}))
	t.Cleanup(f.upstream.Close)
	var err error
	if f.redis, err = store.Open(store.Options{Addr: store.Embedded}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.redis.Close() })
	site := wwwroot(t, root)
	peers, err := gateway.NewAllowlist(&gateway.Peer{
		Wwwroot: wwwroot(t, "https://sp.test"), HostID: 3, Application: gateway.Moodle, AllowPaths: []string{"/mod"},
		Publish: []string{gateway.ServiceSSOIDP}, Subscribe: []string{gateway.ServiceSSOSP},
	}, &gateway.Peer{Wwwroot: wwwroot(t, "https://shut.test")})
	if err != nil {
		t.Fatal(err)
	}
	state := f.redis.Site(site)
	log := slog.New(slog.NewTextHandler(f.log, nil))
	f.metrics = web.NewMetrics(f.redis.Up)
	address := func(*http.Request) netip.Addr { return netip.MustParseAddr("192.0.2.1") }
	behind, err := url.Parse(f.upstream.URL)
	if err != nil {
		t.Fatal(err)
	}
	through, err := proxy.New(proxy.Options{
		Upstream: behind, Site: site, RequestID: web.RequestID, ErrorPage: web.UpstreamFailed(site, log, f.metrics),
		Last: func(w http.ResponseWriter, r *http.Request, res *http.Response) bool {
			return f.last != nil && f.last(w, r, res)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(through.CloseIdle)
	options := idp.Options{
		Site: site, Peers: peers, Source: source{}, Store: state, Cookie: "MoodleSession",
		Browsers:       state.Sessions(sessions.Options{Path: "/", MaxAge: 900}, store.Limits{PerAddress: 3}, address),
		SessionTimeout: time.Hour, Client: address, Secrets: func() [][32]byte { return [][32]byte{{1}} },
		Children: mnet.NewChildren(func(mnet.Logout) {}, nil),
	}
	for _, c := range change {
		c(&options)
	}
	f.site = &web.Site{
		Wwwroot: site, Peers: peers, Proxy: through,
		IDP:       idp.New(options),
		Homes:     &sp.Homes{Site: site, Peers: peers, Keys: func() [][32]byte { return make([][32]byte, 1) }, Now: time.Now},
		Landings:  landings(site, peers, options.Source, state, address),
		RPC:       http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f.rpc(w, r) }),
		PublicKey: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "key") }),
		Trail:     trail,
	}
	f.Handler = web.NewHandler([]*web.Site{f.site}, nil, log, f.metrics)
	return f
}

func (f *front) do(method, target string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	for _, c := range change {
		c(r)
	}
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	return w
}

func asAda(r *http.Request) { r.AddCookie(&http.Cookie{Name: "MoodleSession", Value: adas}) }

func TestWhatIsOursNeverReachesTheUpstream(t *testing.T) {
	f := newFront(t, "https://home.test/moodle")
	tests := []struct {
		target string
		want   string // of the body, or of the page's title
	}{
		{"/moodle/auth/mnet/jump.php", "This link is damaged"},
		{"/moodle/auth/mnet/%6Aump.php", "This link is damaged"},
		{"/moodle/auth/xmlrpc/jump.php", "This link is damaged"},
		{"/moodle/auth/xmlrpc/jump.php/x", "There is no such page"},
		{"/moodle/auth//XMLRPC/jump.php", "There is no such page"},
		{"/moodle/auth/xmlrpc/land.php", "upstream /moodle/auth/xmlrpc/land.php"},
		{"/moodle/mnet/publickey.php", "key"},
		{"/moodle/mnet/xmlrpc/server.php", "rpc"},
		{"/moodle/auth/mnet/jump.php/extra?hostid=3", "There is no such page"},
		{"/moodle/auth/mnet//jump.php", "There is no such page"},
		{"//moodle/auth/mnet/jump.php", "There is no such page"},
		{"/moodle/x/../auth/mnet/jump.php", "There is no such page"},
		{"/moodle/auth/mnet/./jump.php", "There is no such page"},
		{"/moodle/auth/MNET/Jump.php", "There is no such page"},
		{"/MOODLE/auth/mnet/jump.php", "There is no such page"},
		{"/moodle/auth%2fmnet%2fjump.php", "This link is damaged"},
		{"/moodle/mnet/xmlrpc/server.php/x", "There is no such page"},
		{"/moodle/jumpgate/oidc/callback?code=x", "There is no such page"},
		{"/moodle/jumpgate/oidc/callback/x", "There is no such page"},
		{"/moodle/Jumpgate//oidc/callback", "There is no such page"},
		{"/moodle/jumpgate/oidc", "upstream /moodle/jumpgate/oidc"},
		{"/jumpgate/oidc/callback", "upstream /jumpgate/oidc/callback"},
		{"/moodle/auth/mnet/jump.php.?hostid=3", "There is no such page"},
		{"/moodle/auth/mnet/jump.php%20?hostid=3", "There is no such page"},
		{"/moodle/auth/mnet/jump.php;x=1?hostid=3", "There is no such page"},
		{"/moodle/auth/mnet./jump.php?hostid=3", "There is no such page"},
		{"/moodle/auth/mnet%5cjump.php?hostid=3", "There is no such page"},
		{"/moodle/auth/mnet/x/..;/jump.php?hostid=3", "There is no such page"},
		{"/moodle/auth/mnet/land.php?token=x", "This link is damaged"},
		{"/moodle/auth/mnet/land.php?token=x&idp=https://sp.test&wantsurl=", "upstream /moodle/auth/mnet/land.php?token=x&idp=https%3A%2F%2Fsp.test&wantsurl=%2F"},
		{"/moodle/auth/mnet/land.php/x?token=x", "There is no such page"},
		{"/moodle/auth/mnet//land.php?token=x", "There is no such page"},
		{"/moodle/auth/mnet/Land.php?token=x", "There is no such page"},
		{"/moodle/auth/mnet/land.php/?token=x", "There is no such page"},
		{"/moodle/auth/mnet/land.php.?token=x", "There is no such page"},
		{"/moodle/auth/mnet/land.php%20?token=x", "There is no such page"},
		{"/moodle/auth/mnet%5cland.php?token=x", "There is no such page"},
		{"/moodle/auth/mnet/land.php;x?token=x", "There is no such page"},
		{"/moodle/auth/mnet/%6cand.php?token=x", "This link is damaged"},
		{"/moodle/jumpgate//switch", "There is no such page"},
		{"/moodle/auth/mnet/jump.phpx", "upstream /moodle/auth/mnet/jump.phpx"},
		{"/auth/mnet/jump.php", "upstream /auth/mnet/jump.php"},
		{"/moodle/course//view.php?id=1;2&x=%zz", "upstream /moodle/course//view.php?id=1;2&x=%zz"},
		{"/moodle/a%2Fb%20c", "upstream /moodle/a%2Fb%20c"},
	}
	for _, test := range tests {
		if body := f.do("GET", "https://home.test"+test.target).Body.String(); !strings.Contains(body, test.want) {
			t.Errorf("%s: %.300s", test.target, body)
		}
	}
}

func TestStatuses(t *testing.T) {
	const jump = "https://home.test/auth/mnet/jump.php?"
	tests := []struct {
		name, method, target string
		status               int
	}{
		{"an allowed jump", "GET", jump + "hostid=3&wantsurl=/mod/x", 303},
		{"its HEAD", "HEAD", jump + "hostid=3&wantsurl=/mod/x", 200},
		{"a Mahara's jump", "GET", "https://home.test/auth/xmlrpc/jump.php?wr=https://sp.test&ins=4&wantsurl=/mod/x", 303},
		{"a Mahara's jump to two peers", "GET", "https://home.test/auth/xmlrpc/jump.php?wr=https://sp.test&hostwwwroot=https://shut.test", 400},
		{"a refused target", "GET", jump + "hostid=3&wantsurl=//evil.test", 403},
		{"its HEAD", "HEAD", jump + "hostid=3&wantsurl=//evil.test", 403},
		{"a path that is not allowed", "GET", jump + "hostid=3&wantsurl=/admin", 403},
		{"a peer without a grant", "GET", jump + "hostwwwroot=shut.test", 403},
		{"an unknown peer", "GET", jump + "hostwwwroot=https://evil.test", 404},
		{"no peer", "GET", jump, 400},
		{"a repeated parameter", "GET", jump + "hostid=3&hostid=3", 400},
		{"a query that cannot be read", "GET", jump + "hostid=%zz", 400},
		{"64 KB", "GET", jump + "hostid=3&wantsurl=" + strings.Repeat("a", 64<<10), 400},
		{"a POST", "POST", jump + "hostid=3", 405},
		{"another host", "GET", "https://evil.test/", 404},
		{"a host that only begins like ours", "GET", "https://home.test.evil.test/", 404},
		{"our host with its port", "GET", "https://home.test:443/", 200},
		{"our host in upper case", "GET", "https://HOME.test/", 200},
		{"another port", "GET", "https://home.test:8443/", 404},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFront(t, "https://home.test")
			w := f.do(test.method, test.target, asAda)
			if w.Code != test.status {
				t.Fatalf("%s %.80s: status %d, want %d", test.method, test.target, w.Code, test.status)
			}
			h := w.Header()
			if test.method == "HEAD" && w.Body.Len() > 0 {
				t.Errorf("HEAD has a body: %s", w.Body)
			}
			if test.status == 200 {
				return
			}
			if h.Get("Cache-Control") != "no-store" || h.Get("Referrer-Policy") != "no-referrer" {
				t.Errorf("header %v", h)
			}
			if test.status >= 400 && (!strings.HasPrefix(h.Get("Content-Security-Policy"), "default-src 'none'") || h.Get("X-Content-Type-Options") != "nosniff") {
				t.Errorf("header %v", h)
			}
			if test.status == 405 && h.Get("Allow") != "GET, HEAD" {
				t.Errorf("Allow: %q", h.Get("Allow"))
			}
		})
	}
}

func TestAPageSaysWhyAndEchoesNothing(t *testing.T) {
	f := newFront(t, "https://home.test")
	w := f.do("GET", "https://home.test/auth/mnet/jump.php?hostid=3&wantsurl="+url.QueryEscape(`//evil.test/"><script>alert(1)</script>`), asAda)
	page := w.Body.String()
	for _, want := range []string{"<title>This link does not lead to a page</title>", "scheme-relative", "https://sp.test", `href="https://home.test/"`} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
	for _, never := range []string{"evil.test", "<script", "ZgotmplZ"} {
		if strings.Contains(page, never) {
			t.Errorf("the page has %q:\n%s", never, page)
		}
	}
	line := f.log.String()
	for _, want := range []string{"outcome=refused", "rule=scheme-relative", "peer=https://sp.test", "client=192.0.2.1", `evil.test/\\\"><script>`} {
		if strings.Count(line, "\n") != 1 || !strings.Contains(line, want) {
			t.Errorf("the log lacks %q:\n%s", want, line)
		}
	}
}

func TestARefusedTargetCannotWriteLogLines(t *testing.T) {
	f := newFront(t, "https://home.test")
	f.do("GET", "https://home.test/auth/mnet/jump.php?hostid=3&wantsurl=%0Alevel%3DINFO%1b%5B2J%e2%80%ae", asAda)
	if line := f.log.String(); strings.Count(line, "\n") != 1 || strings.ContainsAny(line, "\x1b\u202e") {
		t.Errorf("the log: %q", line)
	}
}

func TestWithoutRedisPagesPassAndJumpsWait(t *testing.T) {
	f := newFront(t, "https://home.test")
	f.redis.Close()
	if w := f.do("GET", "https://home.test/my/", asAda); w.Code != 200 {
		t.Errorf("a page: %d", w.Code)
	}
	w := f.do("GET", "https://home.test/auth/mnet/jump.php?hostid=3&wantsurl=/mod/x", asAda)
	if w.Code != 503 || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "Not just now") {
		t.Errorf("a jump: %d %v", w.Code, w.Header())
	}
	// A browser with a pending jump gets its pages too.
	w = f.do("GET", "https://home.test/my/", asAda, func(r *http.Request) {
		r.AddCookie(&http.Cookie{Name: wwwroot(t, "https://home.test").CookieName("browser"), Value: strings.Repeat("a", 40)})
	})
	if w.Code != 200 || w.Body.String() != "upstream /my/" {
		t.Errorf("a page for a browser with a jump: %d %s", w.Code, w.Body)
	}
}

func TestAnUpstreamThatIsDownGetsAPage(t *testing.T) {
	f := newFront(t, "https://home.test")
	f.upstream.Close()
	w := f.do("GET", "https://home.test/my/")
	if w.Code != 502 || !strings.Contains(w.Body.String(), "The site does not answer") || strings.Contains(w.Body.String(), "127.0.0.1") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if !strings.Contains(f.log.String(), "upstream did not answer") {
		t.Errorf("the log: %s", f.log)
	}
}

func TestEveryRequestHasAnID(t *testing.T) {
	f := newFront(t, "https://home.test")
	forged := func(r *http.Request) { r.Header.Set("X-Request-Id", "forged") }
	a, b := f.do("GET", "https://home.test/", forged), f.do("GET", "https://home.test/", forged)
	first, second := a.Header().Get("X-Seen-Id"), b.Header().Get("X-Seen-Id")
	if len(first) != 16 || len(second) != 16 || first == second {
		t.Errorf("ids %q and %q", first, second)
	}
	w := f.do("GET", "https://home.test/auth/mnet/jump.php", forged)
	if strings.Contains(w.Body.String(), "forged") || strings.Contains(f.log.String(), "forged") {
		t.Errorf("a stranger's id was taken over:\n%s\n%s", w.Body, f.log)
	}
}

func TestAdmin(t *testing.T) {
	f := newFront(t, "https://home.test")
	f.do("GET", "https://home.test/", asAda)
	f.do("GET", "https://home.test/auth/mnet/jump.php?hostid=3&wantsurl=/mod/x", asAda)
	notReady := ""
	admin := web.NewAdmin(f.metrics, func() string { return notReady })
	get := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		admin.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		return w
	}
	if w := get("/healthz"); w.Code != 200 || w.Body.String() != "ok\n" {
		t.Errorf("healthz: %d %s", w.Code, w.Body)
	}
	if w := get("/readyz"); w.Code != 200 {
		t.Errorf("readyz: %d", w.Code)
	}
	notReady = "redis is down"
	if w := get("/readyz"); w.Code != 503 || w.Body.String() != "redis is down\n" {
		t.Errorf("readyz: %d %s", w.Code, w.Body)
	}
	if w := get("/healthz"); w.Code != 200 {
		t.Errorf("healthz without Redis: %d", w.Code)
	}
	metrics := get("/metrics").Body.String()
	for _, want := range []string{
		`jumpgate_requests_total{site="https://home.test"} 2`,
		`jumpgate_jumps_total{outcome="landed",peer="https://sp.test",rule="path",site="https://home.test"} 1`,
		"jumpgate_redis_up 1",
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}

func TestASiteAnswersToItsAddressAlone(t *testing.T) {
	tests := []struct {
		root, host string
		known      bool
	}{
		{"https://home.test", "home.test", true},
		{"https://home.test", "home.test:443", true},
		{"https://home.test", "home.test:80", false},
		{"http://home.test", "home.test:80", true},
		{"http://home.test:8080", "home.test:8080", true},
		{"http://home.test:8080", "home.test", false},
		{"http://home.test:8080", "home.test:8080:80", false},
		{"http://[::1]", "[::1]", true},
		{"http://[::1]", "[::1]:80", true},
		{"http://[::1]:8080", "[::1]:8080", true},
		{"http://[::1]:8080", "[::1]", false},
	}
	for _, test := range tests {
		f := newFront(t, test.root)
		w := f.do("GET", "/", func(r *http.Request) { r.Host = test.host })
		if known := w.Code == 200; known != test.known {
			t.Errorf("%s called %s: status %d", test.root, test.host, w.Code)
		}
	}
}
