package web_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/netip"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/audit"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/store"
	"jumpgate/sp"
	"jumpgate/web"
)

// applicationSite is a gateway before an application that is no Moodle: it answers 401 to
// those of whom it is told nothing.
type applicationSite struct {
	*bouncing
	redis *store.Redis
	got   chan http.Header // of requests that reach the application
}

// applicationKey is made once.
var applicationKey = sync.OnceValues(func() (*mnet.Key, error) {
	site, err := gateway.ParseWwwroot("https://home.test")
	if err != nil {
		return nil, err
	}
	return mnet.NewKey(site, time.Now(), time.Hour)
})

func newApplicationSite(t testing.TB, auto bool, trust ...netip.Prefix) *applicationSite {
	t.Helper()
	v := &applicationSite{bouncing: newBouncing(t, auto, homePeer(t, "https://sp.test", "The home")), got: make(chan http.Header, 1)}
	v.site.Guard, v.site.Bounces.Other = nil, true
	v.moodle = func(w http.ResponseWriter, r *http.Request) {
		select {
		case v.got <- r.Header.Clone():
		default:
		}
		if r.Header.Get("Jumpgate-Assertion") == "" {
			w.WriteHeader(http.StatusUnauthorized)
		}
		io.WriteString(w, "the application's own words")
	}
	var err error
	if v.redis, err = store.Open(store.Options{Addr: store.Embedded}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.redis.Close() })
	names, err := gateway.ParseAccountNames(gateway.DefaultNames)
	if err != nil {
		t.Fatal(err)
	}
	key, err := applicationKey()
	if err != nil {
		t.Fatal(err)
	}
	v.site.Landings.Peers = v.site.Peers
	v.site.Landings.Logins = &sp.Logins{
		Names: names,
		Call: func(_ context.Context, _ *gateway.Peer, _ string, params ...mnet.Value) (mnet.Value, error) {
			who := mnet.Text(params[0]) // the token is the name
			return mnet.Struct{{Name: "username", Value: who}, {Name: "firstname", Value: who}, {Name: "lastname", Value: "L"}, {Name: "email", Value: "a@b"}}, nil
		},
	}
	visits := &sp.Visits{
		Site: v.site.Wwwroot, Peers: v.site.Peers, Store: v.redis.Site(v.site.Wwwroot), Now: time.Now,
		Children: mnet.NewChildren(web.ObserveLogouts(slog.New(slog.NewTextHandler(v.log, nil)), v.metrics, nil), nil),
		Call: func(_ context.Context, _ *gateway.Peer, method string, params ...mnet.Value) (mnet.Value, error) {
			fmt.Fprintln(v.log, "the home is told", method, params[0])
			return "Deleting session\n", nil
		},
	}
	t.Cleanup(visits.Children.Wait)
	v.site.Visits = visits
	v.site.Landings.App = &sp.AppSessions{
		Site: v.site.Wwwroot, Peers: v.site.Peers, Store: v.redis.Site(v.site.Wwwroot), Visits: visits, Idle: time.Hour, Life: time.Hour, Now: time.Now,
		Assertions: &sp.Assertions{Site: v.site.Wwwroot, Algorithm: sp.AlgorithmEdDSA, Keys: func() []*mnet.Key { return []*mnet.Key{key} }, Now: time.Now},
	}
	v.Handler = web.NewHandler([]*web.Site{v.site}, trust, slog.New(slog.NewTextHandler(v.log, nil)), v.metrics)
	return v
}

// land lets somebody land and returns the cookie of their session.
func (v *applicationSite) land(t testing.TB, who string, cookies ...*http.Cookie) *http.Cookie {
	t.Helper()
	w := v.ask(strings.Replace(landHere, "token=abc", "token="+who, 1), cookies...)
	if w.Code != 303 || w.Header().Get("Location") != "https://home.test/mod/x#p3" || w.Header().Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %v\n%s", w.Code, w.Header(), w.Body)
	}
	for _, c := range w.Result().Cookies() {
		if strings.Contains(c.Name, "session") {
			return c
		}
	}
	t.Fatalf("no session begins: %v", w.Header())
	return nil
}

// subject returns whom an assertion is about.
func subject(t testing.TB, assertion string) string {
	t.Helper()
	claims := struct{ Sub string }{}
	if parts := strings.Split(assertion, "."); len(parts) == 3 {
		text, err := base64.RawURLEncoding.DecodeString(parts[1])
		if err == nil {
			err = json.Unmarshal(text, &claims)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return claims.Sub
}

func TestTheApplicationIsToldWhoMakesARequest(t *testing.T) {
	v := newApplicationSite(t, false)
	c := v.land(t, "ada")
	w := v.ask("https://home.test/notes", c, &http.Cookie{Name: "own", Value: "1"})
	got := <-v.got
	if w.Code != 200 || w.Body.String() != "the application's own words" || subject(t, got.Get("Jumpgate-Assertion")) != "ada@sp.test" {
		t.Errorf("%d %s\n%v", w.Code, w.Body, got)
	}
	if got.Get("Cookie") != "own=1" {
		t.Errorf("the application sees the cookies %q", got["Cookie"])
	}
	if !slices.Contains(w.Header()["Vary"], "Cookie") || w.Header().Get("Jumpgate-Assertion") != "" {
		t.Errorf("the answer: %v", w.Header())
	}
	v.redis.Close()
	if w := v.ask("https://home.test/notes", c); w.Code != 503 || len(v.got) != 0 {
		t.Errorf("without Redis: %d\n%s", w.Code, w.Body)
	}
	r := httptest.NewRequest("GET", "https://home.test/script.js", nil)
	anonymous := httptest.NewRecorder()
	if v.ServeHTTP(anonymous, r); anonymous.Code != 401 || anonymous.Header().Get("Vary") != "" {
		t.Errorf("nobody, without Redis: %d", anonymous.Code)
	}
}

// TestAnAssertionIsForTheApplicationAlone has an application that repeats what it is
// told: what is kept of an answer, or read by a script, must be no assertion.
func TestAnAssertionIsForTheApplicationAlone(t *testing.T) {
	v := newApplicationSite(t, false)
	c := v.land(t, "ada")
	v.moodle = func(w http.ResponseWriter, r *http.Request) {
		maps.Copy(w.Header(), r.Header)
		w.WriteHeader(http.StatusEarlyHints)
		io.WriteString(w, "the application's own words")
	}
	server := httptest.NewServer(v)
	defer server.Close()
	r, err := http.NewRequest("GET", server.URL+"/notes", nil)
	if err != nil {
		t.Fatal(err)
	}
	early := http.Header{}
	r = r.WithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(_ int, h textproto.MIMEHeader) error { early = http.Header(h); return nil },
	}))
	r.Host = "home.test"
	r.AddCookie(c)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 200 || res.Header.Get("X-Forwarded-Host") == "" || res.Header.Get("Jumpgate-Assertion") != "" || early.Get("X-Forwarded-Host") == "" || early.Get("Jumpgate-Assertion") != "" {
		t.Errorf("%d %v, after %v", res.StatusCode, res.Header, early)
	}
}

// TestNoClientAssertsAnything sends everything that could reach an application
// under the name of the assertion, in raw bytes.
func TestNoClientAssertsAnything(t *testing.T) {
	v := newApplicationSite(t, false)
	v.site.Bounces = nil
	server := httptest.NewServer(v)
	defer server.Close()
	c := v.land(t, "ada")
	send := func(t *testing.T, lines, body string) (int, http.Header) {
		t.Helper()
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST /notes HTTP/1.1\r\nHost: home.test\r\n%s\r\n%s", lines, body)
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		select {
		case got := <-v.got:
			return res.StatusCode, got
		default:
			return res.StatusCode, nil
		}
	}
	lines := map[string]string{
		"as it is":            "Jumpgate-Assertion: forged\r\n",
		"in small letters":    "jumpgate-assertion: forged\r\n",
		"in capitals":         "JUMPGATE-ASSERTION: forged\r\n",
		"with underscores":    "Jumpgate_Assertion: forged\r\n",
		"with one":            "jumpgate_assertion: forged\r\n",
		"with a dot":          "Jumpgate.Assertion: forged\r\n",
		"as PHP folds it":     "Jumpgate~Assertion: forged\r\n",
		"twice":               "Jumpgate-Assertion: forged\r\nJumpgate-Assertion: forged\r\n",
		"in two spellings":    "Jumpgate-Assertion: forged\r\njumpgate_assertion: forged\r\n",
		"empty, then filled":  "Jumpgate-Assertion:\r\nJumpgate-Assertion: forged\r\n",
		"listed":              "Connection: Jumpgate-Assertion\r\nJumpgate-Assertion: forged\r\n",
		"listed, not sent":    "Connection: close, jumpgate-assertion\r\n",
		"listed and folded":   "Connection: x,\r\n Jumpgate-Assertion\r\nJumpgate-Assertion: forged\r\n",
		"folded":              "X-Other: y\r\n Jumpgate-Assertion: forged\r\n",
		"a folded value":      "Jumpgate-Assertion:\r\n forged\r\n",
		"with a blank":        "Jumpgate-Assertion : forged\r\n",
		"with a tab":          "Jumpgate-Assertion\t: forged\r\n",
		"after a bare return": "X-Other: y\rJumpgate-Assertion: forged\r\n",
		"after a bare feed":   "X-Other: y\nJumpgate-Assertion: forged\r\n",
		"after a null":        "X-Other: y\x00\r\nJumpgate-Assertion: forged\r\n",
		"with a prefix":       "X-Jumpgate-Assertion: forged\r\n",
		"to a websocket":      "Connection: Upgrade\r\nUpgrade: websocket\r\nJumpgate-Assertion: forged\r\n",
		"listed, to one":      "Connection: Upgrade, Jumpgate-Assertion\r\nUpgrade: websocket\r\nJumpgate_Assertion: forged\r\n",
	}
	for name, text := range lines {
		for who, cookie := range map[string]string{"": "", "ada@sp.test": "Cookie: " + c.Name + "=" + c.Value + "\r\n"} {
			t.Run(name+" of "+who, func(t *testing.T) {
				status, got := send(t, cookie+text+"Content-Length: 0\r\n", "")
				if got == nil && status == 400 {
					return // nobody has seen it
				}
				var all []string
				for field, values := range got {
					if strings.Map(letters, field) == "jumpgateassertion" {
						all = append(all, values...)
					}
					if field != "X-Other" && strings.Contains(strings.Join(values, ","), "forged") {
						t.Errorf("the application is told %s: %q", field, values)
					}
				}
				switch {
				case who == "" && len(all) > 0:
					t.Errorf("the application is told of nobody: %q", all)
				case who != "" && (len(all) != 1 || subject(t, all[0]) != who):
					t.Errorf("the application is told %q", all)
				}
			})
		}
	}
	t.Run("in a trailer", func(t *testing.T) {
		_, got := send(t, "Transfer-Encoding: chunked\r\nTrailer: Jumpgate-Assertion\r\n", "1\r\nx\r\n0\r\nJumpgate-Assertion: forged\r\n\r\n")
		if got == nil || strings.Contains(fmt.Sprint(got), "forged") || got["Trailer"] != nil {
			t.Errorf("the application is told %v", got)
		}
	})
}

// letters drops what is none.
func letters(c rune) rune {
	switch {
	case c >= 'a' && c <= 'z':
		return c
	case c >= 'A' && c <= 'Z':
		return c | 0x20
	}
	return -1
}

func TestAWebServerAsksWhoMakesARequest(t *testing.T) {
	v := newApplicationSite(t, false)
	if w := v.ask("https://home.test/jumpgate/auth"); w.Code != 401 || w.Header().Get("Location") != "" {
		t.Errorf("nobody: %d %v", w.Code, w.Header())
	}
	c := v.land(t, "ada")
	w := v.ask("https://home.test/jumpgate/auth", c)
	if w.Code != 200 || w.Body.Len() > 0 || subject(t, w.Header().Get("Jumpgate-Assertion")) != "ada@sp.test" {
		t.Errorf("ada: %d %v\n%s", w.Code, w.Header(), w.Body)
	}
	wantGuarded(t, "an assertion", w)
	for who, cookie := range map[string]*http.Cookie{"": {Name: "x", Value: "y"}, "ada@sp.test": c} {
		r := httptest.NewRequest("GET", "https://home.test/jumpgate/auth", nil)
		r.Header["Jumpgate-Assertion"], r.Header["jumpgate_assertion"] = []string{"forged"}, []string{"forged"}
		r.AddCookie(cookie)
		answer := httptest.NewRecorder()
		v.ServeHTTP(answer, r)
		if all := answer.Header()["Jumpgate-Assertion"]; strings.Contains(fmt.Sprint(answer.Header()), "forged") || subject(t, strings.Join(all, "")) != who {
			t.Errorf("who says that they are somebody: %v", answer.Header())
		}
	}
	if len(v.got) != 0 {
		t.Error("the application was asked")
	}
	for _, target := range []string{"https://home.test/jumpgate/auth/x", "https://home.test/JUMPGATE/auth", "https://home.test//jumpgate/auth"} {
		if w := v.ask(target, c); w.Code != 404 || w.Header().Get("Jumpgate-Assertion") != "" {
			t.Errorf("%s: %d %v", target, w.Code, w.Header())
		}
	}
	v.redis.Close()
	if w := v.ask("https://home.test/jumpgate/auth", c); w.Code != 503 || w.Header().Get("Jumpgate-Assertion") != "" {
		t.Errorf("without Redis: %d %v", w.Code, w.Header())
	}
}

func TestWhereAWebServerLeadsThoseWhoAreNobody(t *testing.T) {
	const chooser = "https://home.test/jumpgate/home?wantsurl="
	const auth = "https://home.test/jumpgate/auth?redirect=1"
	front := netip.MustParsePrefix("192.0.2.0/24") // where httptest sends from
	for _, test := range []struct {
		name     string
		auto     bool
		trust    []netip.Prefix
		target   string
		change   func(*applicationSite, *http.Request)
		location string
	}{
		{"a page", false, []netip.Prefix{front}, auth, nil, chooser + "%2Fnotes%3Fa%3D1%26b%3D2"},
		{"at a web server that is not trusted", false, nil, auth, nil, chooser + "%2F"},
		{"unasked", false, []netip.Prefix{front}, "https://home.test/jumpgate/auth", nil, ""},
		{"asked otherwise", false, []netip.Prefix{front}, "https://home.test/jumpgate/auth?redirect=https://evil.test", nil, ""},
		{"another site's page", false, []netip.Prefix{front}, auth, func(_ *applicationSite, r *http.Request) { r.Header.Set("X-Forwarded-Uri", "//evil.test/x") }, ""},
		{"another site's page, by its address", false, []netip.Prefix{front}, auth, func(_ *applicationSite, r *http.Request) { r.Header.Set("X-Forwarded-Uri", "https://evil.test/x") }, ""},
		{"a page that splits a header", false, []netip.Prefix{front}, auth, func(_ *applicationSite, r *http.Request) { r.Header.Set("X-Forwarded-Uri", "/x\r\nSet-Cookie: a=b") }, ""},
		{"a form", false, []netip.Prefix{front}, auth, func(_ *applicationSite, r *http.Request) { r.Header.Set("X-Forwarded-Method", "POST") }, ""},
		{"a script", false, []netip.Prefix{front}, auth, func(_ *applicationSite, r *http.Request) { r.Header.Set("Sec-Fetch-Dest", "empty") }, ""},
		{"a program", false, []netip.Prefix{front}, auth, func(_ *applicationSite, r *http.Request) { r.Header.Set("Accept", "*/*") }, ""},
		{"without a home that is remembered", true, []netip.Prefix{front}, auth, nil, chooser + "%2Fnotes%3Fa%3D1%26b%3D2"},
		{"with one", true, []netip.Prefix{front}, auth, func(v *applicationSite, r *http.Request) { r.AddCookie(v.remembered(t, "https://sp.test")) },
			"https://sp.test/auth/mnet/jump.php?hostwwwroot=https%3A%2F%2Fhome.test&wantsurl=%2Fnotes%3Fa%3D1%26b%3D2"},
		{"with an account here", true, []netip.Prefix{front}, auth, func(v *applicationSite, r *http.Request) { c, _ := v.site.Homes.HereCookie(); r.AddCookie(c) }, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := newApplicationSite(t, test.auto, test.trust...)
			r := httptest.NewRequest("GET", test.target, nil)
			r.Header.Set("Accept", "text/html")
			r.Header.Set("Sec-Fetch-Dest", "document")
			r.Header.Set("X-Forwarded-Uri", "/notes?a=1&b=2")
			r.Header.Set("X-Forwarded-Method", "GET")
			if test.change != nil {
				test.change(v, r)
			}
			w := httptest.NewRecorder()
			v.ServeHTTP(w, r)
			status := 303
			if test.location == "" {
				status = 401
			}
			if w.Code != status || w.Header().Get("Location") != test.location || w.Header().Get("Jumpgate-Assertion") != "" {
				t.Errorf("%d to %q, want %d to %q", w.Code, w.Header().Get("Location"), status, test.location)
			}
		})
	}
}

// TestAWebServerAsksUnderAnotherName is what Traefik does.
func TestAWebServerAsksUnderAnotherName(t *testing.T) {
	front := netip.MustParsePrefix("192.0.2.0/24")
	for _, test := range []struct {
		name, target string
		trust        []netip.Prefix
		hosts        []string
		status       int
	}{
		{"whom we trust", "http://jumpgate:8080/jumpgate/auth", []netip.Prefix{front}, []string{"home.test"}, 200},
		{"whom we do not", "http://jumpgate:8080/jumpgate/auth", nil, []string{"home.test"}, 421},
		{"about another site", "http://jumpgate:8080/jumpgate/auth", []netip.Prefix{front}, []string{"evil.test"}, 421},
		{"about two", "http://jumpgate:8080/jumpgate/auth", []netip.Prefix{front}, []string{"home.test", "evil.test"}, 421},
		{"for something else", "http://jumpgate:8080/notes", []netip.Prefix{front}, []string{"home.test"}, 421},
		{"for a landing", "http://jumpgate:8080/auth/mnet/land.php", []netip.Prefix{front}, []string{"home.test"}, 421},
		{"about nothing", "http://jumpgate:8080/jumpgate/auth", []netip.Prefix{front}, nil, 421},
	} {
		v := newApplicationSite(t, false, test.trust...)
		c := v.land(t, "ada")
		r := httptest.NewRequest("GET", test.target, nil)
		r.AddCookie(c)
		if test.hosts != nil {
			r.Header["X-Forwarded-Host"] = test.hosts
		}
		w := httptest.NewRecorder()
		v.ServeHTTP(w, r)
		if (w.Code == 200) != (test.status == 200) || (w.Header().Get("Jumpgate-Assertion") != "") != (test.status == 200) || len(v.got) > 0 {
			t.Errorf("%s: %d %v", test.name, w.Code, w.Header())
		}
	}
}

func TestWhoIsNobodyAtAnApplicationIsSentHome(t *testing.T) {
	v := newApplicationSite(t, true)
	remembered := v.remembered(t, "https://sp.test")
	if w := v.ask("https://home.test/notes", remembered); w.Code != 303 || !strings.HasPrefix(w.Header().Get("Location"), "https://sp.test/auth/mnet/jump.php?") {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	if w := v.ask("https://home.test/notes"); w.Code != 200 || !strings.Contains(w.Body.String(), "Where do you come from?") {
		t.Errorf("%d\n%s", w.Code, w.Body)
	}
	c := v.land(t, "ada")
	v.moodle = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) }
	if w := v.ask("https://home.test/notes", c, remembered); w.Code != 401 {
		t.Errorf("who is somebody, and may not: %d %v", w.Code, w.Header())
	}
	v.moodle = sends(303, http.Header{"Location": {login}})
	if w := v.ask("https://home.test/notes", remembered); w.Header().Get("Location") != login {
		t.Errorf("a login page of the application's own: %d %v", w.Code, w.Header())
	}
}

func TestALogoutFromAnApplication(t *testing.T) {
	v := newApplicationSite(t, true)
	trail, dir := newTrail(t, true)
	v.site.Trail = trail
	c := v.land(t, "ada")
	if w := v.ask("https://home.test/jumpgate/logout", c); w.Code != 200 || !strings.Contains(w.Body.String(), `action="https://home.test/jumpgate/logout"`) || len(w.Result().Cookies()) > 0 {
		t.Errorf("%d\n%s", w.Code, w.Body)
	}
	w := v.send("POST", "https://home.test/jumpgate/logout", url.Values{}, c)
	if w.Code != 200 || w.Header().Get("Refresh") != "0; url=https://sp.test/" || !strings.Contains(w.Body.String(), "On your way to The home") ||
		!slices.Equal(names(w.Result().Cookies()), []string{"session", "bounce"}) || w.Result().Cookies()[0].MaxAge >= 0 {
		t.Fatalf("%d %v\n%s", w.Code, w.Header(), w.Body)
	}
	wantGuarded(t, "the way home", w)
	v.site.Visits.Children.Wait()
	for _, want := range []string{"the home is told auth/mnet/auth.php/kill_children ada\n", "at=https://sp.test user=ada cause=here outcome=ended"} {
		if strings.Count(v.log.String(), want) != 1 {
			t.Errorf("the log lacks %q:\n%s", want, v.log)
		}
	}
	// Who has just logged out is not sent home to be logged in again.
	again := v.ask("https://home.test/notes", append(w.Result().Cookies()[1:], c, v.remembered(t, "https://sp.test"))...)
	if again.Code != 200 || !strings.Contains(again.Body.String(), "You have just logged out here.") {
		t.Errorf("%d %v\n%s", again.Code, again.Header(), again.Body)
	}
	trail.Close()
	events := recorded(t, dir)
	if e := events[len(events)-1]; e.Kind != audit.KindLogout || e.User != "ada@sp.test" || e.Peer != "https://sp.test" || e.Outcome != "ended" || e.Step != "logout" {
		t.Errorf("%+v", e)
	}
	for who, cookies := range map[string][]*http.Cookie{"nobody": nil, "whose session is over": {c}} {
		if w := v.send("POST", "https://home.test/jumpgate/logout", url.Values{}, cookies...); w.Code != 303 || w.Header().Get("Location") != "https://home.test/" {
			t.Errorf("%s: %d %v", who, w.Code, w.Header())
		}
	}
	if want := `jumpgate_logouts_total{cause="logout",outcome="ended",peer="https://sp.test",site="https://home.test"} 1`; !strings.Contains(v.scrape(), want) {
		t.Error("the metrics lack", want)
	}
}

// TestWhatLastsEndsWithTheSession has learners log out elsewhere while their browser
// listens to the application.
func TestWhatLastsEndsWithTheSession(t *testing.T) {
	for name, lines := range map[string]string{
		"a websocket":              "Connection: Upgrade\r\nUpgrade: websocket\r\n",
		"a stream":                 "Accept: text/event-stream\r\n",
		"a stream that was posted": "Accept: text/event-stream\r\nContent-Length: 1\r\n\r\nx",
	} {
		t.Run(name, func(t *testing.T) {
			v := newApplicationSite(t, false)
			v.site.Landings.App.Looks = 10 * time.Millisecond
			over := make(chan struct{})
			v.moodle = func(w http.ResponseWriter, r *http.Request) {
				defer close(over)
				if r.Header.Get("Upgrade") != "" {
					conn, both, err := http.NewResponseController(w).Hijack()
					if err != nil {
						t.Error(err)
						return
					}
					defer conn.Close()
					both.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")
					both.Flush()
					io.Copy(io.Discard, conn)
					return
				}
				w.Header().Set("Content-Type", "text/event-stream")
				io.WriteString(w, "hello")
				http.NewResponseController(w).Flush()
				<-r.Context().Done()
			}
			server := httptest.NewServer(v)
			defer server.Close()
			c := v.land(t, "ada")
			conn, err := net.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			fmt.Fprintf(conn, "POST /events HTTP/1.1\r\nHost: home.test\r\nCookie: %s=%s\r\n%s\r\n", c.Name, c.Value, lines)
			answer := bufio.NewReader(conn)
			for said := ""; !strings.Contains(said, "hello"); {
				b, err := answer.ReadByte()
				if err != nil {
					t.Fatal(said, err)
				}
				said += string(b)
			}
			if w := v.send("POST", "https://home.test/jumpgate/logout", url.Values{}, c); w.Code != 200 {
				t.Fatal(w.Code)
			}
			select {
			case <-over:
			case <-time.After(10 * time.Second):
				t.Error("it goes on")
			}
		})
	}
}

// TestNobodyWhoLogsOutOfAnApplicationIsLedAstray has the home be one no more, just now.
func TestNobodyWhoLogsOutOfAnApplicationIsLedAstray(t *testing.T) {
	v := newApplicationSite(t, false)
	c := v.land(t, "ada")
	v.site.Visits.Now = func() time.Time { return time.Now().Add(-time.Hour) }
	v.site.Peers.Peers()[0].Expires = time.Now().Add(-time.Minute)
	w := v.send("POST", "https://home.test/jumpgate/logout", url.Values{}, c)
	if w.Code != 303 || w.Header().Get("Location") != "https://home.test/" || w.Header().Get("Refresh") != "" || !slices.Contains(names(w.Result().Cookies()), "session") {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

func TestTheKeySet(t *testing.T) {
	v := newApplicationSite(t, false)
	w := v.ask("https://home.test/.well-known/jwks.json")
	var set struct{ Keys []map[string]string }
	if err := json.Unmarshal(w.Body.Bytes(), &set); err != nil || w.Code != 200 || len(set.Keys) != 3 || w.Header().Get("Content-Type") != "application/jwk-set+json" ||
		w.Header().Get("Cache-Control") != "public, max-age=300" {
		t.Errorf("%d %v %v\n%s", w.Code, err, w.Header(), w.Body)
	}
	if w := v.send("POST", "https://home.test/.well-known/jwks.json", nil); w.Code != 405 {
		t.Errorf("POST: %d", w.Code)
	}
	g := newGuarded(t)
	g.moodle = sends(200, nil)
	if w := g.do("GET", "https://home.test/.well-known/jwks.json", ""); !strings.Contains(w.Body.String(), "moodle's own words") {
		t.Errorf("at a Moodle: %d", w.Code)
	}
}

func TestNobodyJumpsFromAnApplication(t *testing.T) {
	v := newApplicationSite(t, false)
	c := v.land(t, "ada")
	for _, target := range []string{guardJump, "https://home.test/jumpgate/confirm", "https://home.test/jumpgate/oidc/callback?code=x&state=y", "https://old.test/auth/mnet/jump.php?hostid=3"} {
		if w := v.ask(target, c); w.Code != 404 && w.Code != 405 || len(v.got) > 0 {
			t.Errorf("%s: %d %v", target, w.Code, w.Header())
		}
	}
}

func BenchmarkProxied(b *testing.B) {
	v := newApplicationSite(b, false)
	v.site.Bounces = nil
	v.moodle = func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "words") }
	c := v.land(b, "ada")
	for name, cookie := range map[string]string{"nobody": "", "somebody": c.Name + "=" + c.Value} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequest("GET", "https://home.test/notes", nil)
				if cookie != "" {
					r.Header.Set("Cookie", cookie)
				}
				v.ServeHTTP(httptest.NewRecorder(), r)
			}
		})
	}
}
