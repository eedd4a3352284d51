package web_test

import (
	"bufio"
	"bytes"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"jumpgate/gateway"
	"jumpgate/gateway/proxy"
	"jumpgate/idp"
	"jumpgate/web"
)

// ownEndpoints are all addresses of ours at a site, in spellings that are
// answered in every way that there is. TestEveryAddressOfOursIsKnown finds one
// that is missing.
var ownEndpoints = []string{
	"/auth/mnet/jump.php?hostid=3&wantsurl=/mod/x",
	"/auth/mnet/jump.php?hostid=3&wantsurl=//evil.test",
	"/auth/mnet/jump.php?hostwwwroot=https://evil.test",
	"/auth/mnet/jump.php",
	"/auth/mnet/jump.php/x",
	"/auth/xmlrpc/jump.php?wr=https://sp.test",
	"/mnet/publickey.php",
	"/mnet/publickey.php/x",
	"/mnet/xmlrpc/server.php",
	"/MNET/xmlrpc/server.php",
	"/jumpgate/oidc/callback?state=x&code=y",
	"/jumpgate/oidc/callback",
	"/jumpgate/confirm",
	"/auth/mnet/land.php?token=x&idp=https://evil.test",
	"/auth/mnet/land.php",
	"/auth/mnet/land.php/x",
	"/jumpgate/switch",
	"/jumpgate/home",
	"/jumpgate/home?wantsurl=//evil.test",
	"/jumpgate/home/x",
	"/jumpgate/link",
	"/jumpgate/link?url=//evil.test",
	"/jumpgate/auth",
	"/jumpgate/logout",
	"/jumpgate/oauth2/authorize?state=%2Fauth%2Foauth2%2Flogin.php%3Fwantsurl%3Dhttps%253A%252F%252Fevil.test%252F&redirect_uri=https%3A%2F%2Fevil.test%2F",
	"/jumpgate/oauth2/token",
	"/jumpgate/oauth2/userinfo",
}

var methods = []string{"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "JUMP"}

// wantGuarded wants an answer of ours to have all headers that it must have.
func wantGuarded(t *testing.T, what string, w *httptest.ResponseRecorder) {
	t.Helper()
	h := w.Header()
	want := map[string]string{
		"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
		"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
	}
	if w.Code >= 300 && w.Code < 400 {
		delete(want, "Cross-Origin-Opener-Policy")
		delete(want, "Cross-Origin-Resource-Policy")
	}
	for name, value := range want {
		if got := h[name]; len(got) != 1 || got[0] != value {
			t.Errorf("%s: %d: %s is %q, want %q", what, w.Code, name, got, value)
		}
	}
	policy := h["Content-Security-Policy"]
	if len(policy) != 1 {
		t.Errorf("%s: %d: Content-Security-Policy is %q", what, w.Code, policy)
		return
	}
	given := map[string]string{}
	for directive := range strings.SplitSeq(policy[0], ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), " ")
		given[name] = value
	}
	for _, name := range []string{"default-src", "base-uri", "form-action", "frame-ancestors"} {
		if given[name] != "'none'" {
			t.Errorf("%s: %d: %s is %q", what, w.Code, name, given[name])
		}
	}
	for name, value := range given {
		if value != "'none'" && (name != "style-src" || !strings.HasPrefix(value, "'sha256-") || strings.Contains(value, " ")) {
			t.Errorf("%s: %d: the policy allows %s %s", what, w.Code, name, value)
		}
	}
	if kind := h.Get("Content-Type"); w.Body.Len() > 0 && !strings.Contains(kind, "charset=utf-8") && !strings.Contains(kind, "version=0.0.4") {
		t.Errorf("%s: %d: Content-Type is %q", what, w.Code, kind)
	}
}

func TestEveryAnswerOfOursHasItsSecurityHeaders(t *testing.T) {
	plain := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/xml; charset=utf-8")
		io.WriteString(w, "rpc")
	}
	answers := 0
	for name, f := range map[string]*front{
		"home":          newFront(t, "https://home.test"),
		"at a provider": func() *front { f, _ := newOIDCFront(t); return f }(),
		"without Redis": func() *front { f := newFront(t, "https://home.test"); f.redis.Close(); return f }(),
		"limited":       newFront(t, "https://home.test", func(o *idp.Options) { o.Rates.Peer = gateway.Rate{N: 1, Per: 1e12, Burst: 1} }),
	} {
		f.rpc = plain
		root := "https://home.test"
		if name == "at a provider" {
			root += "/moodle"
		}
		for _, endpoint := range ownEndpoints {
			for _, method := range methods {
				for who, change := range map[string]func(*http.Request){"ada": asAda, "nobody": func(*http.Request) {}, "another site": func(r *http.Request) {
					r.Header.Set("Sec-Fetch-Site", "cross-site")
				}} {
					w := f.do(method, root+endpoint, change)
					if strings.HasPrefix(w.Body.String(), "upstream") {
						t.Errorf("%s %s reached Moodle", method, endpoint)
					}
					answers++
					wantGuarded(t, strings.Join([]string{name, who, method, endpoint}, " "), w)
				}
			}
		}
		for _, method := range methods {
			for what, target := range map[string]string{"another host": "https://evil.test/", "a damaged address": root + "/%23"} {
				w := f.do(method, target, func(r *http.Request) {
					if what == "a damaged address" {
						r.RequestURI = "/x#y"
					}
				})
				wantGuarded(t, name+" "+method+" "+what, w)
			}
		}
		f.upstream.Close()
		wantGuarded(t, name+": Moodle is down", f.do("GET", root+"/my/"))

		admin := web.NewAdmin(f.metrics, func() string { return "" })
		for _, endpoint := range []string{"/healthz", "/readyz", "/metrics", "/", "/healthz/x"} {
			for _, method := range methods {
				w := httptest.NewRecorder()
				admin.ServeHTTP(w, httptest.NewRequest(method, endpoint, nil))
				wantGuarded(t, "admin "+method+" "+endpoint, w)
			}
		}
	}
	if answers < 1000 {
		t.Errorf("only %d answers", answers)
	}
}

// What Go's server would answer by itself is ours too.
func TestAQuestionToTheServerItselfIsAnsweredByUs(t *testing.T) {
	f := newFront(t, "https://home.test")
	server := httptest.NewUnstartedServer(nil)
	server.Config = proxy.NewServer(f, slog.New(slog.DiscardHandler))
	server.Start()
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "OPTIONS * HTTP/1.1\r\nHost: home.test\r\nConnection: close\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	w := httptest.NewRecorder()
	w.Code = res.StatusCode
	maps.Copy(w.Header(), res.Header)
	io.Copy(w.Body, res.Body)
	if res.StatusCode != 400 {
		t.Errorf("%d", res.StatusCode)
	}
	wantGuarded(t, "OPTIONS *", w)
}

// TestEveryAddressOfOursIsKnown compares the list above with what never reaches
// Moodle.
func TestEveryAddressOfOursIsKnown(t *testing.T) {
	for _, path := range web.OurPaths {
		found := false
		for _, endpoint := range ownEndpoints {
			found = found || endpoint == path || strings.HasPrefix(endpoint, path+"?")
		}
		if !found {
			t.Errorf("%s is not tried", path)
		}
	}
}

func TestEveryAnswerAboutHomesHasItsSecurityHeaders(t *testing.T) {
	b := newBouncing(t, true, homePeer(t, "https://a.test", ""))
	pages := 0
	for _, endpoint := range append([]string{"/jumpgate/link?url=/x", "/jumpgate/link?url=/x&home=evil.test", "/mod/x", "/mod/y"}, ownEndpoints...) {
		for _, method := range methods {
			for _, cookies := range [][]*http.Cookie{nil, {b.remembered(t, "https://a.test")}} {
				w := b.send(method, "https://home.test"+endpoint, nil, cookies...)
				what := method + " " + endpoint
				switch {
				case w.Header().Get("Location") == login, strings.Contains(endpoint, "/mnet/"): // Moodle's own
				case strings.Contains(w.Header().Get("Content-Security-Policy"), "script-src"):
					pages++
					wantChooser(t, what, w, "https://a.test")
				case strings.Contains(w.Header().Get("Content-Security-Policy"), "form-action 'self';"):
					pages++
					w.Header().Set("Content-Security-Policy", strings.Replace(w.Header().Get("Content-Security-Policy"), "form-action 'self';", "form-action 'none';", 1))
					fallthrough
				default:
					wantGuarded(t, what, w)
				}
			}
		}
	}
	wantGuarded(t, "a choice", b.send("POST", "https://home.test/jumpgate/home", url.Values{"home": {"https://a.test"}, "wantsurl": {"/x"}}, b.remembered(t, "https://a.test")))
	if pages < 8 {
		t.Errorf("only %d pages", pages)
	}
}

func TestWhatMoodleAnswersHasNoHeadersOfOurs(t *testing.T) {
	f := newFront(t, "https://home.test")
	g := newGuarded(t)
	g.moodle = sends(200, http.Header{"Content-Type": {"text/plain"}})
	for what, w := range map[string]*httptest.ResponseRecorder{
		"a page":            f.do("GET", "https://home.test/my/"),
		"the key in guard":  g.do("GET", "https://home.test/mnet/publickey.php", ""),
		"a page in guard":   g.do("GET", "https://home.test/my/", ""),
		"a form in guard":   g.do("POST", "https://home.test/login/index.php", "a=b"),
		"a form, elsewhere": f.do("POST", "https://home.test/login/index.php", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }),
	} {
		if w.Code != 200 {
			t.Errorf("%s: %d", what, w.Code)
		}
		for _, name := range []string{"Content-Security-Policy", "X-Frame-Options", "Referrer-Policy", "Cross-Origin-Opener-Policy", "Cross-Origin-Resource-Policy", "Cache-Control", "X-Content-Type-Options"} {
			if got := w.Header()[name]; got != nil {
				t.Errorf("%s: %s is %q", what, name, got)
			}
		}
	}
}

func TestAFormOfAnotherSiteIsNotTaken(t *testing.T) {
	f := newFront(t, "https://home.test")
	const jump, rpc = "https://home.test/auth/mnet/jump.php?hostid=3&wantsurl=/mod/x", "https://home.test/mnet/xmlrpc/server.php"
	tests := []struct {
		name, method, target string
		header               map[string]string
		status               int
	}{
		{"of another site", "POST", jump, map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		{"of a sibling", "POST", jump, map[string]string{"Sec-Fetch-Site": "same-site"}, 403},
		{"of another site, by an old browser", "POST", jump, map[string]string{"Origin": "https://evil.test"}, 403},
		{"of nowhere, by an old browser", "POST", jump, map[string]string{"Origin": "null"}, 403},
		{"of our own", "POST", jump, map[string]string{"Sec-Fetch-Site": "same-origin", "Origin": "https://home.test"}, 405},
		{"of our own, by an old browser", "POST", jump, map[string]string{"Origin": "https://home.test"}, 405},
		{"of no browser", "POST", jump, nil, 405},
		{"for an address that is none", "POST", "https://home.test/auth/mnet/jump.php/x", map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		{"a link on another site", "GET", jump, map[string]string{"Sec-Fetch-Site": "cross-site"}, 303},
		{"a call of a peer", "POST", rpc, map[string]string{"Origin": "https://sp.test"}, 200},
		{"the endpoint in another spelling", "POST", "https://home.test/mnet//xmlrpc/server.php", map[string]string{"Origin": "https://sp.test"}, 403},
	}
	for _, test := range tests {
		body := bytes.NewReader(make([]byte, 1<<10))
		r := httptest.NewRequest(test.method, test.target, body)
		asAda(r)
		for name, value := range test.header {
			r.Header.Set(name, value)
		}
		w := httptest.NewRecorder()
		f.ServeHTTP(w, r)
		if w.Code != test.status {
			t.Errorf("%s: %d, want %d", test.name, w.Code, test.status)
		}
		if w.Code == 403 && !strings.Contains(w.Body.String(), "We did not take this") {
			t.Errorf("%s: %.400s", test.name, w.Body)
		}
	}
}
