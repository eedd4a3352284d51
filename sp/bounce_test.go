package sp_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"jumpgate/gateway"
	"jumpgate/sp"
)

const forumRoot = "https://forum.test/moodle"

// bouncing is a forum that sends learners home.
func bouncing(t testing.TB, auto bool) *sp.Bounces {
	h := homes(t, forumRoot)
	h.Now = time.Now
	peer := func(name string) *gateway.Peer {
		return &gateway.Peer{
			Wwwroot: wwwroot(t, name), Application: gateway.Moodle,
			Publish: []string{gateway.ServiceSSOSP}, Subscribe: []string{gateway.ServiceSSOIDP},
		}
	}
	var err error
	if h.Peers, err = gateway.NewAllowlist(peer("https://home.test"), peer("https://other.test")); err != nil {
		t.Fatal(err)
	}
	h.Aliases = []gateway.Wwwroot{wwwroot(t, "http://forum.test/moodle"), wwwroot(t, "https://old.test")}
	return &sp.Bounces{Homes: h, Auto: auto}
}

// navigates is a browser that asks for a page.
func navigates(page string, jar map[string]string) *http.Request {
	r := httptest.NewRequest("GET", page, nil)
	r.Header.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
	r.Header.Set("Sec-Fetch-Dest", "document")
	for name, value := range jar {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	return r
}

func keep(jar map[string]string, cookies []*http.Cookie) {
	for _, c := range cookies {
		jar[c.Name] = c.Value
	}
}

func remembering(t testing.TB, b *sp.Bounces, home string) map[string]string {
	t.Helper()
	cookie, err := b.Homes.Cookie(b.Homes.Peers.Find(home))
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{cookie.Name: cookie.Value}
}

func answers(status int, location string) *http.Response {
	res := &http.Response{StatusCode: status, Header: http.Header{}}
	if location != "" {
		res.Header.Set("Location", location)
	}
	return res
}

func jumpTo(home, page string) string {
	return home + "/auth/mnet/jump.php?hostwwwroot=" + url.QueryEscape(forumRoot) + "&wantsurl=" + url.QueryEscape(page)
}

func TestWhoIsSentHome(t *testing.T) {
	const page, login = forumRoot + "/mod/forum/discuss.php?d=12&parent=3", forumRoot + "/login/index.php"
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	for _, test := range []struct {
		name     string
		page     string
		change   func(*http.Request)
		status   int
		location string
		want     string // Location
	}{
		{"a deep link", page, nil, 303, login, jumpTo("https://home.test", "/mod/forum/discuss.php?d=12&parent=3")},
		{"a session that is over", page, nil, 303, login + "?loginredirect=1", jumpTo("https://home.test", "/mod/forum/discuss.php?d=12&parent=3")},
		{"an older Moodle", page, nil, 302, login, jumpTo("https://home.test", "/mod/forum/discuss.php?d=12&parent=3")},
		{"the login page by a path", page, nil, 303, "/moodle/login/index.php", jumpTo("https://home.test", "/mod/forum/discuss.php?d=12&parent=3")},
		{"the login page by a relative path", forumRoot + "/my/", nil, 303, "../login/index.php", jumpTo("https://home.test", "/my/")},
		{"the login page of an alias", page, nil, 303, "http://forum.test/moodle/login/index.php", jumpTo("https://home.test", "/mod/forum/discuss.php?d=12&parent=3")},
		{"the login page of another alias", page, nil, 303, "https://OLD.test:443/login/index.php", jumpTo("https://home.test", "/mod/forum/discuss.php?d=12&parent=3")},
		{"a browser that says nothing of itself", page, func(r *http.Request) { r.Header.Del("Sec-Fetch-Dest") }, 303, login, jumpTo("https://home.test", "/mod/forum/discuss.php?d=12&parent=3")},
		{"a page with escapes", forumRoot + "/a%20b/%C3%A4?q=%26", nil, 303, login, jumpTo("https://home.test", "/a%20b/%C3%A4?q=%26")},
		{"the front page", forumRoot + "/", nil, 303, login, jumpTo("https://home.test", "/")},
		{"a file", forumRoot + "/pluginfile.php/3/a.pdf", nil, 303, login, jumpTo("https://home.test", "/pluginfile.php/3/a.pdf")},

		{"a page", page, nil, 200, "", ""},
		{"a redirect to another page", page, nil, 303, forumRoot + "/enrol/index.php?id=2", ""},
		{"a redirect to a page below", page, nil, 303, login + "/x", ""},
		{"a redirect to somebody else's login page", page, nil, 303, "https://evil.test/moodle/login/index.php", ""},
		{"a redirect to a login page with a user name", page, nil, 303, "https://a@forum.test/moodle/login/index.php", ""},
		{"a redirect to the login page of another Moodle on the host", page, nil, 303, "https://forum.test/login/index.php", ""},
		{"a redirect that cannot be read", page, nil, 303, "https://forum.test/%zz", ""},
		{"a redirect for good", page, nil, 301, login, ""},
		{"the login page itself", login, nil, 303, login, ""},
		{"a new password", forumRoot + "/login/change_password.php", nil, 303, login, ""},
		{"a page of a login plugin", forumRoot + "/auth/oauth2/login.php?id=1", nil, 303, login, ""},
		{"a login that comes back from a provider", forumRoot + "/admin/oauth2callback.php?code=secret", nil, 303, login, ""},
		{"a page outside the site", "https://forum.test/other/", nil, 303, login, ""},
		{"an address that is none of a page", forumRoot + "//evil.test", nil, 303, login, ""},
		{"a form", page, func(r *http.Request) { r.Method = "POST" }, 303, login, ""},
		{"a HEAD", page, func(r *http.Request) { r.Method = "HEAD" }, 303, login, ""},
		{"a script", page, header("X-Requested-With", "XMLHttpRequest"), 303, login, ""},
		{"a fetch", page, header("Sec-Fetch-Dest", "empty"), 303, login, ""},
		{"a frame", page, header("Sec-Fetch-Dest", "iframe"), 303, login, ""},
		{"a picture", page, header("Sec-Fetch-Dest", "image"), 303, login, ""},
		{"a page fetched in advance", page, header("Sec-Purpose", "prefetch;prerender"), 303, login, ""},
		{"a picture in an old mail program", page, header("Accept", "image/*,*/*"), 303, login, ""},
		{"a program", page, header("Accept", "*/*"), 303, login, ""},
		{"the Moodle app", page, header("User-Agent", "Mozilla/5.0 MoodleMobile 4.5"), 303, login, ""},
	} {
		for _, auto := range []bool{true, false} {
			b := bouncing(t, auto)
			r := navigates(test.page, remembering(t, b, "https://home.test"))
			if test.change != nil {
				test.change(r)
			}
			var a sp.Bounce
			done := false
			if b.Watches(r) {
				a, done = b.Look(r, answers(test.status, test.location))
			}
			if done != (test.want != "") {
				t.Errorf("%s: done %v, %+v", test.name, done, a)
				continue
			}
			if !done {
				continue
			}
			if auto && (a.Location != test.want || a.Outcome != sp.OutcomeBounced || a.Home.Wwwroot.String() != "https://home.test") {
				t.Errorf("%s: %+v, want %s", test.name, a, test.want)
			}
			if !auto && (!a.Asks() || a.Outcome != sp.OutcomeChoose || a.Home.Wwwroot.String() != "https://home.test") {
				t.Errorf("%s: choose: %+v", test.name, a)
			}
		}
	}
}

// TestNobodyIsSentHomeTwice goes through what may be the matter with somebody
// who is not logged in again.
func TestNobodyIsSentHomeTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bouncing(t, true)
		asks := func(jar map[string]string, page string) sp.Bounce {
			t.Helper()
			r := navigates(forumRoot+page, jar)
			a, ok := b.Look(r, answers(303, forumRoot+"/login/index.php"))
			if !ok || !b.Watches(r) {
				t.Fatalf("%s: Moodle's answer passes", page)
			}
			keep(jar, a.Cookies)
			return a
		}
		stranger := map[string]string{}
		for range 3 {
			if a := asks(stranger, "/x"); a.Outcome != sp.OutcomeChoose || a.Home != nil {
				t.Fatalf("a stranger: %+v", a)
			}
		}

		jar := remembering(t, b, "https://home.test")
		if a := asks(jar, "/x?a=1"); a.Outcome != sp.OutcomeBounced {
			t.Fatalf("the first time: %+v", a)
		}
		if a := asks(jar, "/x?a=2"); a.Outcome != sp.OutcomeBounced {
			t.Fatalf("another page, in another tab: %+v", a)
		}
		for _, page := range []string{"/x?a=1", "/x?a=2", "/y/../x?a=1"} {
			if a := asks(jar, page); a.Outcome != sp.OutcomeBack || a.Location != "" || a.Home == nil {
				t.Fatalf("%s again: %+v", page, a)
			}
		}
		time.Sleep(5*time.Minute - time.Second)
		if a := asks(jar, "/x?a=1"); a.Outcome != sp.OutcomeBack {
			t.Fatalf("after almost five minutes: %+v", a)
		}
		time.Sleep(time.Second)
		if a := asks(jar, "/x?a=1"); a.Outcome != sp.OutcomeBounced {
			t.Fatalf("after five minutes: %+v", a)
		}

		// A home that changes the address each time does not lead in circles.
		jar = remembering(t, b, "https://home.test")
		bounced := 0
		for i := range 50 {
			if a := asks(jar, "/x?"+strings.Repeat("a", i)); a.Outcome == sp.OutcomeBounced {
				bounced++
			}
		}
		if bounced != 8 {
			t.Errorf("sent home %d times", bounced)
		}

		// After a logout nobody is.
		jar = remembering(t, b, "https://home.test")
		out := navigates(forumRoot+"/login/logout.php?sesskey=x", jar)
		for _, method := range []string{"GET", "POST"} {
			out.Method = method
			if !b.Watches(out) {
				t.Errorf("a logout by %s is not watched", method)
			}
		}
		asked := answers(200, "")
		if _, ok := b.Look(out, asked); ok || len(asked.Header) > 0 {
			t.Errorf("a logout that Moodle asks about: %v %v", ok, asked.Header)
		}
		done := answers(303, "https://home.test/")
		done.Header.Set("Set-Cookie", "MoodleSession=new")
		if _, ok := b.Look(out, done); ok || len(done.Header["Set-Cookie"]) != 2 {
			t.Fatalf("a logout: %v %v", ok, done.Header)
		}
		keep(jar, (&http.Response{Header: done.Header}).Cookies())
		if a := asks(jar, "/x"); a.Outcome != sp.OutcomeLeft || a.Location != "" {
			t.Errorf("after a logout: %+v", a)
		}
		time.Sleep(5 * time.Minute)
		if a := asks(jar, "/x"); a.Outcome != sp.OutcomeBounced {
			t.Errorf("long after a logout: %+v", a)
		}
	})
}

func TestAHomeThatIsNoneAnyMoreIsNotGoneTo(t *testing.T) {
	for name, change := range map[string]func(*gateway.Peer){
		"off":     func(p *gateway.Peer) { p.Off = true },
		"over":    func(p *gateway.Peer) { p.Expires = time.Now() },
		"no home": func(p *gateway.Peer) { p.Subscribe = nil },
		"a Mahara": func(p *gateway.Peer) {
			p.Application = gateway.Mahara
		},
	} {
		b := bouncing(t, true)
		jar := remembering(t, b, "https://home.test")
		change(b.Homes.Peers.Find("https://home.test"))
		r := navigates(forumRoot+"/x", jar)
		if a, ok := b.Look(r, answers(303, forumRoot+"/login/index.php")); !ok || a.Outcome != sp.OutcomeChoose || a.Home != nil || len(b.Open()) != 1 {
			t.Errorf("%s: %v, %+v", name, ok, a)
		}
		change(b.Homes.Peers.Find("https://other.test"))
		if a, ok := b.Look(r, answers(303, forumRoot+"/login/index.php")); ok {
			t.Errorf("%s, and there is no other: %+v", name, a)
		}
	}
}

// chooses sends the form of the page that asks.
func chooses(b *sp.Bounces, jar map[string]string, home, wantsurl string) sp.Bounce {
	r := navigates(forumRoot+sp.HomePath, jar)
	r.Method = "POST"
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	body := httptest.NewRequest("POST", "/", strings.NewReader(url.Values{"home": {home}, "wantsurl": {wantsurl}}.Encode()))
	r.Body = body.Body
	return b.Choose(httptest.NewRecorder(), r)
}

func TestAChoiceIsTakenAndRemembered(t *testing.T) {
	b := bouncing(t, true)
	jar := map[string]string{"MoodleSession": "x"}
	a := chooses(b, jar, "https://other.test", "/mod/x?d=1#p34")
	if want := jumpTo("https://other.test", "/mod/x?d=1#p34"); a.Location != want || a.Outcome != sp.OutcomeChosen || a.Err != nil {
		t.Fatalf("%+v, want %s", a, want)
	}
	keep(jar, a.Cookies)
	look := func(page string) (sp.Bounce, bool) {
		return b.Look(navigates(forumRoot+page, jar), answers(303, forumRoot+"/login/index.php"))
	}
	if a, _ := look("/mod/x?d=1"); a.Outcome != sp.OutcomeBack || a.Home.Wwwroot.String() != "https://other.test" {
		t.Errorf("back, and not logged in: %+v", a)
	}
	if a, _ := look("/mod/y"); a.Outcome != sp.OutcomeBounced || !strings.HasPrefix(a.Location, "https://other.test/") {
		t.Errorf("another page: %+v", a)
	}
	if a = chooses(b, jar, forumRoot, "/mod/x#p34"); a.Outcome != sp.OutcomeHere || a.Location != forumRoot+"/mod/x#p34" {
		t.Fatalf("here: %+v", a)
	}
	keep(jar, a.Cookies)
	if a, ok := look("/mod/x"); ok {
		t.Errorf("who has an account here does not see Moodle's login: %+v", a)
	}
	if !b.Homes.Here(navigates(forumRoot+"/", jar)) {
		t.Error("it is not remembered")
	}
	b.Auto = false
	if a, ok := look("/mod/x"); ok {
		t.Errorf("who has an account here is asked: %+v", a)
	}
}

func TestAChoiceThatIsNotOnTheList(t *testing.T) {
	jar := map[string]string{"MoodleSession": "x"}
	for _, test := range []struct {
		home, wantsurl string
		jar            map[string]string
		rule           gateway.Rule
	}{
		{"https://evil.test", "/", jar, gateway.RulePeerUnknown},
		{"", "/", jar, gateway.RulePeerMissing},
		{"https://home.test", "//evil.test/", jar, gateway.RuleSchemeRelative},
		{"https://home.test", "https://evil.test/", jar, gateway.RuleForeignOrigin},
		{forumRoot, "https://evil.test/", jar, gateway.RuleForeignOrigin},
		{"https://home.test", "/", nil, gateway.RuleNoCookie},
		{forumRoot, "/", nil, gateway.RuleNoCookie},
	} {
		a := chooses(bouncing(t, true), test.jar, test.home, test.wantsurl)
		if a.Rule != test.rule || !a.Refused || a.Location != "" || len(a.Cookies) > 0 {
			t.Errorf("%s from %s: %+v", test.wantsurl, test.home, a)
		}
	}
	for _, body := range []string{"", "home=https://home.test", "home=https://home.test&home=https://other.test&wantsurl=/", "home=https://home.test&wantsurl=/&wantsurl=/x", "%zz", strings.Repeat("a", 1<<20)} {
		r := navigates(forumRoot+sp.HomePath, jar)
		r.Method = "POST"
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Body = httptest.NewRequest("POST", "/", strings.NewReader(body)).Body
		if a := bouncing(t, true).Choose(httptest.NewRecorder(), r); !a.Refused || a.Location != "" {
			t.Errorf("%.80q: %+v", body, a)
		}
	}
	r := navigates(forumRoot+sp.HomePath, jar)
	r.Method = "POST"
	r.Header.Set("Sec-Fetch-Dest", "empty")
	if a := bouncing(t, true).Choose(httptest.NewRecorder(), r); a.Rule != gateway.RuleNotNavigation {
		t.Errorf("a script: %+v", a)
	}
}

// TestWatchingCostsNothing keeps pages of people who are logged in, nearly all
// there are, from paying for a bounce.
func TestWatchingCostsNothing(t *testing.T) {
	b := bouncing(t, true)
	r := navigates(forumRoot+"/mod/forum/view.php?id=3", map[string]string{"MoodleSession": "x"})
	if n := testing.AllocsPerRun(100, func() { b.Watches(r) }); n != 0 {
		t.Errorf("Watches allocates %v times", n)
	}
}

// FuzzBounce asks for any page of a Moodle that answers with any address: who is
// sent somewhere goes to a home of the list, for a page of our own.
func FuzzBounce(f *testing.F) {
	f.Add("/moodle/mod/x?d=1", forumRoot+"/login/index.php")
	f.Add("/moodle//evil.test/", "/moodle/login/index.php")
	f.Add("/moodle/%2e%2e/%2f/evil.test", "../login/index.php")
	f.Add("/%6doodle/x", "//forum.test/moodle/login/index.php?a#b")
	b := bouncing(f, true)
	jar := remembering(f, b, "https://home.test")
	own := gateway.OwnSite(b.Homes.Site)
	f.Fuzz(func(t *testing.T, target, location string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || !strings.HasPrefix(u.Path, "/") {
			return
		}
		r := navigates("https://forum.test/", jar)
		r.URL.Path, r.URL.RawPath, r.URL.RawQuery, r.RequestURI = u.Path, u.RawPath, u.RawQuery, target
		if !b.Watches(r) {
			return
		}
		a, ok := b.Look(r, answers(303, location))
		if !ok {
			return
		}
		page, found := strings.CutPrefix(a.Location, jumpTo("https://home.test", ""))
		wantsurl, err := url.QueryUnescape(page)
		if d := gateway.DecideOwn(own, wantsurl); !found || err != nil || d.Rule != gateway.RulePath || d.Target != a.Page || !b.Homes.Peers.Covers(a.Location, time.Now()) {
			t.Errorf("%q, answered with %q, leads to %s", target, location, a.Location)
		}
	})
}
