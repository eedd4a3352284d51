package web_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/gorilla/sessions"
	"golang.org/x/net/html"

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

const jumpX = "https://home.test/auth/mnet/jump.php?hostid=3&wantsurl=/mod/x"

func TestTooManyJumpsAreToldWhenToComeAgain(t *testing.T) {
	rate := func(n int, per time.Duration) gateway.Rate { return gateway.Rate{N: n, Per: per, Burst: 1} }
	tests := []struct {
		name   string
		rates  idp.Rates
		rule   string
		after  int // seconds, at most
		advice string
	}{
		{"of a learner", idp.Rates{User: rate(2, time.Minute)}, "rate-user", 30, "Wait 30 seconds"},
		{"of an address", idp.Rates{Address: rate(3, time.Hour)}, "rate-address", 1200, "Wait 20 minutes"},
		{"to a peer", idp.Rates{Peer: rate(100, time.Second)}, "rate-peer", 1, "Wait a few seconds"},
		{"one an hour", idp.Rates{User: rate(1, time.Hour)}, "rate-user", 3600, "Wait 60 minutes"},
		{"one a minute", idp.Rates{User: rate(1, time.Minute)}, "rate-user", 60, "Wait a minute"},
	}
	for _, test := range tests {
		f := newFront(t, "https://home.test", func(o *idp.Options) { o.Rates = test.rates })
		if w := f.do("GET", jumpX, asAda); w.Code != 303 {
			t.Fatalf("%s: the first: %d", test.name, w.Code)
		}
		w := f.do("GET", jumpX, asAda)
		for i := 0; w.Code == 303 && i < 50; i++ { // a hundredth of a second may be over
			w = f.do("GET", jumpX, asAda)
		}
		after, err := strconv.Atoi(w.Header().Get("Retry-After"))
		if w.Code != 429 || err != nil || after < 1 || after > test.after || after < test.after-2 {
			t.Errorf("%s: %d, Retry-After %q, want about %d", test.name, w.Code, w.Header().Get("Retry-After"), test.after)
		}
		if body := w.Body.String(); !strings.Contains(body, test.advice+", then follow the link again.") || !strings.Contains(body, "<dd>"+test.rule+"</dd>") || w.Header().Get("Location") != "" {
			t.Errorf("%s: %v\n%s", test.name, w.Header(), body)
		}
		if log := f.log.String(); !strings.Contains(log, "outcome=refused rule="+test.rule+" ") || strings.Contains(log, "level=ERROR") {
			t.Errorf("%s: the log: %s", test.name, log)
		}
		if scraped := scrape(f.metrics); !strings.Contains(scraped, `outcome="refused",peer="https://sp.test",rule="`+test.rule+`",site="https://home.test"`) || strings.Contains(scraped, "jumpgate_probes_total{") {
			t.Errorf("%s: the metrics: %s", test.name, scraped)
		}
	}
}

func scrape(m *web.Metrics) string {
	w := httptest.NewRecorder()
	web.NewAdmin(m, func() string { return "" }).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.String()
}

// Without Redis nobody can say how many jumps there were: pages pass, and no
// token is made.
func TestWithoutRedisPagesPassAndTokensDoNot(t *testing.T) {
	f := newFront(t, "https://home.test", func(o *idp.Options) {
		o.Rates = idp.Rates{User: gateway.Rate{N: 9, Per: time.Minute, Burst: 9}}
	})
	f.redis.Close()
	for target, want := range map[string]int{
		"https://home.test/my/": 200, "https://home.test/login/index.php": 200, jumpX: 503,
	} {
		for who, change := range map[string]func(*http.Request){"ada": asAda, "nobody": func(*http.Request) {}} {
			if w := f.do("GET", target, change); w.Code != want || want == 503 && w.Header().Get("Retry-After") == "" {
				t.Errorf("%s as %s: %d, want %d", target, who, w.Code, want)
			}
		}
	}
}

// withTrail is a gateway with a trail, which the test reads.
func withTrail(t *testing.T, source idp.Source) (h http.Handler, metrics *web.Metrics, log *logBuffer, events func() []audit.Event) {
	t.Helper()
	f := newFront(t, "https://home.test") // for its upstream and Redis
	site, dir := wwwroot(t, "https://home.test"), t.TempDir()
	trail, err := audit.Open(audit.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { trail.Close() })
	peers, err := gateway.NewAllowlist(&gateway.Peer{
		Wwwroot: wwwroot(t, "https://sp.test"), HostID: 3, Application: gateway.Moodle,
		Publish: []string{gateway.ServiceSSOIDP}, Subscribe: []string{gateway.ServiceSSOSP},
	})
	if err != nil {
		t.Fatal(err)
	}
	behind, err := url.Parse(f.upstream.URL)
	if err != nil {
		t.Fatal(err)
	}
	through, err := proxy.New(proxy.Options{Upstream: behind, Site: site})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(through.CloseIdle)
	log, state := &logBuffer{}, f.redis.Site(site)
	var trust proxy.Trust
	h = web.NewHandler([]*web.Site{{
		Wwwroot: site, Peers: peers, Proxy: through, Trail: trail,
		IDP: idp.New(idp.Options{
			Site: site, Peers: peers, Source: source, Store: state, Cookie: "MoodleSession", Client: trust.Client,
			Browsers: state.Sessions(sessions.Options{Path: "/", MaxAge: 900}, store.Limits{PerAddress: 1e6}, trust.Client), Secrets: func() [][32]byte { return [][32]byte{{1}} },
			Roam: gateway.Access{}, Children: mnet.NewChildren(func(mnet.Logout) {}, nil),
		}),
		Homes: &sp.Homes{Site: site, Peers: peers, Keys: func() [][32]byte { return make([][32]byte, 1) }, Now: time.Now},
	}}, trust, slog.New(slog.NewTextHandler(log, nil)), f.metrics)
	return h, f.metrics, log, func() []audit.Event {
		t.Helper()
		if err := trail.Close(); err != nil {
			t.Fatal(err)
		}
		var all []audit.Event
		files, _ := filepath.Glob(filepath.Join(dir, "*.jsonl"))
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(b)) {
				if strings.ContainsFunc(strings.TrimSuffix(line, "\n"), func(c rune) bool { return c < 0x20 || c > 0x7e }) {
					t.Errorf("a line of the trail is not printable: %q", line)
				}
				var e audit.Event
				if err := json.Unmarshal([]byte(line), &e); err != nil {
					t.Fatal(err)
				}
				all = append(all, e)
			}
		}
		return all
	}
}

func TestAProbeIsOneEventAndIsCounted(t *testing.T) {
	h, metrics, _, events := withTrail(t, source{})
	get := func(query string) {
		r := httptest.NewRequest("GET", "https://home.test/auth/mnet/jump.php?"+query, nil)
		asAda(r)
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	get("hostid=3&wantsurl=/x")
	get("hostid=3&wantsurl=//evil.test")
	get("hostid=3&wantsurl=https://evil.test/")
	get("hostid=3&wantsurl=https://evil.test/two")
	get("hostwwwroot=https://evil.test")
	get("hostid=77")
	want := "decision path, probe scheme-relative, probe foreign-origin, probe foreign-origin, probe peer-unknown, decision peer-unknown"
	var got []string
	for _, e := range events() {
		if e.Step == "jump" {
			got = append(got, string(e.Kind)+" "+e.Rule)
		}
	}
	if got := strings.Join(got, ", "); got != want {
		t.Errorf("events %s\nwant %s", got, want)
	}
	scraped := scrape(metrics)
	for rule, n := range map[string]int{"scheme-relative": 1, "foreign-origin": 2, "peer-unknown": 1} {
		if line := fmt.Sprintf("jumpgate_probes_total{rule=%q,site=\"https://home.test\"} %d\n", rule, n); !strings.Contains(scraped, line) {
			t.Errorf("no %s in\n%s", line, scraped)
		}
	}
}

// villain is a learner with a name that no Moodle would let them have.
type villain struct{ name string }

func (v villain) Identity(context.Context, moodle.Browser) (gateway.Identity, error) {
	return gateway.Identity{User: gateway.User{ID: 3, Username: v.name, Suspended: true}}, nil
}

// marker is in every hostile text, to find where it ends up.
const marker = "zzmark"

var hostileTexts = []string{
	"<script>" + marker + "</script>", "\"><img src=x onerror=" + marker + ">", "' onclick='" + marker + "'", "</title><b>" + marker, "</style><script>" + marker,
	"javascript:" + marker, "\u202e" + marker + "\u2066", "a\x00" + marker, "\xff\xfe" + marker + "\xc0\xaf", "\r\nSet-Cookie: x=" + marker, "\n" + marker + " level=INFO msg=jump",
	"\x1b[2J" + marker, "\u2028" + marker, "{{.Status}}" + marker, "<!--" + marker, "]]>" + marker, "&lt;script&gt;" + marker, "%3Cscript%3E" + marker, strings.Repeat("<"+marker+">", 300),
}

// wantHarmless wants a page with the elements and attributes of every page of
// ours, and nothing in it that a browser or a reader could take for another.
func wantHarmless(t *testing.T, what string, w *httptest.ResponseRecorder) {
	t.Helper()
	for name, values := range w.Header() {
		if name != "Location" && strings.Contains(strings.Join(values, " "), marker) {
			t.Errorf("%s: header %s: %q", what, name, values)
		}
	}
	if w.Code >= 300 && w.Code < 400 {
		return
	}
	if body := w.Body.String(); strings.ContainsFunc(body, func(c rune) bool { return c != '\n' && !unicode.IsPrint(c) || c == unicode.ReplacementChar }) {
		t.Errorf("%s: something that nobody sees: %q", what, body[strings.Index(body, "<main>"):])
	}
	doc, err := html.Parse(strings.NewReader(w.Body.String()))
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]string{
		"html": "lang", "head": "", "meta": "charset name content", "title": "", "style": "", "body": "", "main": "", "p": "class aria-hidden",
		"h1": "", "a": "class href", "details": "", "summary": "", "dl": "", "div": "", "dt": "", "dd": "",
	}
	for n := range doc.Descendants() {
		if n.Type == html.CommentNode {
			t.Errorf("%s: a comment %q", what, n.Data)
		}
		if n.Type != html.ElementNode {
			continue
		}
		attributes, ok := known[n.Data]
		if !ok {
			t.Errorf("%s: an element %s", what, n.Data)
		}
		for _, a := range n.Attr {
			if !strings.Contains(" "+attributes+" ", " "+a.Key+" ") || strings.Contains(a.Val, marker) || a.Key == "href" && a.Val != "https://home.test/" {
				t.Errorf("%s: <%s %s=%q>", what, n.Data, a.Key, a.Val)
			}
		}
		if n.Data != "dd" && n.FirstChild != nil && n.FirstChild.Type == html.TextNode && strings.Contains(n.FirstChild.Data, marker) {
			t.Errorf("%s: <%s> says %q", what, n.Data, n.FirstChild.Data)
		}
	}
}

func TestNothingHostileIsEchoed(t *testing.T) {
	texts := hostileTexts
	files, _ := filepath.Glob(filepath.Join("..", "..", "shared", "corpora", "*.txt"))
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, strings.Split(string(b), "\n")...)
	}
	h, _, log, events := withTrail(t, source{})
	send := func(what string, change func(r *http.Request)) {
		t.Helper()
		r := httptest.NewRequest("GET", "https://home.test/auth/mnet/jump.php", nil)
		asAda(r)
		change(r)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		wantHarmless(t, fmt.Sprintf("%s (%d)", what, w.Code), w)
	}
	for _, text := range texts {
		what, query := fmt.Sprintf("%.80q", text), url.QueryEscape(text)
		send("target "+what, func(r *http.Request) { r.URL.RawQuery = "hostid=3&wantsurl=" + query })
		send("raw target "+what, func(r *http.Request) { r.URL.RawQuery = "hostid=3&wantsurl=" + text })
		send("peer "+what, func(r *http.Request) { r.URL.RawQuery = "hostwwwroot=" + query + "&wantsurl=/x" })
		send("peer at a host "+what, func(r *http.Request) { r.URL.RawQuery = "hostwwwroot=https://evil.test/" + query })
		send("id "+what, func(r *http.Request) { r.URL.RawQuery = "hostid=" + query })
		send("parameter "+what, func(r *http.Request) { r.URL.RawQuery = query + "=1&" + query + "=2" })
		send("host "+what, func(r *http.Request) { r.Host = text })
		send("address "+what, func(r *http.Request) { r.RequestURI = "/" + text + "#" })
		send("path "+what, func(r *http.Request) { r.URL.Path = "/auth/mnet/jump.php/" + text })
		send("headers "+what, func(r *http.Request) {
			r.URL.RawQuery = "hostid=3&wantsurl=//x"
			r.Header.Set("User-Agent", text)
			r.Header.Set("Referer", text)
			r.Header["X-Request-Id"] = []string{text}
			r.Header.Set("X-Forwarded-For", text)
			r.Header.Set("Cookie", "MoodleSession="+text)
		})
		send("form "+what, func(r *http.Request) {
			r.Method = "POST"
			r.Header.Set("Origin", text)
		})
	}
	for line := range strings.Lines(log.String()) {
		if !strings.HasPrefix(line, "time=") || strings.ContainsFunc(strings.TrimSuffix(line, "\n"), func(c rune) bool { return !unicode.IsPrint(c) }) {
			t.Errorf("the log: %q", line)
		}
	}
	if n := len(events()); n < 5*len(texts) {
		t.Errorf("only %d events", n)
	}
}

func TestNoHostileNameIsEchoed(t *testing.T) {
	for _, text := range hostileTexts {
		h, _, log, events := withTrail(t, villain{text})
		r := httptest.NewRequest("GET", "https://home.test/auth/mnet/jump.php?hostid=3&wantsurl=/x", nil)
		asAda(r)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != 403 || !strings.Contains(w.Body.String(), marker) {
			t.Errorf("%q: %d, the account is not named", text, w.Code)
		}
		wantHarmless(t, fmt.Sprintf("%q", text), w)
		for line := range strings.Lines(log.String()) {
			if !strings.HasPrefix(line, "time=") {
				t.Errorf("the log: %q", line)
			}
		}
		events()
	}
}
