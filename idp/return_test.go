package idp_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"jumpgate/gateway"
	"jumpgate/gateway/store"
	"jumpgate/idp"
)

const login = "https://home.test/moodle/login/index.php"

func TestTheResponseThatCompletesTheLoginIsTheJump(t *testing.T) {
	newSession := "MoodleSession=" + adas + "; path=/; HttpOnly"
	tests := []struct {
		name   string
		method string
		target string
		status int
		header http.Header
		lands  bool
	}{
		{"the form", "POST", login, 303, redirect(newSession, "MOODLEID1_=x"), true},
		{"OAuth2", "GET", "https://home.test/moodle/auth/oauth2/login.php?id=1", 303, redirect(newSession), true},
		{"a page instead of a redirect", "POST", login, 200, http.Header{"Content-Type": {"text/html"}, "Set-Cookie": {newSession}}, true},
		{"a session deleted before it is set", "POST", login, 303, redirect("MoodleSession=deleted; Max-Age=0", newSession), true},
		{"a wrong password", "POST", login, 303, redirect(), false},
		{"another anonymous session", "POST", login, 303, redirect("MoodleSession=" + anonymous), false},
		{"a guest", "POST", login, 303, redirect("MoodleSession=" + guests), false},
		{"a second factor is still missing", "POST", login, 303, redirect("MoodleSession=" + factors), false},
		{"a picture", "GET", "https://home.test/moodle/pix.php", 200, http.Header{"Content-Type": {"image/png"}, "Set-Cookie": {newSession}}, false},
		{"an error", "POST", login, 500, http.Header{"Content-Type": {"text/html"}, "Set-Cookie": {newSession}}, false},
		{"not modified", "GET", login, 304, http.Header{"Set-Cookie": {newSession}}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := newHome(t, store.Limits{})
			b := browser{}
			h.jump(b, "/mod/forum/discuss.php?d=1#p2")
			a, done := h.answer(b, b.request(test.method, test.target), test.status, test.header)
			if done != test.lands || a.Err != nil {
				t.Fatalf("answered %v: %+v", done, a)
			}
			if !test.lands {
				return
			}
			if _, wantsurl := landing(t, a); wantsurl != "/mod/forum/discuss.php?d=1#p2" || a.Username != "ada" {
				t.Errorf("wantsurl %q for %q", wantsurl, a.Username)
			}
			if len(b) != 1+strings.Count(strings.Join(test.header["Set-Cookie"], ""), "MOODLEID") || b["MoodleSession"] != adas {
				t.Errorf("cookies afterwards: %v", b)
			}
			if again, done := h.answer(b, b.request("GET", login), 200, page()); done {
				t.Errorf("the jump took place twice: %+v", again)
			}
		})
	}
}

func TestTheSecondFactorCompletesTheLogin(t *testing.T) {
	h := newHome(t, store.Limits{})
	b := browser{}
	h.jump(b, "/x")
	for step, r := range []*http.Request{b.request("POST", login), b.request("GET", login+"?testsession=3"), b.request("GET", "https://home.test/moodle/admin/tool/mfa/auth.php")} {
		if _, done := h.answer(b, r, 303, redirect("MoodleSession="+factors)); done {
			t.Fatalf("step %d: the jump took place before the second factor", step)
		}
	}
	h.source.mfa.Store(true)
	a, done := h.answer(b, b.request("POST", "https://home.test/moodle/admin/tool/mfa/auth.php"), 303, redirect())
	if !done {
		t.Fatal("the second factor did not complete the jump")
	}
	landing(t, a)
}

func TestANewPasswordCompletesTheLogin(t *testing.T) {
	h := newHome(t, store.Limits{})
	b := browser{"MoodleSession": overdue}
	if a := h.jump(b, "/x"); !strings.HasPrefix(a.Location, "https://home.test/moodle/login/change_password.php?jumpgate=") {
		t.Fatalf("the jump led to %+v", a)
	}
	change := "https://home.test/moodle/login/change_password.php"
	if _, done := h.answer(b, b.request("GET", change), 200, page()); done {
		t.Fatal("the jump took place before the password was changed")
	}
	h.source.changed.Store(true)
	if _, done := h.answer(b, b.request("POST", change), 200, page()); done {
		t.Fatal("the page that says the password was changed is lost")
	}
	a, done := h.answer(b, b.request("GET", "https://home.test/moodle/my/"), 200, page())
	if !done {
		t.Fatal("the new password did not complete the login")
	}
	landing(t, a)
}

func TestTwoTabsBothArrive(t *testing.T) {
	for _, test := range []struct {
		name          string
		first, second string // in which order their forms are sent
	}{
		{"older first", "/one", "/two"},
		{"newer first", "/two", "/one"},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHome(t, store.Limits{})
			b := browser{}
			forms := map[string]string{}
			for _, tab := range []string{"/one", "/two"} {
				forms[tab] = h.jump(b, tab).Location
			}
			r := b.request("POST", login)
			r.Header.Set("Referer", forms[test.first])
			a, done := h.answer(b, r, 303, redirect("MoodleSession="+adas))
			if !done {
				t.Fatal("the first tab did not arrive")
			}
			if _, wantsurl := landing(t, a); wantsurl != test.first {
				t.Errorf("the first tab arrived at %s", wantsurl)
			}

			// Being logged in, the learner goes about; nothing hijacks that.
			if a, done := h.answer(b, b.request("GET", "https://home.test/moodle/my/"), 200, page()); done {
				t.Fatalf("the dashboard became %+v", a)
			}
			// Sending or reloading the second tab's form finishes its jump.
			r = b.request("GET", forms[test.second])
			a, done = h.answer(b, r, 200, page())
			if !done {
				t.Fatal("the second tab did not arrive")
			}
			if _, wantsurl := landing(t, a); wantsurl != test.second {
				t.Errorf("the second tab arrived at %s", wantsurl)
			}
		})
	}
}

func TestALoginWithoutCookiesIsFinishedByTheNextPage(t *testing.T) {
	h := newHome(t, store.Limits{})
	b := browser{"MoodleSession": anonymous}
	h.jump(b, "/x")
	// The identity provider's page makes the browser POST, without cookies.
	saml := browser{}
	if _, done := h.answer(saml, saml.request("POST", "https://home.test/moodle/auth/saml2/sp/saml2-acs.php"), 303, redirect("MoodleSession="+adas)); done {
		t.Fatal("a request without our cookie had a jump")
	}
	b["MoodleSession"] = adas
	r := b.request("GET", "https://home.test/moodle/my/")
	r.Header.Set("Sec-Fetch-Dest", "image")
	if _, done := h.answer(b, r, 200, page()); done {
		t.Fatal("a picture had the jump")
	}
	a, done := h.answer(b, b.request("GET", "https://home.test/moodle/my/"), 200, page())
	if !done {
		t.Fatal("the next page did not finish the jump")
	}
	landing(t, a)
}

func TestWhatNoLearnerLooksAtNeverJumps(t *testing.T) {
	h := newHome(t, store.Limits{})
	b := browser{}
	h.jump(b, "/x")
	b["MoodleSession"] = adas
	for name, change := range map[string]func(*http.Request){
		"a frame":         func(r *http.Request) { r.Header.Set("Sec-Fetch-Dest", "iframe") },
		"a script's call": func(r *http.Request) { r.Header.Set("X-Requested-With", "XMLHttpRequest") },
		"a prefetch":      func(r *http.Request) { r.Header.Set("Sec-Purpose", "prefetch") },
		"a HEAD":          func(r *http.Request) { r.Method = "HEAD" },
	} {
		r := b.request("GET", login)
		change(r)
		if h.Expects(r) {
			t.Errorf("%s is expected to jump", name)
		}
	}
}

func TestMoodleIsNotAskedAgainAboutAnAnonymousSession(t *testing.T) {
	h := newHome(t, store.Limits{})
	b := browser{}
	h.jump(b, "/x")
	h.answer(b, b.request("GET", login), 200, http.Header{"Content-Type": {"text/html"}, "Set-Cookie": {"MoodleSession=" + anonymous}})
	before := h.source.asked.Load()
	for range 3 { // wrong passwords
		h.answer(b, b.request("POST", login), 303, redirect())
	}
	if asked := h.source.asked.Load() - before; asked != 0 {
		t.Errorf("asked %d times", asked)
	}
	if _, done := h.answer(b, b.request("POST", login), 303, redirect("MoodleSession="+adas)); !done {
		t.Error("the right password did not finish the jump")
	}
}

func TestAUserWhoMayNotJumpIsToldSoOnce(t *testing.T) {
	h := newHome(t, store.Limits{})
	b := browser{}
	h.jump(b, "/x")
	a, done := h.answer(b, b.request("POST", login), 303, redirect("MoodleSession="+workers))
	if !done || !a.Refused || a.Rule != gateway.RuleUserLoginAs {
		t.Fatalf("answered %v: %+v", done, a)
	}
	if _, done := h.answer(b, b.request("GET", login), 200, page()); done {
		t.Error("told twice")
	}
}

func TestAPendingJumpExpires(t *testing.T) {
	h := newHome(t, store.Limits{})
	b := browser{}
	h.jump(b, "/x")
	h.now = h.now.Add(store.JumpLife)
	if a, done := h.answer(b, b.request("POST", login), 303, redirect("MoodleSession="+adas)); done {
		t.Errorf("a jump of 15 minutes ago took place: %+v", a)
	}
}

func TestOfTwoCompletionsAtOnceOneWins(t *testing.T) {
	h := newHome(t, store.Limits{})
	b := browser{}
	h.jump(b, "/x")
	b["MoodleSession"] = adas
	var wins sync.Map
	var group sync.WaitGroup
	for i := range 8 {
		r := b.request("GET", login)
		group.Go(func() {
			if a, done := h.answer(browser{}, r, 200, page()); done && a.Landing {
				wins.Store(i, a.Location)
			}
		})
	}
	group.Wait()
	n := 0
	wins.Range(func(_, _ any) bool { n++; return true })
	if n != 1 {
		t.Errorf("%d of 8 completions won", n)
	}
}

func TestALogoutLeavesNothingPending(t *testing.T) {
	h := newHome(t, store.Limits{})
	b := browser{}
	h.jump(b, "/one")
	h.jump(b, "/two")
	if _, done := h.answer(b, b.request("POST", login), 303, redirect("MoodleSession="+adas)); !done {
		t.Fatal("the login did not finish a jump")
	}
	h.answer(b, b.request("GET", "https://home.test/moodle/login/logout.php"), 303, redirect("MoodleSession="+anonymous))
	if a, done := h.answer(b, b.request("POST", login), 303, redirect("MoodleSession="+adas)); done {
		t.Errorf("the next login became %+v", a)
	}
}

func TestAnEarlierLoginDoesNotCostALaterJump(t *testing.T) {
	h := newHome(t, store.Limits{})
	b := browser{}
	h.jump(b, "/one")
	h.jump(b, "/two")
	if _, done := h.answer(b, b.request("POST", login), 303, redirect("MoodleSession="+adas)); !done {
		t.Fatal("the login did not finish a jump")
	}
	// The session ends without our seeing it; a click brings the learner to
	// the login page, where Moodle begins another one.
	b["MoodleSession"] = "endedendedendedendedended0"
	h.jump(b, "/three")
	h.answer(b, b.request("GET", login), 200, http.Header{"Content-Type": {"text/html"}, "Set-Cookie": {"MoodleSession=" + anonymous}})
	a, done := h.answer(b, b.request("POST", login), 303, redirect("MoodleSession="+adas))
	if !done {
		t.Fatal("the later jump is lost")
	}
	if _, wantsurl := landing(t, a); wantsurl != "/three" {
		t.Errorf("arrived at %s", wantsurl)
	}
}

func TestAPageForEverybodyCarriesNoCookieOfOurs(t *testing.T) {
	h := newHome(t, store.Limits{})
	b := browser{}
	h.jump(b, "/x")
	b["MoodleSession"] = anonymous
	w := httptest.NewRecorder()
	if _, done := h.Return(w, b.request("GET", "https://home.test/moodle/"), &http.Response{StatusCode: 200, Header: page()}); done {
		t.Fatal("the jump took place")
	}
	if cookies := w.Header()["Set-Cookie"]; cookies != nil {
		t.Errorf("cookies: %q", cookies)
	}
}

func TestSixteenJumpsABrowser(t *testing.T) {
	h := newHome(t, store.Limits{})
	b := browser{}
	var first idp.Answer
	for i := range 17 {
		a := h.jump(b, "/"+string(rune('a'+i)))
		if i == 0 {
			first = a
		}
	}
	b["MoodleSession"] = adas
	var arrived []string
	for range 20 {
		a, done := h.answer(b, b.request("GET", login), 200, page())
		if !done {
			break
		}
		_, wantsurl := landing(t, a)
		arrived = append(arrived, wantsurl)
	}
	if len(arrived) != 16 || arrived[0] != "/q" || arrived[15] != "/b" {
		t.Errorf("arrived %q", arrived)
	}
	if named, _ := url.Parse(first.Location); named.Query().Get("jumpgate") == "" {
		t.Errorf("the login page's address names no jump: %s", first.Location)
	}
}

func TestWatchForgetsSessionsThatEnd(t *testing.T) {
	tests := []struct {
		name, session, target string
		header                http.Header
		forgets               bool
	}{
		{"a logout", adas, "https://home.test/moodle/login/logout.php", redirect("MoodleSession=" + anonymous), true},
		{"a login over another", adas, login, redirect("MoodleSession=" + guests), true},
		{"log in as", adas, "https://home.test/moodle/course/loginas.php?user=3", redirect(), true},
		{"a page", adas, "https://home.test/moodle/my/", page(), false},
		{"the same session once more", adas, "https://home.test/moodle/my/", redirect("MoodleSession=" + adas), false},
		{"no session", "", login, redirect("MoodleSession=" + adas), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := newHome(t, store.Limits{})
			b := browser{"MoodleSession": test.session}
			r := b.request("GET", test.target)
			if h.Watches(r) != (test.session != "") {
				t.Fatalf("watched %t", h.Watches(r))
			}
			if err := h.Watch(r, &http.Response{StatusCode: 303, Header: test.header}); err != nil {
				t.Fatal(err)
			}
			if got := h.source.forgot.Load() != nil; got != test.forgets {
				t.Errorf("forgot %v", got)
			}
		})
	}
}

func TestTwoTabsThatBeginAtOnceBothArrive(t *testing.T) {
	h := newHome(t, store.Limits{})
	// Both requests leave before the first answer brings the cookie.
	one, two := browser{}, browser{}
	first, second := h.jump(one, "/one"), h.jump(two, "/two")
	b := two // of two cookies with one name the browser keeps the last
	r := b.request("POST", login)
	r.Header.Set("Referer", first.Location)
	a, done := h.answer(b, r, 303, redirect("MoodleSession="+adas))
	if !done {
		t.Fatal("the first tab did not arrive")
	}
	if _, wantsurl := landing(t, a); wantsurl != "/one" {
		t.Errorf("the first tab arrived at %s", wantsurl)
	}
	a, done = h.answer(b, b.request("GET", second.Location), 200, page())
	if !done {
		t.Fatal("the second tab did not arrive")
	}
	if _, wantsurl := landing(t, a); wantsurl != "/two" {
		t.Errorf("the second tab arrived at %s", wantsurl)
	}
}

func TestAWrongPasswordDoesNotLoseTheTabsJump(t *testing.T) {
	h := newHome(t, store.Limits{})
	b := browser{}
	older := h.jump(b, "/older").Location
	h.jump(b, "/newer")
	r := b.request("POST", login)
	r.Header.Set("Referer", older)
	header := http.Header{"Location": {login + "?loginredirect=1"}, "Set-Cookie": {"MoodleSession=" + anonymous}}
	if _, done := h.answer(b, r, 303, header); done {
		t.Fatal("a wrong password finished the jump")
	}
	r = b.request("POST", login)
	r.Header.Set("Referer", header.Get("Location"))
	a, done := h.answer(b, r, 303, redirect("MoodleSession="+adas))
	if !done {
		t.Fatal("the right password did not finish the jump")
	}
	if _, wantsurl := landing(t, a); wantsurl != "/older" {
		t.Errorf("arrived at %s by %s", wantsurl, header.Get("Location"))
	}
}

func TestTheAnswerToAFormIsNotReplaced(t *testing.T) {
	h := newHome(t, store.Limits{})
	b := browser{}
	h.jump(b, "/x")
	b["MoodleSession"] = adas // by a login that we did not see
	for _, target := range []string{"https://home.test/moodle/mod/forum/post.php", "https://home.test/other/app"} {
		if a, done := h.answer(b, b.request("POST", target), 303, redirect()); done {
			t.Errorf("a POST to %s became %+v", target, a)
		}
	}
	if a, done := h.answer(b, b.request("GET", "https://home.test/other/app"), 200, page()); done {
		t.Errorf("a page outside the site became %+v", a)
	}
	download := page()
	download.Set("Content-Disposition", "attachment")
	if a, done := h.answer(b, b.request("GET", "https://home.test/moodle/pluginfile.php/1"), 200, download); done {
		t.Errorf("a download became %+v", a)
	}
	if a, done := h.answer(b, b.request("GET", "https://home.test/moodle/my/"), 200, page()); !done {
		t.Errorf("the next page did not finish the jump: %+v", a)
	}
}
