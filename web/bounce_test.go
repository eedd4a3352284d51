package web_test

import (
	"fmt"
	"html"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"jumpgate/gateway"
	"jumpgate/gateway/audit"
	"jumpgate/sp"
	"jumpgate/web"
)

// bouncing is a forum's gateway, before a Moodle that sends everybody to its
// login page.
type bouncing struct{ *guarded }

const login = "https://home.test/login/index.php"

func newBouncing(t testing.TB, auto bool, homes ...*gateway.Peer) *bouncing {
	t.Helper()
	b := &bouncing{newGuarded(t)}
	var err error
	if b.site.Peers, err = gateway.NewAllowlist(homes...); err != nil {
		t.Fatal(err)
	}
	b.site.Homes.Peers = b.site.Peers
	b.site.Bounces = &sp.Bounces{Homes: b.site.Homes, Auto: auto}
	b.site.Aliases = []gateway.Wwwroot{wwwroot(t, "https://old.test")}
	b.moodle = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Set-Cookie", "MoodleSession=anonymous; path=/")
		w.Header().Set("Location", login)
		w.WriteHeader(303)
	}
	b.Handler = web.NewHandler([]*web.Site{b.site}, nil, slog.New(slog.NewTextHandler(b.log, nil)), b.metrics)
	return b
}

func homePeer(t testing.TB, name, label string) *gateway.Peer {
	return &gateway.Peer{
		Wwwroot: wwwroot(t, name), Name: label, Application: gateway.Moodle,
		Publish: []string{gateway.ServiceSSOSP}, Subscribe: []string{gateway.ServiceSSOIDP},
	}
}

// ask sends a navigation of a browser with cookies.
func (b *bouncing) ask(target string, cookies ...*http.Cookie) *httptest.ResponseRecorder {
	return b.send("GET", target, nil, cookies...)
}

func (b *bouncing) send(method, target string, form url.Values, cookies ...*http.Cookie) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(form.Encode()))
	r.Header.Set("Accept", "text/html,*/*;q=0.8")
	r.Header.Set("Sec-Fetch-Dest", "document")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	} else {
		r.Body = http.NoBody
		r.ContentLength = 0
	}
	for _, c := range cookies {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	b.ServeHTTP(w, r)
	return w
}

func (b *bouncing) remembered(t *testing.T, home string) *http.Cookie {
	t.Helper()
	c, err := b.site.Homes.Cookie(b.site.Peers.Find(home))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func names(cookies []*http.Cookie) []string {
	var all []string
	for _, c := range cookies {
		name, _, _ := strings.Cut(strings.TrimPrefix(c.Name, "__Host-jumpgate-"), "-")
		all = append(all, name)
	}
	return all
}

func TestALearnerIsSentHome(t *testing.T) {
	b := newBouncing(t, true, homePeer(t, "https://a.test", ""))
	w := b.ask("https://home.test/mod/x?d=1", b.remembered(t, "https://a.test"))
	want := "https://a.test/auth/mnet/jump.php?hostwwwroot=https%3A%2F%2Fhome.test&wantsurl=%2Fmod%2Fx%3Fd%3D1"
	if w.Code != 303 || w.Header().Get("Location") != want || w.Body.Len() > 0 || w.Header().Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %v\n%s", w.Code, w.Header(), w.Body)
	}
	// Who logs in here after all finds Moodle's session, which knows the page.
	if got := names(w.Result().Cookies()); !slices.Equal(got, []string{"MoodleSession", "bounce"}) {
		t.Errorf("cookies %q", got)
	}
	for _, want := range []string{"msg=bounce", "step=bounce", "outcome=bounced", "rule=path", "home=https://a.test", "wantsurl=\"/mod/x?d=1\""} {
		if !strings.Contains(b.log.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, b.log)
		}
	}
	if want := `jumpgate_bounces_total{home="https://a.test",outcome="bounced",rule="path",site="https://home.test"} 1`; !strings.Contains(b.scrape(), want) {
		t.Error("the metrics lack", want)
	}
	again := b.ask("https://home.test/mod/x?d=1", append(w.Result().Cookies(), b.remembered(t, "https://a.test"))...)
	page := again.Body.String()
	if again.Code != 200 || again.Header().Get("Location") != "" || !strings.Contains(page, "We sent you to a.test, and you came back without being logged in.") {
		t.Errorf("back again: %d %v\n%s", again.Code, again.Header(), page)
	}
	out := b.ask("https://home.test/login/logout.php?sesskey=x", b.remembered(t, "https://a.test"))
	if out.Code != 303 || out.Header().Get("Location") != login {
		t.Fatalf("a logout: %d %v", out.Code, out.Header())
	}
	after := b.ask("https://home.test/mod/y", append(out.Result().Cookies(), b.remembered(t, "https://a.test"))...)
	if page := after.Body.String(); after.Code != 200 || !strings.Contains(page, "You have just logged out here.") {
		t.Errorf("after a logout: %d\n%s", after.Code, page)
	}
}

func TestWhatPassesWhereLearnersAreSentHome(t *testing.T) {
	b := newBouncing(t, true, homePeer(t, "https://a.test", ""))
	for what, change := range map[string]func(*http.Request){
		"a script":         func(r *http.Request) { r.Header.Set("Sec-Fetch-Dest", "empty") },
		"a form":           func(r *http.Request) { r.Method = "POST" },
		"a web service":    func(r *http.Request) { r.Header.Set("Accept", "application/json") },
		"the login page":   func(r *http.Request) { r.URL.Path, r.RequestURI = "/login/index.php", "/login/index.php" },
		"an account here":  func(r *http.Request) { c, _ := b.site.Homes.HereCookie(); r.Header.Set("Cookie", c.String()) },
		"the Moodle app":   func(r *http.Request) { r.Header.Set("User-Agent", "MoodleMobile") },
		"a prefetched one": func(r *http.Request) { r.Header.Set("Sec-Purpose", "prefetch") },
	} {
		r := httptest.NewRequest("GET", "https://home.test/mod/x", nil)
		r.Header.Set("Accept", "text/html")
		r.AddCookie(b.remembered(t, "https://a.test"))
		change(r)
		w := httptest.NewRecorder()
		b.ServeHTTP(w, r)
		if w.Code != 303 || w.Header().Get("Location") != login || len(w.Header()["Set-Cookie"]) != 1 {
			t.Errorf("%s: %d %v\n%s", what, w.Code, w.Header(), w.Body)
		}
	}
	b.moodle = sends(200, nil)
	if w := b.ask("https://home.test/mod/x"); w.Code != 200 || !strings.HasPrefix(w.Body.String(), "moodle's own words") {
		t.Errorf("a page: %d %s", w.Code, w.Body)
	}
}

var choiceButton = regexp.MustCompile(`<button [^>]*name="home" value="([^"]*)"`)

// offered returns the homes that a page offers, and the site itself.
func offered(page string) []string {
	var all []string
	for _, found := range choiceButton.FindAllStringSubmatch(page, -1) {
		all = append(all, html.UnescapeString(found[1]))
	}
	return all
}

func TestThePageThatAsksWhereYouComeFrom(t *testing.T) {
	off := homePeer(t, "https://off.test", "")
	off.Off = true
	b := newBouncing(t, false, homePeer(t, "https://b.test/moodle", "Zebra <b>& sons"), homePeer(t, "https://a.test:8443", "antelope"), off,
		&gateway.Peer{Wwwroot: wwwroot(t, "https://sp.test"), Application: gateway.Moodle, Publish: []string{gateway.ServiceSSOIDP}, Subscribe: []string{gateway.ServiceSSOSP}})
	w := b.ask("https://home.test/mod/x?d=1&e=%22%3E%3Cscript%3E")
	page := w.Body.String()
	if got, want := offered(page), []string{"https://a.test:8443", "https://b.test/moodle", "https://home.test"}; !slices.Equal(got, want) {
		t.Errorf("offered %q, want %q", got, want)
	}
	for _, want := range []string{
		"<h1>Where do you come from?</h1>", `<form method="post" action="https://home.test/jumpgate/home">`,
		`<input type="hidden" name="wantsurl" value="/mod/x?d=1&amp;e=%22%3E%3Cscript%3E">`, "<b>Zebra &lt;b&gt;&amp; sons</b>", "Log in here</button>",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
	if strings.Contains(page, "ZgotmplZ") || strings.Contains(page, `id="search"`) || strings.Count(page, "<script>") != 1 || w.Code != 200 {
		t.Errorf("%d\n%s", w.Code, page)
	}
	if got := names(w.Result().Cookies()); !slices.Equal(got, []string{"MoodleSession", "bounce"}) {
		t.Errorf("cookies %q", got)
	}
	wantChooser(t, "the page that asks", w, "https://a.test:8443", "https://b.test")

	form := url.Values{"home": {"https://b.test/moodle"}, "wantsurl": {"/mod/x?d=1#p3"}}
	chosen := b.send("POST", "https://home.test/jumpgate/home", form, w.Result().Cookies()...)
	if want := "https://b.test/moodle/auth/mnet/jump.php?hostwwwroot=https%3A%2F%2Fhome.test&wantsurl=%2Fmod%2Fx%3Fd%3D1%23p3"; !departs(chosen, want) {
		t.Fatalf("%d %v\n%s", chosen.Code, chosen.Header(), chosen.Body)
	}
	if got := names(chosen.Result().Cookies()); !slices.Equal(got, []string{"bounce", "home"}) {
		t.Errorf("cookies %q", got)
	}
	next := b.ask("https://home.test/mod/y", chosen.Result().Cookies()...).Body.String()
	if got, want := offered(next), []string{"https://b.test/moodle", "https://a.test:8443", "https://home.test"}; !slices.Equal(got, want) || !strings.Contains(next, "Your choice last time") {
		t.Errorf("next time %q, want %q\n%s", got, want, next)
	}

	form.Set("home", "https://home.test")
	here := b.send("POST", "https://home.test/jumpgate/home", form, w.Result().Cookies()...)
	if !departs(here, "https://home.test/mod/x?d=1#p3") {
		t.Fatalf("here: %d %v", here.Code, here.Header())
	}
	if passed := b.ask("https://home.test/mod/x?d=1", here.Result().Cookies()...); passed.Header().Get("Location") != login {
		t.Errorf("here: %d %v\n%s", passed.Code, passed.Header(), passed.Body)
	}
}

// departs reports whether an answer is the page that leads on to an address.
func departs(w *httptest.ResponseRecorder, to string) bool {
	return w.Code == 200 && w.Header().Get("Refresh") == "0; url="+to && w.Header().Get("Location") == "" &&
		strings.Contains(w.Body.String(), `href="`+html.EscapeString(to)+`"`) && w.Header().Get("Referrer-Policy") == "no-referrer"
}

// wantChooser wants the headers of the page that asks: forms lead to us and to
// these origins alone, and the script is the one that is on the page.
func wantChooser(t *testing.T, what string, w *httptest.ResponseRecorder, origins ...string) {
	t.Helper()
	policy := w.Header().Get("Content-Security-Policy")
	_, forms, _ := strings.Cut(policy, "form-action ")
	forms, rest, _ := strings.Cut(forms, ";")
	if want := strings.Join(append([]string{"'self'"}, origins...), " "); forms != want {
		t.Errorf("%s: forms lead to %s, want %s", what, forms, want)
	}
	if !regexp.MustCompile(`^ frame-ancestors 'none'; script-src 'sha256-[A-Za-z0-9+/]{43}='$`).MatchString(rest) || !strings.HasPrefix(policy, "default-src 'none'; style-src 'sha256-") {
		t.Errorf("%s: policy %s", what, policy)
	}
	for name, want := range map[string]string{
		"Cache-Control": "no-store", "X-Frame-Options": "DENY", "Referrer-Policy": "same-origin", "X-Content-Type-Options": "nosniff",
		"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: %s: %s", what, name, got)
		}
	}
}

func TestHomesAreFoundByWords(t *testing.T) {
	var homes []*gateway.Peer
	for i := range 60 {
		homes = append(homes, homePeer(t, fmt.Sprintf("https://h%02d.test", i), fmt.Sprintf("College %02d", i)))
	}
	homes = append(homes, homePeer(t, "https://uni.example", "Universität Überlingen"))
	b := newBouncing(t, true, homes...)
	const ask = "https://home.test/jumpgate/home?wantsurl=%2Fmod%2Fx%23p3&search="
	for said, want := range map[string]int{"": 40, "college": 40, "COLLEGE 1": 15, "h59": 1, " 5  college ": 15, "überl": 1, "ÜBERL uni.ex": 1, "uberlingen": 1, "u\u0308berl": 1, "nobody": 0, "<script>": 0, "%zz": 0} {
		w := b.ask(ask + url.QueryEscape(said))
		page := w.Body.String()
		if got := len(offered(page)) - 1; got != want {
			t.Errorf("%q finds %d, want %d", said, got, want)
		}
		if !strings.Contains(page, `value="`+html.EscapeString(said)+`"`) || !strings.Contains(page, `name="wantsurl" value="/mod/x#p3"`) || strings.Count(page, "<script>") != 1 {
			t.Errorf("%q:\n%s", said, page)
		}
		wantChooser(t, said, w, offered(page)[:want]...)
		if n := len(w.Header().Get("Content-Security-Policy")); n > 2000 {
			t.Errorf("a header of %d bytes", n)
		}
	}
	page := b.ask(ask+"college", b.remembered(t, "https://h59.test")).Body.String()
	if got := offered(page)[0]; got != "https://h59.test" || !strings.Contains(page, "There are 20 more.") {
		t.Errorf("first is %s:\n%s", got, page)
	}
	if w := b.ask("https://home.test/mod/x"); !strings.Contains(w.Body.String(), `id="search"`) {
		t.Errorf("there is nothing to search by:\n%s", w.Body)
	}
}

func TestAnswersToTheQuestionThatAreRefused(t *testing.T) {
	b := newBouncing(t, true, homePeer(t, "https://a.test", ""))
	const at = "https://home.test/jumpgate/home"
	cookie := &http.Cookie{Name: "MoodleSession", Value: "x"}
	good := url.Values{"home": {"https://a.test"}, "wantsurl": {"/mod/x"}}
	for what, test := range map[string]struct {
		w    *httptest.ResponseRecorder
		code int
		page string
	}{
		"no cookies":      {b.send("POST", at, good), 403, "Your browser does not keep cookies"},
		"somebody else":   {b.send("POST", at, url.Values{"home": {"https://evil.test"}, "wantsurl": {"/"}}, cookie), 404, "peer-unknown"},
		"a foreign page":  {b.send("POST", at, url.Values{"home": {"https://a.test"}, "wantsurl": {"//evil.test/"}}, cookie), 403, "scheme-relative"},
		"nothing":         {b.send("POST", at, url.Values{}, cookie), 400, "bad-query"},
		"a page by GET":   {b.ask(at + "?wantsurl=https://evil.test/"), 403, "foreign-origin"},
		"another method":  {b.send("PUT", at, good, cookie), 405, "That does not work here"},
		"a longer path":   {b.ask(at + "/x"), 404, "no such page"},
		"a choice by GET": {b.ask(at+"?home=https://a.test&wantsurl=/x", cookie), 200, "Where do you come from?"},
	} {
		if test.w.Code != test.code || !strings.Contains(test.w.Body.String(), test.page) || strings.Contains(test.w.Body.String(), "evil.test") || test.w.Header().Get("Location")+test.w.Header().Get("Refresh") != "" {
			t.Errorf("%s: %d %v\n%s", what, test.w.Code, test.w.Header(), test.w.Body)
		}
		if slices.Contains(names(test.w.Result().Cookies()), "home") {
			t.Errorf("%s: is remembered", what)
		}
	}
	foreign := httptest.NewRequest("POST", at, strings.NewReader(good.Encode()))
	foreign.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	foreign.Header.Set("Sec-Fetch-Site", "cross-site")
	foreign.AddCookie(cookie)
	w := httptest.NewRecorder()
	if b.ServeHTTP(w, foreign); w.Code != 403 || !strings.Contains(w.Body.String(), "form-foreign") || len(w.Header()["Set-Cookie"]) > 0 {
		t.Errorf("another site's form: %d\n%s", w.Code, w.Body)
	}
	if w := b.ask("https://old.test/jumpgate/home?wantsurl=/x"); w.Code != 301 || w.Header().Get("Location") != "https://home.test/jumpgate/home?wantsurl=/x" {
		t.Errorf("an alias: %d %v", w.Code, w.Header())
	}
}

func TestWithoutBouncesThereIsNoQuestion(t *testing.T) {
	b := newBouncing(t, true, homePeer(t, "https://a.test", ""))
	remembered := b.remembered(t, "https://a.test")
	b.site.Bounces = nil
	b.Handler = web.NewHandler([]*web.Site{b.site}, nil, slog.New(slog.DiscardHandler), b.metrics)
	if w := b.ask("https://home.test/mod/x", remembered); w.Header().Get("Location") != login || len(w.Header()["Set-Cookie"]) != 1 {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	if w := b.ask("https://home.test/jumpgate/home"); w.Code != 404 || strings.Contains(w.Body.String(), "a.test") {
		t.Errorf("%d\n%s", w.Code, w.Body)
	}
}

func TestBouncesAreEvents(t *testing.T) {
	trail, dir := newTrail(t, true)
	b := newBouncing(t, true, homePeer(t, "https://a.test", ""))
	b.site.Trail = trail
	cookie := b.remembered(t, "https://a.test")
	b.ask("https://home.test/mod/x?d=1", cookie)
	b.ask("https://home.test/mod/x?d=1") // a question is none
	b.send("POST", "https://home.test/jumpgate/home", url.Values{"home": {"https://a.test"}, "wantsurl": {"/mod/y#p"}}, cookie)
	b.send("POST", "https://home.test/jumpgate/home", url.Values{"home": {"https://home.test"}, "wantsurl": {"/mod/y#p"}}, cookie)
	b.send("POST", "https://home.test/jumpgate/home", url.Values{"home": {"https://evil.test"}, "wantsurl": {"/\n"}}, cookie)
	trail.Close()
	base := audit.Event{Kind: audit.KindBounce, Site: "https://home.test", Client: "192.0.2.1", Step: "choose", Decision: "allow", Rule: "path"}
	with := func(change func(*audit.Event)) audit.Event {
		e := base
		change(&e)
		return e
	}
	const jump = "https://a.test/auth/mnet/jump.php?hostwwwroot=https%3A%2F%2Fhome.test&wantsurl="
	want := []audit.Event{
		with(func(e *audit.Event) {
			e.Step, e.Peer, e.Target, e.Outcome, e.URL = "bounce", "https://a.test", "/mod/x?d=1", "bounced", jump+"%2Fmod%2Fx%3Fd%3D1"
		}),
		with(func(e *audit.Event) {
			e.Peer, e.Target, e.Outcome, e.URL = "https://a.test", "/mod/y#p", "chosen", jump+"%2Fmod%2Fy%23p"
		}),
		with(func(e *audit.Event) {
			e.Target, e.Outcome, e.URL = "/mod/y#p", "here", "https://home.test/mod/y#p"
		}),
		with(func(e *audit.Event) {
			e.Target, e.Decision, e.Rule, e.Outcome = `/\n`, "refuse", "peer-unknown", "refused"
		}),
	}
	if diff := cmp.Diff(want, recorded(t, dir), cmpopts.IgnoreFields(audit.Event{}, "Seq", "Time", "Request", "Latency", "Prev")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	// What cannot be recorded is not done.
	if w := b.ask("https://home.test/mod/z", cookie); w.Code != 503 || w.Header().Get("Location") != "" {
		t.Errorf("without a trail: %d %v", w.Code, w.Header())
	}
}

func TestABounceThatStraysIsStopped(t *testing.T) {
	b := newBouncing(t, true, homePeer(t, "https://a.test", ""))
	cookie := b.remembered(t, "https://a.test")
	b.site.Peers, _ = gateway.NewAllowlist() // of the last look alone
	for what, w := range map[string]*httptest.ResponseRecorder{
		"sent":   b.ask("https://home.test/mod/x", cookie),
		"chosen": b.send("POST", "https://home.test/jumpgate/home", url.Values{"home": {"https://a.test"}, "wantsurl": {"/mod/x"}}, cookie),
	} {
		if w.Code != 500 || w.Header().Get("Location")+w.Header().Get("Refresh") != "" || !strings.Contains(w.Body.String(), "We stopped this redirect") {
			t.Errorf("%s: %d %v\n%s", what, w.Code, w.Header(), w.Body)
		}
	}
}

// TestWhoIsAboutToLogInHereIsNotSentHome has a site that is a home as well: a
// jump that is pending means that its learner logs in here.
func TestWhoIsAboutToLogInHereIsNotSentHome(t *testing.T) {
	f := newFront(t, "https://home.test")
	var err error
	if f.site.Homes.Peers, err = gateway.NewAllowlist(homePeer(t, "https://a.test", "")); err != nil {
		t.Fatal(err)
	}
	f.site.Bounces = &sp.Bounces{Homes: f.site.Homes, Auto: true}
	pending := f.do("GET", "https://home.test/auth/mnet/jump.php?hostid=3&wantsurl=/mod/x").Result().Cookies()
	f.upstream.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, login, http.StatusSeeOther) })
	remembered, err := f.site.Homes.Cookie(f.site.Homes.Peers.Find("https://a.test"))
	if err != nil || len(pending) != 1 {
		t.Fatal(err, pending)
	}
	browses := func(cookies ...*http.Cookie) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Set("Accept", "text/html")
			for _, c := range cookies {
				r.AddCookie(c)
			}
		}
	}
	if w := f.do("GET", "https://home.test/mod/x", browses(remembered, pending[0])); w.Header().Get("Location") != login || len(w.Header()["Set-Cookie"]) > 0 {
		t.Errorf("a jump is pending: %d %v", w.Code, w.Header())
	}
	if w := f.do("GET", "https://home.test/login/logout.php", browses(remembered, pending[0])); !slices.Contains(names(w.Result().Cookies()), "bounce") {
		t.Errorf("a logout is not remembered: %v", w.Header())
	}
	// The last look knows other peers than the homes here.
	f.site.Peers = f.site.Homes.Peers
	if w := f.do("GET", "https://home.test/mod/x", browses(remembered)); !strings.HasPrefix(w.Header().Get("Location"), "https://a.test/auth/mnet/jump.php?") {
		t.Errorf("no jump is pending: %d %v", w.Code, w.Header())
	}
}
