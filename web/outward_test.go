package web_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"jumpgate/gateway"
	"jumpgate/gateway/audit"
	"jumpgate/gateway/proxy"
	"jumpgate/web"
)

// watched is a gateway that looks where the Moodle behind sends browsers.
type watched struct {
	*front
	trail *audit.Trail
	dir   string
}

func newWatched(t testing.TB, enforce bool) *watched {
	t.Helper()
	f := &watched{front: newFront(t, "https://home.test"), dir: t.TempDir()}
	var err error
	if f.trail, err = audit.Open(audit.Options{Dir: f.dir}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.trail.Close() })
	peers, err := gateway.NewAllowlist(&gateway.Peer{Wwwroot: wwwroot(t, "https://sp.test")})
	if err != nil {
		t.Fatal(err)
	}
	var allow []gateway.Destination
	for _, entry := range []string{"https://login.test", "moodlemobile:"} {
		d, err := gateway.ParseDestination(entry)
		if err != nil {
			t.Fatal(err)
		}
		allow = append(allow, d)
	}
	f.last = web.Outward{
		Site: wwwroot(t, "https://home.test"), Redirects: gateway.NewRedirects(wwwroot(t, "https://home.test"), nil, peers, "", allow), Enforce: enforce,
		Trust: proxy.Trust{netip.MustParsePrefix("10.0.0.0/8")}, Log: slog.New(slog.NewTextHandler(f.log, nil)), Metrics: f.metrics, Trail: f.trail,
	}.Inspect()
	return f
}

// answers has the Moodle behind answer with a status and header fields, given as
// "Name: value", a cookie and a body.
func (f *watched) answers(status int, fields ...string) {
	f.upstream.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Set-Cookie", "MoodleSession=fresh; path=/")
		w.Header().Set("X-From", "moodle")
		for _, field := range fields {
			name, value, _ := strings.Cut(field, ": ")
			w.Header().Add(name, value)
		}
		w.WriteHeader(status)
		if status != http.StatusNotModified && r.Method != "HEAD" {
			io.WriteString(w, "the body of the Moodle")
		}
	})
}

// recorded ends the trail and returns its redirects.
func (f *watched) recorded(t testing.TB) (all []audit.Event) {
	t.Helper()
	if err := f.trail.Close(); err != nil {
		t.Fatal(err)
	}
	err := audit.Read(f.dir, audit.Filter{Kind: audit.KindRedirect}, func(e audit.Event, _ []byte) error {
		all = append(all, e)
		return nil
	}, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestWhereTheMoodleBehindSendsBrowsers(t *testing.T) {
	tests := []struct {
		name   string
		status int
		fields []string
		rule   gateway.Rule // of what is recorded; empty for nothing
		target string
	}{
		{"a page", 200, nil, "", ""},
		{"a page of its own", 303, []string{"Location: https://home.test/my/"}, "", ""},
		{"a relative one", 302, []string{"Location: view.php?id=1&u=https://evil.test"}, "", ""},
		{"a peer", 303, []string{"Location: https://sp.test/auth/mnet/land.php?token=x"}, "", ""},
		{"the login provider", 302, []string{"Location: https://login.test/auth?state=x"}, "", ""},
		{"the app", 302, []string{"Location: moodlemobile://token=secret"}, "", ""},
		{"somebody else, by mod/url", 303, []string{"Location: https://evil.test/a?code=secret#secret"}, "redirect-foreign", "https://evil.test/a"},
		{"for good", 301, []string{"Location: //evil.test"}, "redirect-foreign", "https://evil.test/"},
		{"with the same method", 307, []string{`Location: /\evil.test`}, "redirect-foreign", "https://evil.test/"},
		{"with 308", 308, []string{"Location: https:\t//evil.test"}, "redirect-foreign", "https://evil.test/"},
		{"with 304", 304, []string{"Location: https://evil.test"}, "redirect-foreign", "https://evil.test/"},
		{"with 300", 300, []string{"Location: https://evil.test"}, "redirect-foreign", "https://evil.test/"},
		{"another app", 302, []string{"Location: evilapp://token=secret"}, "redirect-scheme", "evilapp:"},
		{"a script", 302, []string{"Location: javascript:alert('secret')"}, "redirect-scheme", "javascript:"},
		{"nobody knows", 302, []string{"Location: https://ada:secret@home.test/"}, "redirect-malformed", "https://home.test"},
		{"with bytes for a terminal", 302, []string{"Location: https://evil.test/\u009b\u202e\"<b>"}, "redirect-foreign", "https://evil.test/%C2%9B%E2%80%AE%22%3Cb%3E"},
		{"the second of two", 302, []string{"Location: /my/", "Location: https://evil.test"}, "redirect-foreign", "https://evil.test/"},
		{"two that are one to some", 302, []string{"Location: https://home.test", "Location: @evil.test/"}, "redirect-malformed", "https://evil.test"},
		{"the first of two", 302, []string{"Location: https://evil.test", "Location: /my/"}, "redirect-foreign", "https://evil.test/"},
		{"what no browser follows", 201, []string{"Location: https://evil.test"}, "", ""},
		{"nor this", 200, []string{"Location: https://evil.test"}, "", ""},
		{"later", 200, []string{"Refresh: 5; url=https://evil.test/?secret"}, "redirect-foreign", "https://evil.test/"},
		{"later, in upper case and quotes", 404, []string{`Refresh: 5,URL = "//evil.test"`}, "redirect-foreign", "https://evil.test/"},
		{"later, to a page of its own", 200, []string{"Refresh: 5; url=/my/"}, "", ""},
		{"the same page again", 200, []string{"Refresh: 5"}, "", ""},
		{"later, in two parts", 200, []string{"Refresh: 5", "Refresh: url=//evil.test"}, "redirect-malformed", ""},
		{"now home, later elsewhere", 303, []string{"Location: /my/", "Refresh: 0;//evil.test"}, "redirect-foreign", "https://evil.test/"},
	}
	for _, enforce := range []bool{false, true} {
		for _, method := range []string{"GET", "HEAD", "POST"} {
			f := newWatched(t, enforce)
			var want []string
			for _, test := range tests {
				if test.rule != "" {
					want = append(want, fmt.Sprint(test.rule, " ", test.target))
				}
				t.Run(fmt.Sprintf("%s %v %s", method, enforce, test.name), func(t *testing.T) {
					f.answers(test.status, test.fields...)
					w := f.do(method, "https://home.test/mod/url/view.php?id=1")
					h := w.Result().Header
					if got := h["Set-Cookie"]; len(got) != 1 || got[0] != "MoodleSession=fresh; path=/" {
						t.Errorf("the cookies are %q", got)
					}
					if test.rule == "" || !enforce {
						wantHeader := http.Header{}
						for _, field := range test.fields {
							name, value, _ := strings.Cut(field, ": ")
							wantHeader.Add(name, value)
						}
						if diff := cmp.Diff([][]string{wantHeader["Location"], wantHeader["Refresh"]}, [][]string{h["Location"], h["Refresh"]}); w.Code != test.status || diff != "" {
							t.Errorf("status %d (-moodle +browser):\n%s", w.Code, diff)
						}
						return
					}
					body := w.Body.String()
					if w.Code != 403 || len(h["Location"])+len(h["Refresh"])+len(h["X-From"]) > 0 || h.Get("Cache-Control") != "no-store" ||
						strings.Contains(body, "Moodle") || strings.Contains(body, "secret") || strings.Contains(body, "<b>") {
						t.Errorf("stopped with %d %v\n%s", w.Code, h, body)
					}
					if (method == "HEAD") != (body == "") || body != "" && !strings.Contains(body, string(test.rule)) {
						t.Errorf("the page is\n%s", body)
					}
				})
			}
			var got []string
			outcome, decision := "reported", audit.Allow
			if enforce {
				outcome, decision = "stopped", audit.Refuse
			}
			for _, e := range f.recorded(t) {
				got = append(got, e.Rule+" "+e.Target)
				if e.Outcome != outcome || e.Decision != decision || e.Site != "https://home.test" || e.Client != "192.0.2.1" || e.Request == "" ||
					!strings.HasSuffix(e.Detail, " to "+method+" /mod/url/view.php") || e.Step != "Location" && e.Step != "Refresh" {
					t.Errorf("%s %v: recorded %+v", method, enforce, e)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s %v: recorded (-want +got):\n%s", method, enforce, diff)
			}
			if text := f.log.String(); strings.Contains(text, "secret") || !strings.Contains(text, "outcome="+outcome+" rule=redirect-foreign field=Location target=https://evil.test/a ") {
				t.Errorf("%s %v: the log is\n%s", method, enforce, text)
			}
			if n := strings.Count(f.log.String(), "target=https://evil.test/"); n != 1 {
				t.Errorf("%s %v: one origin is logged %d times", method, enforce, n)
			}
			metrics := httptest.NewRecorder()
			web.NewAdmin(f.metrics, func() string { return "" }).ServeHTTP(metrics, httptest.NewRequest("GET", "/metrics", nil))
			if line := fmt.Sprintf("jumpgate_upstream_redirects_total{decision=%q,site=\"https://home.test\"} %d", outcome, len(want)); !strings.Contains(metrics.Body.String(), line) {
				t.Errorf("%s %v: the metrics lack %s", method, enforce, line)
			}
		}
	}
}

func TestTheSiteTellsWhereItWasAboutToSendSomebody(t *testing.T) {
	f := newWatched(t, true)
	for location, want := range map[string]string{
		"https://evil.test:8443/<script":    "This site was about to send you to evil.test:8443. Its administrator has not allowed that address.",
		"intent://x":                        "This site was about to open another program (intent:). Its administrator has not allowed that.",
		"https://<script>alert(1)</script>": "This site was about to send you to an address that cannot be read.",
	} {
		f.answers(303, "Location: "+location)
		body := f.do("GET", "https://home.test/").Body.String()
		if !strings.Contains(body, want) || strings.Contains(body, "script") || !strings.Contains(body, `href="https://home.test/"`) {
			t.Errorf("%s:\n%s", location, body)
		}
	}
}

func TestAContentLocationIsTakenAwayAndItsPageIsNot(t *testing.T) {
	for _, enforce := range []bool{false, true} {
		f := newWatched(t, enforce)
		for _, value := range []string{"https://evil.test/x?y", "/x"} {
			f.answers(200, "Content-Location: "+value)
			w := f.do("GET", "https://home.test/")
			want := value
			if enforce && value != "/x" {
				want = ""
			}
			if got := w.Header().Get("Content-Location"); got != want || w.Code != 200 || w.Body.String() != "the body of the Moodle" {
				t.Errorf("%v: Content-Location %q with %d %q", enforce, got, w.Code, w.Body)
			}
		}
		if all := f.recorded(t); len(all) != 1 || all[0].Step != "Content-Location" || all[0].Target != "https://evil.test/x" {
			t.Errorf("%v: recorded %+v", enforce, all)
		}
	}
}

// A page that redirects without end must fill neither log nor trail, and what has
// no line is told of.
func TestAFloodOfRedirectsIsCounted(t *testing.T) {
	f := newWatched(t, false)
	const flood = 3000
	r := httptest.NewRequest("GET", "https://home.test/x.php/key", nil)
	for i := range flood {
		res := &http.Response{StatusCode: 302, Header: http.Header{"Location": {fmt.Sprintf("https://h%d.evil.test/", i)}}}
		if f.last(httptest.NewRecorder(), r, res) {
			t.Fatal("stopped")
		}
	}
	all := f.recorded(t)
	var told uint64
	for _, e := range all {
		told += 1 + e.Count
		if e.Detail != "302 to GET /x.php" {
			t.Fatalf("recorded %+v", e)
		}
	}
	if len(all) < 500 || len(all) > flood/2 || told > flood {
		t.Errorf("%d events tell of %d redirects", len(all), told)
	}
	if n := strings.Count(f.log.String(), "\n"); n != 100 {
		t.Errorf("%d lines are logged", n)
	}
}

func TestARedirectToOurselvesCostsNothingToLookAt(t *testing.T) {
	f := newWatched(t, true)
	r, w := httptest.NewRequest("GET", "https://home.test/", nil), httptest.NewRecorder()
	for _, res := range []*http.Response{
		{StatusCode: 200, Header: http.Header{"Content-Type": {"text/html"}}},
		{StatusCode: 303, Header: http.Header{"Location": {"https://home.test/my/"}}},
		{StatusCode: 303, Header: http.Header{"Location": {"/my/"}}},
	} {
		if n := testing.AllocsPerRun(100, func() {
			if f.last(w, r, res) {
				t.Error("stopped")
			}
		}); n != 0 {
			t.Errorf("%v: %v allocations", res.Header, n)
		}
	}
}

// What looks at logins is not in the way, nor is it spared the look.
func TestRedirectsAfterALoginAreLookedAtToo(t *testing.T) {
	f := newWatched(t, true)
	f.answers(303, "Location: https://evil.test/")
	jump := f.do("GET", "https://home.test/auth/mnet/jump.php?hostid=3&wantsurl=/mod/x")
	if jump.Code != 303 {
		t.Fatal(jump.Code)
	}
	w := f.do("POST", "https://home.test/login/index.php", func(r *http.Request) {
		for _, cookie := range jump.Result().Cookies() {
			r.AddCookie(cookie)
		}
	})
	if w.Code != 403 || !strings.Contains(w.Body.String(), "evil.test") {
		t.Errorf("%d %v\n%s", w.Code, w.Header(), w.Body)
	}
}

// BenchmarkLastLook is what an answer costs with nobody who looks where it leads,
// and with somebody who does.
func BenchmarkLastLook(b *testing.B) {
	for _, test := range []struct {
		name, field string
		look        bool
	}{{"page, nobody looks", "", false}, {"page", "", true}, {"redirect, nobody looks", "Location: https://home.test/my/", false}, {"redirect", "Location: https://home.test/my/", true}} {
		b.Run(test.name, func(b *testing.B) {
			f := newWatched(b, true)
			status := 200
			fields := []string{}
			if test.field != "" {
				status, fields = 303, []string{test.field}
			}
			f.answers(status, fields...)
			if !test.look {
				f.last = nil
			}
			r := httptest.NewRequest("GET", "https://home.test/x", nil)
			b.ReportAllocs()
			for b.Loop() {
				w := httptest.NewRecorder()
				w.Body = bytes.NewBuffer(nil)
				f.ServeHTTP(w, r)
			}
		})
	}
}
