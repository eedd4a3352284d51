package main

import (
	"context"
	"fmt"
	"html"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"jumpgate/gateway"
	"jumpgate/gateway/config"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/moodletest"
)

// crossroads are a forum's stock Moodle, with or without a gateway in front,
// and two stock homes whose learners land there.
type crossroads struct {
	t      *testing.T
	forum  string
	homes  [2]string
	log    *testLog
	behind *httptest.Server
	gate   *instance
	site   *config.Site // as configured
}

// newCrossroads starts them. identity and site are YAML of the forum's gateway,
// in which HOME is the first home; without identity there is none.
func newCrossroads(t *testing.T, identity, site string, sessions moodletest.Sessions) *crossroads {
	t.Helper()
	front, behind := unstarted(t), unstarted(t)
	doors := [2]*httptest.Server{unstarted(t), unstarted(t)}
	c := &crossroads{t: t, log: &testLog{t: t}, forum: "http://127.0.0.1:" + port(front), behind: behind}
	forum := wwwroot(t, c.forum)
	key := newKey(t, forum)
	var homes []*gateway.Peer
	for i, door := range doors {
		c.homes[i] = "http://localhost:" + port(door)
		home := wwwroot(t, c.homes[i])
		homeKey := newKey(t, home)
		homes = append(homes, &gateway.Peer{Wwwroot: home, Application: gateway.Moodle, Certificate: homeKey.Certificate()})
		moodle, err := moodletest.NewHome(moodletest.HomeOptions{
			Wwwroot: home, CookieSuffix: fmt.Sprint("home", i), Key: homeKey,
			Peers: []*gateway.Peer{{Wwwroot: forum, Certificate: key.Certificate()}},
			Users: []moodletest.User{moodletest.SampleUser("pw"), {Password: "pw", User: gateway.User{
				Username: "bob", FirstName: "Bob", LastName: "Builder", Email: "bob@home.test"}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		door.Config.Handler = moodle
		door.Start()
	}
	moodle, err := moodletest.NewForum(moodletest.ForumOptions{
		Wwwroot: forum, Key: key, Homes: homes, Sessions: sessions, Discussions: moodletest.SampleDiscussions(time.Now()),
		Users: []moodletest.User{{Password: "pw", User: gateway.User{
			Username: "grace", FirstName: "Grace", LastName: "Hopper", Email: "grace@forum.test"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	behind.Config.Handler, front.Config.Handler = moodle, moodle
	if identity != "" {
		c.gate = c.gateway(identity, strings.ReplaceAll(site, "HOME", c.homes[0]), key, homes)
		front.Config.Handler = c.gate.handler
	}
	behind.Start()
	front.Start()
	return c
}

// gateway starts that of the forum.
func (c *crossroads) gateway(identity, site string, key *mnet.Key, homes []*gateway.Peer) *instance {
	c.t.Helper()
	dir := c.t.TempDir()
	writeFile(c.t, filepath.Join(dir, "forum.key"), string(key.PEM()))
	peers := ""
	for i, home := range homes {
		name := fmt.Sprintf("home%d.pem", i)
		writeFile(c.t, filepath.Join(dir, name), home.Certificate.PEM())
		peers += fmt.Sprintf("      - {wwwroot: %q, certificate: %s, publish: [sso_sp], subscribe: [sso_idp]}\n", home.Wwwroot, name)
	}
	file := filepath.Join(dir, "jumpgate.yaml")
	writeFile(c.t, file, fmt.Sprintf(`
admin: {listen: "off"}
redis: embedded
state_dir: state
sites:
  - wwwroot: %s
    upstream: http://127.0.0.1:%s
    key: forum.key
    identity: %s
    %s
    peers:
%s`, c.forum, port(c.behind), identity, site, peers))
	loaded, err := config.Load(file)
	if err != nil {
		c.t.Fatal(err)
	}
	g, err := newInstance(context.Background(), loaded, slog.New(slog.NewTextHandler(c.log, nil)))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(g.close)
	c.site = loaded.Sites[0]
	return g
}

// landing is an address that a user of a home takes to the forum, minted in a
// browser of their own.
func (c *crossroads) landing(home int, username string) string {
	c.t.Helper()
	v := newVisitor(c.t)
	v.follow(c.homes[home]+"/login/index.php").login(username, "pw")
	v.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	r, err := http.NewRequest("GET", c.homes[home]+"/auth/mnet/jump.php?hostwwwroot="+url.QueryEscape(c.forum)+
		"&wantsurl="+url.QueryEscape(moodletest.SampleDeepLink), nil)
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("User-Agent", "Mozilla/5.0 (visitor)")
	res, err := v.client.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	res.Body.Close()
	to := res.Header.Get("Location")
	if !strings.HasPrefix(to, c.forum+"/auth/mnet/land.php?token=") {
		c.t.Fatalf("the jump led to %q", to)
	}
	return to
}

// lands lets a visitor land.
func (c *crossroads) lands(home int, username string) *visitor {
	c.t.Helper()
	return newVisitor(c.t).follow(c.landing(home, username)).isAt(c, username)
}

var loggedInAs = regexp.MustCompile(`Logged in as ([^\s:]+)`)

// isAt fails the test unless the forum shows the discussion to a user.
func (v *visitor) isAt(c *crossroads, username string) *visitor {
	v.t.Helper()
	v.follow(c.forum + moodletest.SampleDeepLink)
	who := loggedInAs.FindStringSubmatch(tags.ReplaceAllString(v.page, ""))
	if username == "" && who == nil {
		return v
	}
	if who == nil || who[1] != username {
		v.t.Fatalf("at %s the forum shows %q, want %q:\n%s", v.at, who, username, v.page)
	}
	return v
}

// as follows a link with some headers.
func (v *visitor) as(link string, headers ...string) *visitor {
	v.t.Helper()
	r, err := http.NewRequest("GET", link, nil)
	for i := 0; err == nil && i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return v.do(r, err)
}

var landingField = regexp.MustCompile(`name="landing" value="([^"]+)"`)

// ticket returns what the page that asks holds.
func (v *visitor) ticket() string {
	v.t.Helper()
	found := landingField.FindStringSubmatch(v.page)
	if found == nil {
		v.t.Fatalf("at %s nobody asks:\n%s", v.at, v.page)
	}
	return html.UnescapeString(found[1])
}

// decides sends an answer, from a page of some site.
func (v *visitor) decides(c *crossroads, ticket, answer, from string) *visitor {
	v.t.Helper()
	form := url.Values{"landing": {ticket}, "answer": {answer}}
	r, err := http.NewRequest("POST", c.forum+"/jumpgate/switch", strings.NewReader(form.Encode()))
	if err == nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", from)
	}
	return v.do(r, err)
}

// session returns the visitor's session at the forum.
func (v *visitor) session(c *crossroads) string {
	at, err := url.Parse(c.forum)
	if err != nil {
		v.t.Fatal(err)
	}
	for _, cookie := range v.client.Jar.Cookies(at) {
		if cookie.Name == "MoodleSession" {
			return cookie.Value
		}
	}
	return ""
}

func TestAStockForumReplacesWhoIsLoggedIn(t *testing.T) {
	c := newCrossroads(t, "", "", moodletest.Sessions{})
	v := c.lands(0, "ada")
	for _, from := range []int{0, 1} { // another account of the same home, and one of another
		v.follow(c.landing(from, "bob")).isAt(c, "bob")
	}
	v.as(c.landing(0, "ada"), "Sec-Fetch-Dest", "image", "Sec-Fetch-Site", "cross-site").isAt(c, "ada")
	r, err := http.NewRequest("POST", c.landing(1, "bob"), nil)
	v.do(r, err).isAt(c, "bob")
}

// eachForum runs a test with each way for the forum's gateway to learn who is
// logged in.
func eachForum(t *testing.T, test func(*testing.T, *crossroads)) {
	for name, start := range map[string]func(t *testing.T) *crossroads{
		"moodle-redis": func(t *testing.T) *crossroads {
			r := startRedis(t)
			return newCrossroads(t, "{source: moodle-redis, prefix: mdl_, mfa: false, redis: "+r.url()+"}", "", moodletest.Sessions{Redis: r.Client, Prefix: "mdl_"})
		},
		"moodle-web": func(t *testing.T) *crossroads {
			return newCrossroads(t, "{source: moodle-web}", "", moodletest.Sessions{})
		},
		"guard mode": func(t *testing.T) *crossroads {
			return newCrossroads(t, "{source: moodle-web}", "issuer: moodle", moodletest.Sessions{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, start(t))
		})
	}
}

func TestALandingOfAnotherAccountAsks(t *testing.T) {
	eachForum(t, func(t *testing.T, c *crossroads) {
		for from := range c.homes {
			v := c.lands(0, "ada")
			before := v.session(c)
			v.follow(c.landing(from, "bob"))
			home := strings.TrimPrefix(c.homes[from], "http://")
			for _, want := range []string{"You are logged in here as <bdi>Ada Lovelace</bdi>", "<bdi>Bob Builder</bdi>", "an account of " + home} {
				if !strings.Contains(v.page, want) {
					t.Fatalf("the page lacks %q:\n%s", want, v.page)
				}
			}
			if v.session(c) != before {
				t.Fatal("the browser has another session before it was asked")
			}
			ticket := v.ticket()
			v.isAt(c, "ada").decides(c, ticket, "stay", "same-origin")
			if want := c.forum + moodletest.SampleDeepLink; v.at.String() != want || v.session(c) != before {
				t.Fatalf("who stays ends on %s, want %s", v.at, want)
			}
			v.isAt(c, "ada").decides(c, ticket, "switch", "same-origin")
			if !strings.Contains(v.page, "confirm-over") {
				t.Errorf("an answer can be given twice:\n%s", v.page)
			}
			v.isAt(c, "ada")

			v.follow(c.landing(from, "bob"))
			v.decides(c, v.ticket(), "switch", "same-origin")
			if want := c.forum + moodletest.SampleDeepLink; v.at.String() != want || v.session(c) == before {
				t.Fatalf("who switches ends on %s, want %s", v.at, want)
			}
			v.isAt(c, "bob")
		}
		for _, want := range []string{"msg=landing", "outcome=landed", "outcome=asked", "outcome=stayed", "outcome=switched", "user=ada newcomer=bob"} {
			if !strings.Contains(c.log.String(), want) {
				t.Errorf("the log lacks %q", want)
			}
		}
	})
}

func TestALandingThatReplacesNobodyAsksNothing(t *testing.T) {
	eachForum(t, func(t *testing.T, c *crossroads) {
		arrives := func(v *visitor, username string) {
			t.Helper()
			if v.follow(c.landing(0, username)); v.at.String() != c.forum+moodletest.SampleDeepLink {
				t.Fatalf("%s ends on %s:\n%s", username, v.at, v.page)
			}
			v.isAt(c, username)
		}
		v := newVisitor(t)
		arrives(v, "ada") // without a cookie
		arrives(v, "ada") // once more, for another page
		v.logout(c.forum)
		arrives(v, "bob") // with the cookie of a session that is nobody's
		guest := newVisitor(t)
		guest.follow(c.forum+"/login/index.php").login("guest", "guest")
		arrives(guest, "ada")
	})
}

func TestALandingAsksAnyoneWhoIsLoggedIn(t *testing.T) {
	eachForum(t, func(t *testing.T, c *crossroads) {
		v := newVisitor(t)
		v.follow(c.forum+"/login/index.php").login("grace", "pw") // an account of the forum itself
		v.follow(c.landing(1, "ada"))
		if !strings.Contains(v.page, "as <bdi>Grace Hopper</bdi>") {
			t.Errorf("the page:\n%s", v.page)
		}
		v.ticket()
		v.isAt(c, "grace")

		v = c.lands(0, "ada") // two accounts of one name
		v.follow(c.landing(1, "ada"))
		if !strings.Contains(v.page, "another account, even if the names are alike") {
			t.Errorf("the page:\n%s", v.page)
		}
		v.decides(c, v.ticket(), "switch", "same-origin").isAt(c, "ada")
	})
}

func TestTricksDoNotReplaceWhoIsLoggedIn(t *testing.T) {
	c := newCrossroads(t, "{source: moodle-web}", "", moodletest.Sessions{})
	v := c.lands(0, "ada")
	before := v.session(c)
	unmoved := func(what, page string) {
		t.Helper()
		if page != "" && !strings.Contains(v.page, page) {
			t.Errorf("%s: the page lacks %q:\n%s", what, page, v.page)
		}
		if v.isAt(c, "ada"); v.session(c) != before {
			t.Errorf("%s: the session is another", what)
		}
	}
	for what, headers := range map[string][]string{
		"a picture":  {"Sec-Fetch-Dest", "image", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Site", "cross-site"},
		"a frame":    {"Sec-Fetch-Dest", "iframe", "Sec-Fetch-Mode", "navigate"},
		"a script":   {"Sec-Fetch-Dest", "empty", "Sec-Fetch-Mode", "no-cors"},
		"a prefetch": {"Sec-Purpose", "prefetch;prerender"},
		"an XHR":     {"X-Requested-With", "XMLHttpRequest"},
	} {
		v.as(c.landing(1, "bob"), headers...)
		unmoved(what, "not-navigation")
		if other := newVisitor(t).as(c.landing(1, "bob"), headers...); !strings.Contains(other.page, "not-navigation") || other.session(c) != "" {
			t.Errorf("%s logs somebody in who was not:\n%s", what, other.page)
		}
	}
	for _, method := range []string{"POST", "PUT", "HEAD"} {
		r, err := http.NewRequest(method, c.landing(1, "bob"), nil)
		v.do(r, err)
		unmoved(method, "")
	}
	token := func() string { return c.landing(1, "bob") }
	for what, link := range map[string]string{
		"a path with more behind it": strings.Replace(token(), "land.php", "land.php/x", 1),
		"two slashes":                strings.Replace(token(), "/mnet/", "//mnet/", 1),
		"capitals":                   strings.Replace(token(), "/mnet/", "/MNET/", 1),
		"two homes":                  token() + "&idp=https://evil.test",
		"an unknown home":            strings.Replace(token(), "idp="+c.homes[1], "idp=https://evil.test", 1),
		"no home":                    strings.Replace(token(), "idp=", "from=", 1),
		"a foreign page":             token()[:strings.Index(token(), "&wantsurl")] + "&wantsurl=//evil.test",
		"a host that grows":          token()[:strings.Index(token(), "&wantsurl")] + "&wantsurl=.evil.test/",
		"a token of nobody's":        strings.Replace(token(), "token=", "token=x", 1),
		"no token":                   strings.Replace(token(), "token=", "x=", 1),
	} {
		v.follow(link)
		if !strings.HasPrefix(v.at.String(), c.forum+"/") {
			t.Errorf("%s leads to %s", what, v.at)
		}
		unmoved(what, "")
	}

	ticket := v.follow(token()).ticket()
	v.decides(c, ticket, "switch", "cross-site")
	unmoved("another site's form", "form-foreign")
	v.decides(c, ticket, "", "same-origin")
	unmoved("another answer", "confirm-over")
	ticket = v.follow(token()).ticket()
	v.decides(c, ticket[:len(ticket)/2], "switch", "same-origin")
	unmoved("half a ticket", "confirm-over")

	eve := c.lands(1, "bob") // who sends her ticket, and who takes somebody else's
	theirs := eve.follow(c.landing(0, "bob")).ticket()
	v.decides(c, theirs, "switch", "same-origin")
	unmoved("a ticket of another browser", "confirm-over")
	eve.decides(c, ticket, "switch", "same-origin").isAt(c, "bob")
	stranger := newVisitor(t)
	if stranger.decides(c, ticket, "switch", "same-origin"); stranger.session(c) != "" || !strings.Contains(stranger.page, "confirm-over") {
		t.Errorf("a browser without a session:\n%s", stranger.page)
	}
	ticket = v.follow(token()).ticket()
	v.isAt(c, "ada").logout(c.forum) // meanwhile, in another tab
	if v.decides(c, ticket, "switch", "same-origin"); !strings.Contains(v.page, "confirm-over") {
		t.Errorf("after a logout:\n%s", v.page)
	}
	v.isAt(c, "")
}

// TestThePageThatAsksWhoShallBeLoggedInInABrowser shows that a browser lets the
// form lead to us, and from here to the page, or to the home alone.
func TestThePageThatAsksWhoShallBeLoggedInInABrowser(t *testing.T) {
	ctx := browser(t, chromedp.UserAgent("Mozilla/5.0 (visitor)"))
	c := newCrossroads(t, "{source: moodle-web}", "", moodletest.Sessions{})
	press := func(answer string) chromedp.Action[chromedp.Void] {
		return chromedp.Click(chromedp.CSS(`button[value="` + answer + `"]`))
	}
	for _, visit := range []struct {
		name         string
		home         int
		link, answer string
		want         string
	}{
		{"nobody is logged in", 0, "ada", "", "ada"},
		{"who stays", 1, "bob", "stay", "ada"},
		{"who switches", 1, "bob", "switch", "bob"},
	} {
		steps := []chromedp.Action[chromedp.Void]{chromedp.Navigate(c.landing(visit.home, visit.link))}
		if visit.answer != "" {
			steps = append(steps, press(visit.answer))
		}
		at, text := arrive(t, ctx, "p3", steps...)
		if at != c.forum+moodletest.SampleDeepLink || !strings.Contains(text, "Logged in as "+visit.want) {
			t.Errorf("%s: at %s the page says\n%s", visit.name, at, text)
		}
	}
	err := chromedp.Do(ctx, chromedp.Navigate(c.landing(0, "ada")+"&remoteurl=1"), press("switch"), chromedp.WaitVisible(chromedp.CSS(".logininfo")))
	at, locationErr := chromedp.Run(ctx, chromedp.Location())
	if err != nil || locationErr != nil || !strings.HasPrefix(at, c.homes[0]+"/") {
		t.Errorf("a page of the home: at %s, %v, %v", at, err, locationErr)
	}
}
