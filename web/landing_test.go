package web_test

import (
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/moodle"
	"jumpgate/gateway/store"
	"jumpgate/idp"
	"jumpgate/sp"
	"jumpgate/web"
)

func landings(site gateway.Wwwroot, peers *gateway.Allowlist, who sp.Source, used sp.Once, address func(*http.Request) netip.Addr) *sp.Landings {
	return &sp.Landings{
		Site: site, Peers: peers, Source: who, Cookie: "MoodleSession", Once: used,
		Seal: func() [][32]byte { return [][32]byte{{5}} }, Client: address, Now: time.Now,
		Spend: func(context.Context, netip.Addr) error { return nil },
	}
}

// accounts are the full names of whom sessions belong to.
type accounts map[string]string

const bobs = "bobbobbobbobbobbobbobbobbo"

var errSource = errors.New("redis does not answer")

func (a accounts) Identity(_ context.Context, b moodle.Browser) (gateway.Identity, error) {
	if b.Session == "downdowndowndowndowndowndo" {
		return gateway.Identity{}, errSource
	}
	first, last, ok := strings.Cut(a[b.Session], " ")
	if !ok {
		return gateway.Identity{}, nil
	}
	return gateway.Identity{User: gateway.User{ID: int64(b.Session[0]), Username: strings.ToLower(first), FirstName: first, LastName: last}, Remote: true}, nil
}

// once is a store.
type once struct{ used map[[32]byte]bool }

func (o *once) Replayed(_ context.Context, nonce [32]byte) (bool, error) {
	was := o.used[nonce]
	if o.used == nil {
		o.used = map[[32]byte]bool{}
	}
	o.used[nonce] = true
	return was, nil
}

func (o *once) ReplayedWithin(ctx context.Context, nonce [32]byte, _ time.Duration) (bool, error) {
	return o.Replayed(ctx, nonce)
}

const landHere = "https://home.test/auth/mnet/land.php?token=abc&idp=https://sp.test&wantsurl=%2Fmod%2Fx%23p3"

// as sends a request in the session of somebody.
func (g *guarded) as(session, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Header.Set("Cookie", "theme=dark; MoodleSession="+session+"; a=1")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	g.see("")
	w := httptest.NewRecorder()
	g.ServeHTTP(w, r)
	return w
}

// logsIn plays a Moodle that lands everybody in a session.
func (g *guarded) logsIn(session string) {
	g.moodle = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Add("Set-Cookie", "MoodleSession="+session+"; path=/; secure; HttpOnly; SameSite=None")
		w.Header().Add("Set-Cookie", "sticky=1")
		w.Header().Set("Location", "https://home.test/mod/x#p3")
		w.WriteHeader(303)
	}
}

var landingTicket = regexp.MustCompile(`name="landing" value="([^"]+)"`)

func TestThePageThatAsksWhoShallBeLoggedIn(t *testing.T) {
	g := newGuarded(t)
	g.logsIn(bobs)
	w := g.as(adas, "GET", landHere, "")
	page := w.Body.String()
	if want := `GET /auth/mnet/land.php?token=abc&idp=https%3A%2F%2Fsp.test&wantsurl=%2Fmod%2Fx%23p3 theme=dark; a=1 ""`; g.seen != want {
		t.Errorf("Moodle saw %s, want %s", g.seen, want)
	}
	if w.Code != 200 || len(w.Header()["Set-Cookie"]) != 0 || w.Header().Get("Location") != "" {
		t.Fatalf("%d %v\n%s", w.Code, w.Header(), page)
	}
	for _, want := range []string{
		"<h1>You are logged in here as <bdi>Ada Lovelace</bdi></h1>", "logs you in as <b><bdi>Bob Builder</bdi></b>, an account of sp.test.",
		`<form method="post" action="https://home.test/jumpgate/switch">`, `name="answer" value="stay">Stay as <bdi>Ada`, `name="answer" value="switch">Switch to <bdi>Bob`,
		"https://home.test/mod/x#p3", "<dd>ada</dd>", "<dd>bob</dd>",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
	if strings.Contains(page, "<script") || strings.Contains(page, bobs) || strings.Contains(page, adas) || strings.Contains(page, "ZgotmplZ") {
		t.Errorf("the page:\n%s", page)
	}
	for name, want := range map[string]string{
		"Cache-Control": "no-store", "X-Frame-Options": "DENY", "Referrer-Policy": "same-origin", "X-Content-Type-Options": "nosniff",
		"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
	if policy := w.Header().Get("Content-Security-Policy"); !strings.Contains(policy, "; form-action 'self'; frame-ancestors 'none'") || !strings.HasPrefix(policy, "default-src 'none'; style-src 'sha256-") {
		t.Errorf("policy %s", policy)
	}
	back := g.as(adas, "GET", strings.Replace(landHere, "abc", "back", 1)+"&remoteurl=1", "")
	if policy := back.Header().Get("Content-Security-Policy"); !strings.Contains(policy, "; form-action 'self' https://sp.test; frame-ancestors") {
		t.Errorf("back to the home: policy %s", policy)
	}

	const here = "https://home.test/jumpgate/switch"
	form := func(answer string) string {
		return url.Values{"landing": {html.UnescapeString(landingTicket.FindStringSubmatch(page)[1])}, "answer": {answer}}.Encode()
	}
	posted := []string{"Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "same-origin"}
	for _, method := range []string{"GET", "HEAD", "PUT"} {
		if w := g.as(adas, method, here, "", posted...); w.Code != 405 || w.Header().Get("Allow") != "POST" {
			t.Errorf("%s: %d %v", method, w.Code, w.Header())
		}
	}
	if w := g.as(adas, "POST", here, form("switch"), "Content-Type", posted[1], "Sec-Fetch-Site", "cross-site"); w.Code != 403 || len(w.Header()["Set-Cookie"]) != 0 {
		t.Errorf("from another site: %d %v", w.Code, w.Header())
	}
	w = g.as(adas, "POST", here, form("switch"), posted...)
	cookies := w.Header()["Set-Cookie"]
	if w.Code != 303 || w.Header().Get("Location") != "https://home.test/mod/x#p3" || w.Header().Get("Cache-Control") != "no-store" || w.Body.Len() != 0 || g.seen != "" {
		t.Errorf("the answer: %d %v", w.Code, w.Header())
	}
	if len(cookies) != 3 || cookies[0] != "MoodleSession="+bobs+"; path=/; secure; HttpOnly; SameSite=None" || cookies[1] != "sticky=1" || !strings.Contains(cookies[2], "jumpgate-home-") {
		t.Errorf("cookies %q", cookies)
	}
	if w = g.as(adas, "POST", here, form("switch"), posted...); w.Code != 403 || len(w.Header()["Set-Cookie"]) != 0 {
		t.Errorf("once more: %d %v", w.Code, w.Header())
	}

	page = g.as(adas, "GET", strings.Replace(landHere, "abc", "again", 1), "").Body.String()
	if w = g.as(adas, "POST", here, form("stay"), posted...); w.Code != 303 || w.Header().Get("Location") != "https://home.test/mod/x#p3" || len(w.Header()["Set-Cookie"]) != 0 {
		t.Errorf("who stays: %d %v", w.Code, w.Header())
	}

	log := g.log.String()
	for _, want := range []string{
		"msg=landing site=https://home.test", "step=land outcome=asked rule=path", "step=switch outcome=switched rule=path", "step=switch outcome=stayed",
		"home=https://sp.test wantsurl=/mod/x#p3", "user=ada newcomer=bob", "outcome=refused rule=form-foreign",
	} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q:\n%s", want, log)
		}
	}
	if strings.Contains(log, bobs) || strings.Contains(log, "token=abc") {
		t.Errorf("a secret is in the log:\n%s", log)
	}
	counted := httptest.NewRecorder()
	web.NewAdmin(g.metrics, func() string { return "" }).ServeHTTP(counted, httptest.NewRequest("GET", "/metrics", nil))
	if want := `jumpgate_landings_total{home="https://sp.test",outcome="asked",rule="path",site="https://home.test"} 3`; !strings.Contains(counted.Body.String(), want) {
		t.Errorf("metrics lack %s", want)
	}
}

func TestANameCannotWriteThePageThatAsksWhoShallBeLoggedIn(t *testing.T) {
	g := newGuarded(t)
	g.site.Landings.Source = accounts{adas: "Ada Lovelace", bobs: `</bdi><script>alert(1)</script> "Stay`}
	g.logsIn(bobs)
	page := g.as(adas, "GET", landHere+url.QueryEscape(`"><script>`), "").Body.String()
	if strings.Contains(page, "<script") || !strings.Contains(page, "&lt;/bdi&gt;&lt;script&gt;") {
		t.Errorf("the page:\n%s", page)
	}
}

func TestALandingNeverTakesASessionAway(t *testing.T) {
	const down = "downdowndowndowndowndowndo"
	for _, test := range []struct {
		name            string
		session         string
		status          int
		after           string
		headers         []string
		method          string
		want            int
		page, keeps     string // texts of the page; cookies that are let through
		reaches         bool   // Moodle
		outcome, target string
	}{
		{name: "the same account", session: adas, status: 303, after: adas, want: 303, keeps: "MoodleSession sticky=1 jumpgate-home", reaches: true, outcome: "same"},
		{name: "a page of Moodle's that says why not", session: adas, status: 404, after: "nobodynobodynobodynobodyno", want: 404, page: "moodle says no", keeps: "sticky=1", reaches: true, outcome: "failed"},
		{name: "a redirect to the login", session: adas, status: 303, after: "nobodynobodynobodynobodyno", want: 303, keeps: "sticky=1", reaches: true, outcome: "failed"},
		{name: "who it is cannot be found out", session: adas, status: 303, after: down, want: 503, page: "Please log out first", reaches: true, outcome: "unsure"},
		{name: "who is logged in cannot be found out", session: down, status: 303, after: bobs, want: 503, page: "Not just now", outcome: "error"},
		{name: "nobody is logged in", session: "nobodynobodynobodynobodyno", status: 303, after: bobs, want: 303, keeps: "MoodleSession sticky=1 jumpgate-home", reaches: true, outcome: "landed"},
		{name: "a picture", session: adas, headers: []string{"Sec-Fetch-Dest", "image"}, want: 403, page: "not-navigation", outcome: "refused"},
		{name: "a picture, and nobody is logged in", session: "x", headers: []string{"Sec-Fetch-Dest", "image"}, want: 403, page: "You are logged in here when you click", outcome: "refused"},
		{name: "a POST", session: adas, method: "POST", want: 405},
		{name: "a HEAD", session: adas, method: "HEAD", want: 200, outcome: "head"},
		{name: "an unknown home", session: adas, target: strings.Replace(landHere, "sp.test", "evil.test", 1), want: 403, page: "We do not know where you come from", outcome: "refused"},
		{name: "a foreign page", session: "x", target: landHere[:strings.Index(landHere, "%2Fmod")] + "//evil.test", want: 403, page: "scheme-relative", outcome: "refused"},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := newGuarded(t)
			g.moodle = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Add("Set-Cookie", "MoodleSession="+test.after+"; path=/")
				w.Header().Add("Set-Cookie", "sticky=1")
				w.WriteHeader(test.status)
				fmt.Fprint(w, "moodle says no")
			}
			method, target := "GET", landHere
			if test.method != "" {
				method = test.method
			}
			if test.target != "" {
				target = test.target
			}
			w := g.as(test.session, method, target, "", test.headers...)
			if w.Code != test.want || !strings.Contains(w.Body.String(), test.page) || (g.seen != "") != test.reaches {
				t.Errorf("%d, Moodle saw %q:\n%s", w.Code, g.seen, w.Body)
			}
			got := w.Header()["Set-Cookie"]
			keeps := strings.Fields(test.keeps)
			if len(got) != len(keeps) {
				t.Fatalf("cookies %q", got)
			}
			for i, keep := range keeps {
				if !strings.Contains(got[i], keep) {
					t.Errorf("cookies %q", got)
				}
			}
			if log := g.log.String(); test.outcome != "" && !strings.Contains(log, "step=land outcome="+test.outcome) {
				t.Errorf("the log: %s", log)
			}
		})
	}
}

func TestALandingUnderAnotherCookieReplacesNobody(t *testing.T) {
	g := newGuarded(t)
	g.moodle = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Set-Cookie", "MoodleSessionforum="+bobs+"; path=/")
		w.Header().Set("Location", "https://home.test/mod/x#p3")
		w.WriteHeader(303)
	}
	w := g.as("nobodynobodynobodynobodyno", "GET", landHere, "", "Cookie", "MoodleSessionforum="+adas)
	if w.Code != 503 || len(w.Header()["Set-Cookie"]) != 0 || !strings.Contains(w.Body.String(), "Not just now") {
		t.Errorf("%d %v\n%s", w.Code, w.Header(), w.Body)
	}
	if log := g.log.String(); !strings.Contains(log, "outcome=unsure") || !strings.Contains(log, "MoodleSessionforum") || strings.Contains(log, bobs) {
		t.Errorf("the log: %s", log)
	}
}

// forgetting is a source that is told of sessions which are over.
type forgetting struct {
	accounts
	forgot []string
}

func (f *forgetting) Forget(_ context.Context, session string) error {
	f.forgot = append(f.forgot, session)
	return nil
}

func TestWhoSwitchesIsNotTakenForWhoTheyWere(t *testing.T) {
	g := newGuarded(t) // another gateway of the same site
	g.logsIn(bobs)
	page := g.as(adas, "GET", landHere, "").Body.String()
	for answer, want := range map[string]string{"stay": "[]", "switch": "[" + adas + "]"} {
		who := &forgetting{accounts: accounts{adas: "Ada Lovelace", bobs: "Bob Builder"}}
		f := newFront(t, "https://home.test", func(o *idp.Options) { o.Source = who })
		w := f.do("POST", "https://home.test/jumpgate/switch", asAda, func(r *http.Request) {
			form := url.Values{"landing": {html.UnescapeString(landingTicket.FindStringSubmatch(page)[1])}, "answer": {answer}}
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.Body = io.NopCloser(strings.NewReader(form.Encode()))
		})
		if got := fmt.Sprint(who.forgot); w.Code != 303 || got != want {
			t.Errorf("%s: %d, forgotten %s, want %s", answer, w.Code, got, want)
		}
	}
}

// TestATokenIsBroughtToMoodleOnce: a stock home takes it again.
func TestATokenIsBroughtToMoodleOnce(t *testing.T) {
	g := newGuarded(t)
	const nobody = "nobodynobodynobodynobodyno"
	g.moodle = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "https://home.test/mod/x#p3")
		w.WriteHeader(303)
	}
	w := g.as(nobody, "GET", landHere, "")
	if w.Code != 303 || g.seen == "" {
		t.Fatalf("%d %v, and Moodle saw %q", w.Code, w.Header(), g.seen)
	}
	for _, test := range []struct{ name, session, target, page, location string }{
		{"again", nobody, landHere, "This login is over", ""},
		{"in capital letters", nobody, strings.Replace(landHere, "abc", "ABC", 1), "This login is over", ""},
		{"by who is logged in by it", adas, landHere, "", "https://home.test/mod/x#p3"},
		{"that is none", nobody, strings.Replace(landHere, "abc", "a%3Cb", 1), "", ""},
		{"that is empty", nobody, strings.Replace(landHere, "abc", "", 1), "", ""},
		{"that is long", nobody, strings.Replace(landHere, "abc", strings.Repeat("a", 81), 1), "", ""},
	} {
		g.seen = ""
		w := g.as(test.session, "GET", test.target, "")
		if g.seen != "" || w.Header().Get("Location") != test.location || (test.location == "") == (w.Code == 303) || !strings.Contains(w.Body.String(), test.page) || w.Header()["Set-Cookie"] != nil {
			t.Errorf("a token %s: %d %v, and Moodle saw %q\n%s", test.name, w.Code, w.Header(), g.seen, w.Body)
		}
		if test.page != "" && !strings.Contains(w.Body.String(), `href="https://sp.test/auth/mnet/jump.php?hostwwwroot=https%3A%2F%2Fhome.test&amp;wantsurl=%2Fmod%2Fx%23p3"`) {
			t.Errorf("a token %s: the page does not lead home:\n%s", test.name, w.Body)
		}
	}
}

func TestTooManyTokensAreNotBroughtToMoodle(t *testing.T) {
	for _, test := range []struct {
		name  string
		err   error
		code  int
		retry string
		page  string
	}{
		{"too many", &store.RateError{Rule: gateway.RuleRateAddress, After: 90 * time.Second}, 429, "90", "Too many visitors"},
		{"no Redis", store.ErrUnavailable, 503, "30", "a part of this site does not answer"},
	} {
		g := newGuarded(t)
		g.site.Landings.Spend = func(_ context.Context, addr netip.Addr) error {
			if addr.String() != "192.0.2.1" {
				t.Errorf("%s pays", addr)
			}
			return test.err
		}
		w := g.as("nobodynobodynobodynobodyno", "GET", landHere, "")
		if w.Code != test.code || w.Header().Get("Retry-After") != test.retry || !strings.Contains(w.Body.String(), test.page) || g.seen != "" {
			t.Errorf("%s: %d %v, and Moodle saw %q\n%s", test.name, w.Code, w.Header(), g.seen, w.Body)
		}
	}
}
