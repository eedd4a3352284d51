package moodletest

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
)

// federation is a home and a forum that know each other.
type federation struct {
	home    *Home
	forum   *Forum
	journey *Journey
	clock   *clock
}

func newFederation(t *testing.T) *federation {
	t.Helper()
	fed := &federation{journey: &Journey{}, clock: &clock{now: time.Now()}}
	homeHandler, forumHandler := &late{}, &late{}
	homeServer, forumServer := httptest.NewServer(homeHandler), httptest.NewServer(forumHandler)
	t.Cleanup(homeServer.Close)
	t.Cleanup(forumServer.Close)
	forumRoot := mustWwwroot(t, forumServer.URL)
	homeRoot := mustWwwroot(t, strings.Replace(homeServer.URL, "127.0.0.1", "localhost", 1))
	newKey := func(w gateway.Wwwroot) *mnet.Key {
		key, err := mnet.NewKey(w, time.Now(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	var err error
	if fed.home, err = NewHome(HomeOptions{
		Wwwroot: homeRoot, Title: "Home", CookieSuffix: "home", Users: []User{learner()}, Key: newKey(homeRoot),
		Peers: []*gateway.Peer{{Wwwroot: forumRoot, Name: "Forum"}}, Now: fed.clock.read,
	}); err != nil {
		t.Fatal(err)
	}
	if fed.forum, err = NewForum(ForumOptions{
		Wwwroot: forumRoot, Title: "Forum", CookieSuffix: "forum", Key: newKey(forumRoot), Now: fed.clock.read,
		Homes: []*gateway.Peer{{Wwwroot: homeRoot, Name: "Home"}}, Discussions: SampleDiscussions(time.Now()),
		Redirects: fed.journey.Redirects,
	}); err != nil {
		t.Fatal(err)
	}
	homeHandler.Handler = fed.journey.Watch("home", fed.home)
	forumHandler.Handler = fed.journey.Watch("the forum", fed.forum)
	return fed
}

func (fed *federation) jump(wantsurl string) string {
	return "/auth/mnet/jump.php?hostwwwroot=" + url.QueryEscape(fed.forum.wwwroot.String()) + "&wantsurl=" + url.QueryEscape(wantsurl)
}

func TestALearnerGetsFromTheMailToThePost(t *testing.T) {
	fed := newFederation(t)
	b := newBrowser(t, fed.home.wwwroot)

	// The stock way of an anonymous learner: 5 redirects, 7 requests.
	a := b.get(fed.jump(SampleDeepLink))
	b.want(a, 303, "/login/index.php")
	a = b.submitLogin("learner1", "secret")
	b.want(a, 303, "/login/index.php?testsession=3")
	a = b.get(a.location)
	b.want(a, 303, "/auth/mnet/jump.php?hostwwwroot=")
	a = b.get(a.location)
	landing := fed.forum.url("/auth/mnet/land.php?token=")
	b.want(a, 303, landing)
	if want := "&idp=" + fed.home.url("") + "&wantsurl=%2Fmod%2Fforum%2Fdiscuss.php%3Fd%3D1%23p3"; !strings.HasSuffix(a.location, want) {
		t.Errorf("landing %s, want …%s", a.location, want)
	}
	landed := a.location
	a = b.get(a.location)
	b.want(a, 303, fed.forum.url(SampleDeepLink))
	page := b.get(a.location)
	b.want(page, 200, "")
	for _, want := range []string{"learner1", "Lena Lerner", "from Home", `id="p3"`, "4 redirects: 3 from home, 1 from the forum."} {
		if !strings.Contains(page.body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	u, ok := fed.forum.users.byName("learner1", 3)
	if !ok || u.City != "Berlin" || u.Auth != "mnet" {
		t.Errorf("account at the forum: %+v", u)
	}

	// Logged in: two redirects; and the token is still good, as in stock Moodle.
	a = b.get(fed.jump("/mod/forum/discuss.php?d=1"))
	b.want(a, 303, landing)
	page = b.get(b.get(a.location).location)
	if !strings.Contains(page.body, "2 redirects: 1 from home, 1 from the forum.") {
		t.Errorf("the second jump: %s", page.body)
	}
	b.want(b.get(a.location), 303, fed.forum.url("/mod/forum/discuss.php?d=1"))
	if got, _ := fed.forum.users.find(func(u *User) bool { return u.ID == 4 }); got.ID != 0 {
		t.Errorf("a second account: %+v", got)
	}
	if landed == a.location {
		t.Error("two jumps with one token")
	}
	// The older token was overwritten: one row per user, host and browser.
	if a = b.get(landed); a.status != 404 || !strings.Contains(a.body, "ERROR 1: Authorisation failed: the mnet session does not exist.") {
		t.Errorf("an overwritten token: %d %s", a.status, a.body)
	}
}

func TestLandingsThatFailSayWhy(t *testing.T) {
	fed := newFederation(t)
	b := newBrowser(t, fed.home.wwwroot)
	b.login("learner1", "secret")
	good := b.get(fed.jump("/")).location
	at := func(change func(url.Values)) string {
		u, _ := url.Parse(good)
		q := u.Query()
		change(q)
		u.RawQuery = q.Encode()
		return u.String()
	}
	tests := map[string]struct{ target, want string }{
		"unknown home":     {at(func(q url.Values) { q.Set("idp", "http://evil.test") }), "You do not have permission to begin a remote session."},
		"no token":         {at(func(q url.Values) { q.Del("token") }), "A required parameter (token) was missing"},
		"no wantsurl":      {at(func(q url.Values) { q.Del("wantsurl") }), "A required parameter (wantsurl) was missing"},
		"a token of nones": {at(func(q url.Values) { q.Set("token", "x") }), "ERROR 1: Authorisation failed: the mnet session does not exist."},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if a := b.get(tt.target); a.status != 404 || !strings.Contains(a.body, tt.want) {
				t.Errorf("got %d %s", a.status, a.body)
			}
		})
	}
	t.Run("an expired token", func(t *testing.T) {
		fed.clock.add(31 * time.Second)
		if a := b.get(good); a.status != 404 || !strings.Contains(a.body, "ERROR 2: Authorisation failed: the mnet session has timed out.") {
			t.Errorf("got %d %s", a.status, a.body)
		}
	})
}

func TestTheJumpFindsItsHostAsMoodleDoes(t *testing.T) {
	fed := newFederation(t)
	b := newBrowser(t, fed.home.wwwroot)
	b.login("learner1", "secret")
	forum := fed.forum.wwwroot.String()
	for name, query := range map[string]string{
		"as it is": "hostwwwroot=" + forum, "upper case": "hostwwwroot=" + strings.ToUpper(forum),
		"trailing slash": "hostwwwroot=" + forum + "/", "no scheme": "hostwwwroot=" + fed.forum.wwwroot.Host(), "id": "hostid=3",
	} {
		t.Run(name, func(t *testing.T) {
			b.want(b.get("/auth/mnet/jump.php?"+query), 303, forum+"/auth/mnet/land.php?token=")
		})
	}
	for name, query := range map[string]string{"unknown": "hostwwwroot=http://evil.test", "unknown id": "hostid=9", "none": ""} {
		t.Run(name, func(t *testing.T) {
			if a := b.get("/auth/mnet/jump.php?" + query); a.status != 404 || !strings.Contains(a.body, "This server is not configured for remote login.") {
				t.Errorf("got %d", a.status)
			}
		})
	}
}

func TestAnAnonymousReaderIsShownTheHomes(t *testing.T) {
	fed := newFederation(t)
	b := newBrowser(t, fed.forum.wwwroot)
	b.want(b.get("/mod/forum/discuss.php?d=1&parent=2"), 303, "/login/index.php")
	page := b.get("/login/index.php")
	want := strings.ReplaceAll(fed.home.url("/auth/mnet/jump.php?hostwwwroot=")+url.QueryEscape(fed.forum.url(""))+
		"&wantsurl=%2Fmod%2Fforum%2Fdiscuss.php%3Fd%3D1%26parent%3D2&remoteurl=1", "&", "&amp;")
	if !strings.Contains(page.body, want) {
		t.Errorf("no link %s in %s", want, page.body)
	}
}

func TestALogoutAtOneSiteEndsTheOther(t *testing.T) {
	for _, where := range []string{"home", "forum"} {
		t.Run("at the "+where, func(t *testing.T) {
			fed := newFederation(t)
			b := newBrowser(t, fed.home.wwwroot)
			b.login("learner1", "secret")
			page := b.get(b.get(b.get(fed.jump("/my/")).location).location)
			b.want(page, 200, "")
			site := fed.home.wwwroot
			if where == "forum" {
				site = fed.forum.wwwroot
			} else {
				page = b.get("/my/")
			}
			a := b.get(site.String() + "/login/logout.php?sesskey=" + field(t, sesskeyField, page.body))
			b.want(a, 303, fed.home.url("/"))
			b.want(b.get(fed.home.url("/my/")), 303, fed.home.url("/login/index.php"))
			b.want(b.get(fed.forum.url("/my/")), 303, fed.forum.url("/login/index.php"))
		})
	}
}

func TestAForumTakesANewKeyOfItsHomeFromTheFault(t *testing.T) {
	fed := newFederation(t)
	b := newBrowser(t, fed.home.wwwroot)
	b.login("learner1", "secret")
	b.want(b.get(b.get(fed.jump("/my/")).location), 303, fed.forum.url("/my/"))
	key, err := mnet.NewKey(fed.home.wwwroot, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	fed.home.ArchiveKey(key)
	b.want(b.get(b.get(fed.jump("/my/")).location), 303, fed.forum.url("/my/"))
}

func TestAWantsurlIsCleanedAsBadlyAsInMoodle(t *testing.T) {
	m := &mnetSite{site: &site{wwwroot: mustWwwroot(t, "http://sp2.test")}}
	for in, want := range map[string]string{
		"":                       "",
		"/mod/forum/?d=1#p2":     "/mod/forum/?d=1#p2",
		"evil.test/":             "evil.test/",
		"http://evil.test/":      "",
		"javascript:alert(1)":    "",
		"http://sp2.test/my/":    "http://sp2.test/my/",
		"//evil.test/":           "//evil.test/",
		"http://sp2.test.evil/x": "",
	} {
		if got := m.cleanLocalURL(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestAUserWithoutAMailAddressCannotLand(t *testing.T) {
	fed := newFederation(t)
	fed.home.Update("learner1", func(u *User) { u.Email = "" })
	b := newBrowser(t, fed.home.wwwroot)
	b.login("learner1", "secret")
	if a := b.get(b.get(fed.jump("/")).location); a.status != 404 || !strings.Contains(a.body, "not giving us enough information") {
		t.Errorf("got %d %s", a.status, a.body)
	}
}

func TestJourneysCountOnlyWhatLeadsToAPage(t *testing.T) {
	j := &Journey{}
	serve := func(status int, header ...string) {
		h := j.Watch("home", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			if status >= 300 && status < 400 {
				w.Header().Set("Location", "/x")
			}
			w.WriteHeader(status)
		}))
		r := httptest.NewRequestWithContext(context.Background(), "GET", "/", nil)
		for i := 0; i+1 < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	said := func(want string) {
		t.Helper()
		if got := j.Redirects(httptest.NewRequest("GET", "/", nil)); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	said("No redirects: you came straight to this page.")
	serve(303)
	said("1 redirect: 1 from home.")
	serve(302, "Sec-Fetch-Dest", "image")
	serve(303, "User-Agent", "another")
	serve(304, "Sec-Fetch-Dest", "document")
	said("2 redirects: 2 from home.")
	serve(200, "Sec-Fetch-Dest", "iframe")
	serve(404, "Sec-Fetch-Dest", "image")
	serve(307, "Sec-Fetch-Dest", "document")
	said("3 redirects: 3 from home.")
	serve(403)
	said("No redirects: you came straight to this page.")
	for i := range maxTravellers + 10 {
		serve(303, "User-Agent", strings.Repeat("x", i%500)+string(rune('a'+i/500)))
	}
	if len(j.clients) > maxTravellers {
		t.Errorf("%d browsers are remembered", len(j.clients))
	}
}
