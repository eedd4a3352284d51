package main

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chromedp/chromedp"

	"jumpgate/gateway/moodletest"
)

// application is a site whose application is no Moodle, behind a gateway, and two
// homes whose learners land there.
type application struct {
	*headerForum
	*moodletest.Application
	seen atomic.Pointer[http.Header] // of the request that reached it last
}

func newApplication(t *testing.T, landing string) *application {
	t.Helper()
	return newApplicationOf(t, headerSetting{landing: landing})
}

func newApplicationOf(t *testing.T, s headerSetting) *application {
	t.Helper()
	a := &application{headerForum: newHeaderForum(t, s)}
	a.Application = moodletest.NewApplication(wwwroot(t, a.forum), nil)
	through := func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			a.seen.Store(&r.Header)
			a.Application.ServeHTTP(w, r)
		})
	}
	a.through.Store(&through)
	return a
}

// session returns the cookie of the visitor's session.
func (a *application) session(v *visitor) string {
	at, err := url.Parse(a.forum)
	if err != nil {
		v.t.Fatal(err)
	}
	for _, cookie := range v.client.Jar.Cookies(at) {
		if strings.HasPrefix(cookie.Name, "jumpgate-session-") {
			return cookie.Value
		}
	}
	return ""
}

// shows fails the test unless the application shows a page to an account, or to
// nobody.
func (a *application) shows(v *visitor, account string) {
	v.t.Helper()
	v.follow(a.forum + "/")
	want := "Logged in as " + account + ":"
	if account == "" {
		want = "Nobody is logged in"
	}
	if !strings.Contains(v.page, want) {
		v.t.Fatalf("the application does not say %q:\n%s", want, v.page)
	}
}

func TestALearnerLandsAtAnApplication(t *testing.T) {
	for _, algorithm := range []string{"EdDSA", "RS256"} {
		t.Run(algorithm, func(t *testing.T) {
			a := newApplication(t, "{by: jwt, algorithm: "+algorithm+"}")
			v := newVisitor(t)
			a.shows(v, "")
			if v.follow(a.forum + moodletest.SampleDeepLink); !strings.Contains(v.page, "log in first") {
				t.Fatalf("a page for nobody:\n%s", v.page)
			}
			jump := a.homes[0] + "/auth/mnet/jump.php?hostwwwroot=" + url.QueryEscape(a.forum) + "&wantsurl=" + url.QueryEscape(moodletest.SampleDeepLink)
			v.follow(jump).login("ada", "pw")
			if want := a.forum + moodletest.SampleDeepLink; v.at.String() != want || len(v.hops) != 2 {
				t.Fatalf("ended on %s after %q, want %s:\n%s", v.at, v.hops, want, v.page)
			}
			a.shows(v, a.account(0, "ada"))
			if cookie := a.seen.Load().Get("Cookie"); strings.Contains(cookie, "jumpgate") {
				t.Errorf("the application sees our cookies: %s", cookie)
			}
			first := a.session(v)
			if v.follow(jump); v.at.String() != a.forum+moodletest.SampleDeepLink || a.session(v) == first || first == "" {
				t.Errorf("ended on %s, with the session %q as before", v.at, first)
			}
			a.shows(v, a.account(0, "ada"))
			for _, want := range []string{"msg=landing", "outcome=landed", "outcome=same", "newcomer=" + a.account(0, "ada")} {
				if !strings.Contains(a.log.String(), want) {
					t.Errorf("the log lacks %q", want)
				}
			}
			if strings.Contains(a.log.String(), first) {
				t.Error("the log has a cookie")
			}
			// Each home's learners have an account of their own.
			other := newVisitor(t).follow(a.landing(1, "ada"))
			a.shows(other, a.account(1, "ada"))
			other.follow(a.landing(1, "bob")) // and are asked before they have another
			a.shows(newVisitor(t), "")
		})
	}
}

func TestWhoHasAnotherAccountAtAnApplicationIsAsked(t *testing.T) {
	a := newApplication(t, "jwt")
	v := newVisitor(t).follow(a.landing(0, "ada"))
	before := a.session(v)
	v.follow(a.landing(0, "bob"))
	for _, want := range []string{"You are logged in here as <bdi>Ada Lovelace</bdi>", "<bdi>Bob Builder</bdi>"} {
		if !strings.Contains(v.page, want) {
			t.Fatalf("the page lacks %q:\n%s", want, v.page)
		}
	}
	ticket := v.ticket()
	if v.decides(a.crossroads, ticket, "switch", "cross-site"); a.session(v) != before {
		t.Fatal("a page of another site has answered")
	}
	elsewhere := newVisitor(t).decides(a.crossroads, ticket, "switch", "same-origin")
	if a.shows(elsewhere, ""); a.session(elsewhere) != "" {
		t.Fatal("the ticket is good in another browser")
	}
	v.decides(a.crossroads, ticket, "stay", "same-origin")
	if a.shows(v, a.account(0, "ada")); a.session(v) != before {
		t.Error("who stays has another session")
	}
	if v.decides(a.crossroads, ticket, "switch", "same-origin"); !strings.Contains(v.page, "confirm-over") {
		t.Errorf("an answer can be given twice:\n%s", v.page)
	}
	v.follow(a.landing(0, "bob"))
	v.decides(a.crossroads, v.ticket(), "switch", "same-origin")
	a.shows(v, a.account(0, "bob"))
	// The session that was replaced is over, whoever has its cookie.
	if _, ok, err := a.gateway.redis.Site(wwwroot(t, a.forum)).AppSession(t.Context(), before, 1); ok || err != nil {
		t.Errorf("the former session lasts: %v %v", ok, err)
	}
}

func TestALinkToAnApplicationIsGoodOnce(t *testing.T) {
	a := newApplication(t, "jwt")
	link := a.landing(0, "ada")
	v := newVisitor(t).follow(link)
	if v.follow(link); v.at.String() != a.forum+moodletest.SampleDeepLink {
		t.Errorf("who is logged in, after a double click, ends on %s", v.at)
	}
	stranger := newVisitor(t).follow(link)
	if !strings.Contains(stranger.page, "<dd>token-used</dd>") || a.session(stranger) != "" {
		t.Errorf("the page:\n%s", stranger.page)
	}
}

// TestAPlantedCookieIsNobodysSession: whatever was there before the landing, nobody
// else knows the cookie afterwards.
func TestAPlantedCookieIsNobodysSession(t *testing.T) {
	a := newApplication(t, "jwt")
	v := newVisitor(t)
	at, _ := url.Parse(a.forum)
	name, planted := wwwroot(t, a.forum).CookieName("session"), strings.Repeat("x", 40)
	v.client.Jar.SetCookies(at, []*http.Cookie{{Name: name, Value: planted, Path: "/"}})
	a.shows(v, "")
	v.follow(a.landing(0, "ada"))
	if got := a.session(v); got == planted || len(got) != 40 {
		t.Errorf("the session is %q", got)
	}
	a.shows(v, a.account(0, "ada"))
}

func TestTheWayOutOfAnApplication(t *testing.T) {
	a := newApplication(t, "jwt")
	v := newVisitor(t).follow(a.landing(0, "ada"))
	if v.follow(a.forum + "/jumpgate/logout"); !strings.Contains(v.page, "Log out of ") {
		t.Fatalf("the page:\n%s", v.page)
	}
	a.shows(v, a.account(0, "ada"))
	before := a.session(v)
	post := func(from string) {
		t.Helper()
		r, err := http.NewRequest("POST", a.forum+"/jumpgate/logout", nil)
		r.Header.Set("Sec-Fetch-Site", from)
		v.do(r, err)
	}
	post("cross-site")
	a.shows(v, a.account(0, "ada"))
	if post("same-origin"); a.session(v) != "" || !strings.Contains(v.page, `href="`+a.homes[0]+`/"`) {
		t.Fatalf("the session is %q, at %s:\n%s", a.session(v), v.at, v.page)
	}
	a.shows(v, "")
	at, _ := url.Parse(a.forum)
	v.client.Jar.SetCookies(at, []*http.Cookie{{Name: wwwroot(t, a.forum).CookieName("session"), Value: before, Path: "/"}})
	a.shows(v, "")
	if !strings.Contains(a.log.String(), "msg=logout") {
		t.Error("the log says nothing")
	}
}

// TestAnApplicationSurvivesANewKey changes the key of a site by hand.
func TestAnApplicationSurvivesANewKey(t *testing.T) {
	a := newApplication(t, "jwt")
	keys := func() map[string]bool {
		v := newVisitor(t).follow(a.forum + "/.well-known/jwks.json")
		var set struct{ Keys []map[string]string }
		if err := json.Unmarshal([]byte(v.page), &set); err != nil {
			t.Fatalf("%v:\n%s", err, v.page)
		}
		all := map[string]bool{}
		for _, key := range set.Keys {
			if all[key["kid"]] = true; key["d"] != "" || key["alg"] != "EdDSA" {
				t.Errorf("the key set has %v", key)
			}
		}
		return all
	}
	before := keys()
	v := newVisitor(t).follow(a.landing(0, "ada"))
	ring := a.gateway.sites[wwwroot(t, a.forum)].Keyring
	old := ring.Current()
	if err := ring.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := keys()
	kept := 0
	for id := range before {
		if after[id] {
			kept++
		}
	}
	if ring.Current() == old || len(before) != 3 || len(after) != 4 || kept != 1 {
		t.Errorf("%d keys, then %d, of which %d were there before", len(before), len(after), kept)
	}
	a.shows(v, a.account(0, "ada"))                                         // by an assertion of the former key
	a.shows(newVisitor(t).follow(a.landing(0, "bob")), a.account(0, "bob")) // and of the new one
}

// TestALearnerReadsAPageOfAnApplicationInABrowser follows a bounce, logs in at home
// and lands.
func TestALearnerReadsAPageOfAnApplicationInABrowser(t *testing.T) {
	ctx := browser(t)
	a := newApplication(t, "jwt\n    bounce: choose")
	login := chromedp.Steps(
		chromedp.WaitVisible(chromedp.CSS("#username")),
		chromedp.SetValue(chromedp.CSS("#username"), "ada"),
		chromedp.SetValue(chromedp.CSS("#password"), "pw"),
		chromedp.Click(chromedp.CSS("#loginbtn")),
	)
	at, text := arrive(t, ctx, "p3", chromedp.Navigate(a.forum+"/notes/1#p3"), chromedp.Click(chromedp.CSS(`button[value="`+a.homes[0]+`"]`)), login)
	if !strings.HasPrefix(at, a.forum+"/notes/1") || !strings.Contains(text, "Logged in as "+a.account(0, "ada")) {
		t.Errorf("at %s:\n%s", at, text)
	}
	err := chromedp.Do(ctx, chromedp.Navigate(a.forum+"/"), chromedp.Click(chromedp.CSS("button")), chromedp.WaitVisible(chromedp.CSS("button.main")),
		chromedp.Click(chromedp.CSS("button.main")), chromedp.WaitVisible(chromedp.CSS(`.logininfo a[href*="/login/index.php"]`)))
	if err != nil {
		t.Fatal(err)
	}
	if at, err := chromedp.Run(ctx, chromedp.Location()); err != nil || at != a.homes[0]+"/" {
		t.Errorf("the logout ends on %s, %v", at, err)
	}
	a.wait()
	for page, want := range map[string]string{a.forum + "/": "Nobody is logged in", a.homes[0] + "/my/": "Log in"} {
		if err := chromedp.Do(ctx, chromedp.Navigate(page)); err != nil {
			t.Fatal(err)
		}
		if text, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS("body"))); err != nil || !strings.Contains(text, want) {
			t.Errorf("%s, %v:\n%s", page, err, text)
		}
	}
}
