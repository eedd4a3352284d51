package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"jumpgate/gateway"
	"jumpgate/gateway/config"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/moodletest"
)

// headerForum is a forum whose Moodle has no MNet, unless the landing is moodle, behind
// a gateway, and two homes whose learners land there: the first one behind a gateway of
// its own, the other a stock Moodle.
type headerForum struct {
	*crossroads
	moodle  *moodletest.Forum
	gateway *instance

	stock *moodletest.Home // the second home

	homeGateway *instance // of the first home
	homeKeys    [2]*mnet.Key
	toHome      atomic.Pointer[func(http.Handler) http.Handler] // changes what reaches it

	through atomic.Pointer[func(http.Handler) http.Handler] // changes what reaches the forum's Moodle

	redis string // where the gateways keep their state
	file  string // the forum's configuration
}

// headerSetting says what a headerForum is made of; zero fields are the usual.
type headerSetting struct {
	identity string // YAML of the forum's
	landing  string // likewise
	home     string // YAML of further fields of the first home, as a peer of the forum
	grants   string // YAML of what the forum grants the homes
	alone    bool   // the second home is no peer
	third    bool   // and a forum to the first one
	sessions moodletest.Sessions
	token    string                            // of the forum's web services
	redis    string                            // where the gateways keep their state; empty: embedded
	oauth2   []func(*moodletest.OAuth2Service) // changes of the service by which they are let in with oauth2
	users    func(h *headerForum) []moodletest.User
	people   []moodletest.User // further ones of the homes
}

const webToken = "0123456789abcdef0123456789abcdef"

func newHeaderForum(t *testing.T, s headerSetting) *headerForum {
	t.Helper()
	front, behind := unstarted(t), unstarted(t)
	homes := [2]*httptest.Server{unstarted(t), unstarted(t)}
	homeBehind := unstarted(t)
	h := &headerForum{crossroads: &crossroads{t: t, log: &testLog{t: t}, forum: "http://127.0.0.1:" + port(front), behind: behind}, redis: cmp.Or(s.redis, "embedded")}
	dir := t.TempDir()
	key := newKey(t, wwwroot(t, h.forum))
	writeFile(t, filepath.Join(dir, "forum.key"), string(key.PEM()))
	writeFile(t, filepath.Join(dir, "forum.pem"), key.Certificate().PEM())
	writeFile(t, filepath.Join(dir, "token"), webToken)
	writeFile(t, filepath.Join(dir, "client-secret"), clientSecret)
	people := []moodletest.User{moodletest.SampleUser("pw")}
	for _, u := range []gateway.User{
		{Username: "bob", FirstName: "Bob", LastName: "Builder", Email: "bob@home.test", City: "Zürich", Country: "CH", Lang: "de_utf8"},
		{Username: "müller", FirstName: "Jürgen;", LastName: "Müller; von der Höhe", Email: "juergen@home.test", City: "東京"},
		{Username: "grace", FirstName: "Grace", LastName: "Hopper", Email: "grace@home.test"},
	} {
		people = append(people, moodletest.User{User: u, Password: "pw"})
	}
	people = append(people, s.people...)
	var peers string
	for i, door := range homes {
		h.homes[i] = "http://localhost:" + port(door)
		home := wwwroot(t, h.homes[i])
		homeKey := newKey(t, home)
		h.homeKeys[i] = homeKey
		name := fmt.Sprint("home", i)
		writeFile(t, filepath.Join(dir, name+".key"), string(homeKey.PEM()))
		writeFile(t, filepath.Join(dir, name+".pem"), homeKey.Certificate().PEM())
		more := ""
		if i == 0 {
			more = s.home
		}
		if i == 0 || !s.alone {
			peers += fmt.Sprintf("      - {wwwroot: %q, certificate: %s.pem, %s%s}\n", home, name, cmp.Or(s.grants, "publish: [sso_sp], subscribe: [sso_idp]"), more)
		}
		options := moodletest.HomeOptions{Wwwroot: home, CookieSuffix: name, Users: people}
		if i == 1 {
			options.Key, options.Peers = homeKey, []*gateway.Peer{{Wwwroot: wwwroot(t, h.forum), Certificate: key.Certificate()}}
		}
		moodle, err := moodletest.NewHome(options)
		if err != nil {
			t.Fatal(err)
		}
		door.Config.Handler, h.stock = moodle, moodle
	}
	homeBehind.Config.Handler = homes[0].Config.Handler
	toThird := ""
	if s.third {
		toThird = fmt.Sprintf("      - {wwwroot: %q, certificate: home1.pem}\n", h.homes[1])
	}
	h.homeGateway = h.start(dir, h.homes[0], port(homeBehind), "home0.key", "{source: moodle-web, cookie: MoodleSessionhome0}", "",
		fmt.Sprintf("      - {wwwroot: %q, certificate: forum.pem}\n", h.forum)+toThird)
	homes[0].Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if through := h.toHome.Load(); through != nil {
			(*through)(h.homeGateway.handler).ServeHTTP(w, r)
			return
		}
		h.homeGateway.handler.ServeHTTP(w, r)
	})
	if s.identity == "" {
		s.identity = "{source: moodle-web}"
	}
	if s.landing == "" {
		s.landing = "header"
	}
	h.gateway = h.start(dir, h.forum, port(behind), "forum.key", s.identity, "landing: "+strings.ReplaceAll(s.landing, "HOME", h.homes[0]), peers)
	front.Config.Handler = h.gateway.handler
	options := moodletest.ForumOptions{
		Wwwroot: wwwroot(t, h.forum), Token: s.token, Sessions: s.sessions, Discussions: moodletest.SampleDiscussions(time.Now()),
	}
	switch h.site.Landing.By {
	default:
		options.Shibboleth = true
	case config.LandingOAuth2:
		options.OAuth2 = &moodletest.OAuth2Service{ID: 3, BaseURL: h.forum, ClientID: "moodle", ClientSecret: clientSecret}
		for _, change := range s.oauth2 {
			change(options.OAuth2)
		}
	case config.LandingMoodle:
		options.Key = key
		for i, home := range h.homes {
			options.Homes = append(options.Homes, &gateway.Peer{Wwwroot: wwwroot(t, home), Application: gateway.Moodle, Certificate: h.homeKeys[i].Certificate()})
		}
	}
	if s.users != nil {
		options.Users = s.users(h)
	}
	var err error
	if h.moodle, err = moodletest.NewForum(options); err != nil {
		t.Fatal(err)
	}
	behind.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if through := h.through.Load(); through != nil {
			(*through)(h.moodle).ServeHTTP(w, r)
			return
		}
		h.moodle.ServeHTTP(w, r)
	})
	for _, server := range []*httptest.Server{front, behind, homes[0], homes[1], homeBehind} {
		server.Start()
	}
	return h
}

// start starts a gateway of one site.
func (h *headerForum) start(dir, site, upstream, key, identity, more, peers string) *instance {
	h.t.Helper()
	file := filepath.Join(dir, key+".yaml")
	h.file = file // the last one is the forum's
	writeFile(h.t, file, fmt.Sprintf(`
admin: {listen: "off"}
redis: %s
state_dir: state-%s
sites:
  - wwwroot: %s
    upstream: http://127.0.0.1:%s
    key: %s
    identity: %s
    %s
    peers:
%s`, h.redis, key, site, upstream, key, identity, more, peers))
	loaded, err := config.Load(file)
	if err != nil {
		h.t.Fatal(err)
	}
	g, err := newInstance(context.Background(), loaded, slog.New(slog.NewTextHandler(h.log, nil)))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(g.close)
	h.site = loaded.Sites[0] // the last one is the forum
	return g
}

// account is what the forum calls a user of a home.
func (h *headerForum) account(home int, username string) string {
	if h.site.Landing.By == config.LandingMoodle {
		return username
	}
	return username + "@" + strings.Replace(strings.TrimPrefix(h.homes[home], "http://"), ":", "_-3a-", 1)
}

// arrives lets a visitor land, in one redirect.
func (h *headerForum) arrives(v *visitor, home int, username string) *visitor {
	h.t.Helper()
	v.follow(h.landing(home, username))
	if want := h.forum + moodletest.SampleDeepLink; v.at.String() != want || len(v.hops) != 1 {
		h.t.Fatalf("%s ends on %s after %q, want %s:\n%s", username, v.at, v.hops, want, v.page)
	}
	return v.isAt(h.crossroads, h.account(home, username))
}

// refused fails the test unless the page that is shown is the one for a rule, and
// nobody is logged in.
func (v *visitor) refused(h *headerForum, rule string) *visitor {
	h.t.Helper()
	if !strings.Contains(v.page, "<dd>"+rule+"</dd>") || v.session(h.crossroads) != "" {
		h.t.Fatalf("at %s, with session %q, the page is not that for %s:\n%s", v.at, v.session(h.crossroads), rule, v.page)
	}
	return v
}

// doors are the landings at a Moodle without MNet, with each identity source. With a
// Redis the forum's Moodle has its sessions in there.
func doors(t *testing.T) map[string]headerSetting {
	t.Helper()
	r := startRedis(t)
	all := map[string]headerSetting{}
	for _, landing := range []string{"header", oauth2Landing} {
		name, _, _ := strings.Cut(strings.TrimPrefix(landing, "{by: "), ",")
		all[name+" with moodle-web"] = headerSetting{landing: landing, token: webToken}
		all[name+" with moodle-redis"] = headerSetting{
			landing: landing, token: webToken,
			identity: "{source: moodle-redis, prefix: mdl_" + name + "_, mfa: false, redis: " + r.url() + "}",
			sessions: moodletest.Sessions{Redis: r.Client, Prefix: "mdl_" + name + "_"},
		}
	}
	return all
}

func TestALearnerLandsWhereThereIsNoMNet(t *testing.T) {
	for name, s := range doors(t) {
		t.Run(name, func(t *testing.T) {
			h := newHeaderForum(t, s)
			jump := h.homes[0] + "/auth/mnet/jump.php?hostwwwroot=" + url.QueryEscape(h.forum) + "&wantsurl=" + url.QueryEscape(moodletest.SampleDeepLink)
			v := newVisitor(t).follow(jump).login("ada", "pw")
			if want := h.forum + moodletest.SampleDeepLink; v.at.String() != want || len(v.hops) != 2 { // to the landing, and to the post
				t.Fatalf("ended on %s after %q, want %s:\n%s", v.at, v.hops, want, v.page)
			}
			v.isAt(h.crossroads, h.account(0, "ada"))
			first := v.session(h.crossroads)
			if v.follow(jump).isAt(h.crossroads, h.account(0, "ada")); v.session(h.crossroads) != first {
				t.Error("who was logged in has another session: what is open in other tabs is lost")
			}
			h.arrives(newVisitor(t), 0, "ada")
			u, _ := h.moodle.User(h.account(0, "ada"))
			sample, auth, number := moodletest.SampleUser(""), "shibboleth", ""
			if h.site.Landing.By == config.LandingOAuth2 {
				auth, number = "oauth2", h.homes[0]+"#ada"
			}
			if u.Auth != auth || u.FirstName != sample.FirstName || u.LastName != sample.LastName || u.Email != sample.Email || u.IDNumber != number {
				t.Errorf("the account is %+v", u)
			}
			at, err := url.Parse(h.forum)
			if err != nil {
				t.Fatal(err)
			}
			remembered := false
			for _, cookie := range v.client.Jar.Cookies(at) {
				remembered = remembered || strings.HasPrefix(cookie.Name, "jumpgate-home-")
			}
			if !remembered {
				t.Error("the home is not remembered")
			}
			for _, want := range []string{"msg=landing", "outcome=landed", "outcome=same", "newcomer=" + h.account(0, "ada")} {
				if !strings.Contains(h.log.String(), want) {
					t.Errorf("the log lacks %q", want)
				}
			}
			for _, secret := range []string{clientSecret, webToken, first} {
				if strings.Contains(h.log.String(), secret) {
					t.Error("a secret is in the log")
				}
			}
		})
	}
}

func TestWhatAnAccountTakesFromItsHome(t *testing.T) {
	h := newHeaderForum(t, headerSetting{})
	for home := range h.homes {
		h.arrives(newVisitor(t), home, "bob")
		if u, _ := h.moodle.User(h.account(home, "bob")); u.City != "Zürich" || u.Country != "CH" || u.Lang != "de" {
			t.Errorf("bob of home %d is %+v", home, u)
		}
		v := newVisitor(t).follow(h.landing(home, "müller"))
		name := h.account(home, "m_-fc-ller")
		v.isAt(h.crossroads, name)
		if u, _ := h.moodle.User(name); u.FirstName != "Jürgen," || u.LastName != "Müller, von der Höhe" || u.City != "東京" {
			t.Errorf("müller of home %d is %+v", home, u)
		}
	}
	h = newHeaderForum(t, headerSetting{home: ", import: [country]"})
	h.arrives(newVisitor(t), 0, "bob")
	if u, _ := h.moodle.User(h.account(0, "bob")); u.City != "" || u.Country != "CH" || u.Lang != "en" {
		t.Errorf("bob is %+v", u)
	}
}

// TestASessionOfSomebodyElseReachesNoBrowser has the Moodle behind log in another
// account than it was told to.
func TestASessionOfSomebodyElseReachesNoBrowser(t *testing.T) {
	h := newHeaderForum(t, headerSetting{})
	h.arrives(newVisitor(t), 0, "bob")
	var begun, ended atomic.Int32
	through := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == "/auth/shibboleth/index.php":
				begun.Add(1)
				r.Header.Set("X-Jumpgate-Username", h.account(0, "bob"))
			case r.URL.Path == "/login/logout.php" && r.Method == http.MethodPost:
				ended.Add(1)
			}
			next.ServeHTTP(w, r)
		})
	}
	h.through.Store(&through)
	newVisitor(t).follow(h.landing(0, "ada")).refused(h, "account-refused")
	if begun.Load() != 1 || ended.Load() != 1 {
		t.Errorf("%d sessions were begun and %d ended", begun.Load(), ended.Load())
	}
	if !strings.Contains(h.log.String(), "moodle has logged in user") {
		t.Error("the log does not say why")
	}
}

func TestATokenLogsInOnce(t *testing.T) {
	h := newHeaderForum(t, headerSetting{})
	for home := range h.homes { // the second one would take it again
		link := h.landing(home, "ada")
		v := newVisitor(t).follow(link).isAt(h.crossroads, h.account(home, "ada"))
		before := v.session(h.crossroads)
		if v.follow(link); v.at.String() != h.forum+moodletest.SampleDeepLink || v.session(h.crossroads) != before {
			t.Errorf("a second click ends on %s", v.at)
		}
		other := newVisitor(t).follow(link).refused(h, "token-used")
		again := h.homes[home] + "/auth/mnet/jump.php?hostwwwroot=" + url.QueryEscape(h.forum)
		if !strings.Contains(other.page, `href="`+again) {
			t.Errorf("the page does not lead to %s:\n%s", again, other.page)
		}
	}
	stolen := newVisitor(t)
	stolen.userAgent = "Mozilla/5.0 (thief)"
	stolen.follow(h.landing(0, "ada")).refused(h, "token-refused")
	for _, test := range []struct{ query, rule string }{
		{"token=" + strings.Repeat("x", 40), "token-refused"},
		{"token=a%20b", "token-malformed"},
		{"token=", "token-malformed"},
	} {
		newVisitor(t).follow(h.forum+"/auth/mnet/land.php?"+test.query+"&wantsurl=/&idp="+url.QueryEscape(h.homes[0])).refused(h, test.rule)
	}
}

func TestALandingByHeaderOfAnotherAccountAsks(t *testing.T) {
	h := newHeaderForum(t, headerSetting{})
	for from := range h.homes {
		v := h.arrives(newVisitor(t), 0, "ada")
		before := v.session(h.crossroads)
		v.follow(h.landing(from, "bob"))
		for _, want := range []string{"You are logged in here as <bdi>Ada Lovelace</bdi>", "<bdi>Bob Builder</bdi>", "an account of " + strings.TrimPrefix(h.homes[from], "http://")} {
			if !strings.Contains(v.page, want) {
				t.Fatalf("the page lacks %q:\n%s", want, v.page)
			}
		}
		ticket := v.ticket()
		v.isAt(h.crossroads, h.account(0, "ada")).decides(h.crossroads, ticket, "stay", "same-origin")
		if v.at.String() != h.forum+moodletest.SampleDeepLink || v.session(h.crossroads) != before {
			t.Fatalf("who stays ends on %s", v.at)
		}
		if v.decides(h.crossroads, ticket, "switch", "same-origin"); !strings.Contains(v.page, "confirm-over") {
			t.Errorf("an answer can be given twice:\n%s", v.page)
		}
		v.isAt(h.crossroads, h.account(0, "ada"))

		v.follow(h.landing(from, "bob"))
		if v.decides(h.crossroads, v.ticket(), "switch", "same-origin"); v.at.String() != h.forum+moodletest.SampleDeepLink {
			t.Fatalf("who switches ends on %s:\n%s", v.at, v.page)
		}
		v.isAt(h.crossroads, h.account(from, "bob"))
	}
}

func TestLearnersWithoutAnAccount(t *testing.T) {
	start := func(t *testing.T, add string) *headerForum {
		return newHeaderForum(t, headerSetting{landing: "{by: header, token_file: token}", token: webToken, home: ", auto_add_remote_users: " + add})
	}
	t.Run("are turned away", func(t *testing.T) {
		h := start(t, "existing")
		newVisitor(t).follow(h.landing(0, "ada")).refused(h, "account-missing")
		h.arrives(newVisitor(t), 1, "ada") // whose home has another rule
		if _, ok := h.moodle.User(h.account(0, "ada")); ok {
			t.Error("there is an account")
		}
	})
	t.Run("are asked", func(t *testing.T) {
		h := start(t, "ask")
		v := newVisitor(t).follow(h.landing(0, "ada"))
		if !strings.Contains(v.page, "You have no account here yet") || v.session(h.crossroads) != "" {
			t.Fatalf("the page:\n%s", v.page)
		}
		ticket := v.ticket()
		if v.decides(h.crossroads, ticket, "stay", "same-origin"); v.at.String() != h.homes[0]+"/" {
			t.Errorf("who wants none ends on %s:\n%s", v.at, v.page)
		}
		if _, ok := h.moodle.User(h.account(0, "ada")); ok {
			t.Error("there is an account")
		}
		v.decides(h.crossroads, ticket, "switch", "same-origin").refused(h, "confirm-over")
		v.follow(h.landing(0, "ada")).decides(h.crossroads, v.ticket(), "switch", "cross-site").refused(h, "form-foreign")
		v.follow(h.landing(0, "ada")).decides(h.crossroads, v.ticket(), "switch", "same-origin").isAt(h.crossroads, h.account(0, "ada"))
		v = h.arrives(newVisitor(t), 0, "ada") // and are not asked again
		v.follow(h.landing(0, "bob"))
		if !strings.Contains(v.page, "Ada Lovelace") || !strings.Contains(v.page, "if you switch, one is made") {
			t.Errorf("the page:\n%s", v.page)
		}
	})
	t.Run("are not known where the web service does not tell", func(t *testing.T) {
		h := newHeaderForum(t, headerSetting{landing: "{by: header, token_file: token}", token: "another", home: ", auto_add_remote_users: existing"})
		v := newVisitor(t).follow(h.landing(0, "ada"))
		if !strings.Contains(v.page, "a part of this site does not answer") || v.session(h.crossroads) != "" || strings.Contains(h.log.String(), webToken) {
			t.Errorf("the page:\n%s", v.page)
		}
	})
}

func TestWhoMayNotLand(t *testing.T) {
	for _, test := range []struct{ name, grants, home, rule string }{
		{"whom the access list leaves out", "", ", access: {deny: [ada]}", "user-access"},
		{"of a peer that is no home", "publish: [sso_idp], subscribe: [sso_sp]", "", "home-grant"},
		{"of a home that is switched off", "", ", enabled: false", "peer-off"},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHeaderForum(t, headerSetting{grants: test.grants, home: test.home})
			newVisitor(t).follow(h.landing(0, "ada")).refused(h, test.rule)
		})
	}
}

// TestLearnersOfOthersAreNotVouchedFor: a site that has taken a learner in itself
// does not send them on as its own. Their home does, if it is a peer.
func TestLearnersOfOthersAreNotVouchedFor(t *testing.T) {
	for name, s := range doors(t) {
		t.Run(name, func(t *testing.T) {
			s.grants, s.third = "publish: [sso_sp, sso_idp], subscribe: [sso_idp, sso_sp]", true
			s.users = func(*headerForum) []moodletest.User {
				return []moodletest.User{{Password: "pw", User: gateway.User{
					Username: "eve@gone.example", Auth: "shibboleth", FirstName: "Eve", LastName: "Gone", Email: "eve@gone.example"}}}
			}
			h := newHeaderForum(t, s)
			third := "hostwwwroot=" + url.QueryEscape(h.homes[1]) + "&wantsurl=" + url.QueryEscape("/x?a=1#p")
			v := newVisitor(t).follow(h.homes[0]+"/auth/mnet/jump.php?hostwwwroot="+url.QueryEscape(h.forum)).login("ada", "pw").isAt(h.crossroads, h.account(0, "ada"))
			v.follow(h.forum + "/auth/mnet/jump.php?" + third)
			if len(v.hops) != 2 || v.hops[0] != h.homes[0]+"/auth/mnet/jump.php?"+third+"&hub=1" ||
				!strings.HasPrefix(v.hops[1], h.homes[1]+"/auth/mnet/land.php?token=") || !strings.Contains(v.hops[1], "&idp="+h.homes[0]+"&") {
				t.Errorf("the jump leads by %q to %s:\n%s", v.hops, v.at, v.page)
			}
			v.follow(h.forum+"/auth/mnet/jump.php?"+third+"&hub=1").shows(t, "<dd>user-remote</dd>")
			v.follow(h.forum + "/auth/mnet/jump.php?hostwwwroot=" + url.QueryEscape(h.homes[0]) + "&wantsurl=/my/")
			if len(v.hops) != 1 || v.hops[0] != h.homes[0]+"/my/" {
				t.Errorf("to a page of their home they are led by %q", v.hops)
			}

			// Who follows the link first, and lands after that, goes on as well.
			v = newVisitor(t).follow(h.homes[0]+"/login/index.php").login("ada", "pw").follow(h.forum + "/auth/mnet/jump.php?" + third)
			v.follow(h.homes[0] + "/auth/mnet/jump.php?hostwwwroot=" + url.QueryEscape(h.forum) + "&wantsurl=/my/")
			if !strings.HasPrefix(v.at.String(), h.homes[1]+"/auth/mnet/land.php?token=") {
				t.Errorf("the jump that waited leads by %q to %s", v.hops, v.at)
			}

			if h.site.Landing.By == config.LandingOAuth2 {
				return // the site's own people may come by that, too
			}
			v = newVisitor(t).follow(h.forum+"/login/index.php").login("eve@gone.example", "pw")
			v.follow(h.forum+"/auth/mnet/jump.php?"+third).shows(t, "<dd>user-remote</dd>")
		})
	}
}

// shows fails the test unless the page that is shown has this in it.
func (v *visitor) shows(t *testing.T, want string) {
	t.Helper()
	if !strings.Contains(v.page, want) {
		t.Errorf("after %q, at %s, the page lacks %s:\n%s", v.hops, v.at, want, v.page)
	}
}

// identityHeaders are spellings of a header by which somebody would be logged in.
var identityHeaders = []string{
	"X-Jumpgate-Username: %s", "x-jumpgate-username: %s", "X-JUMPGATE-USERNAME: %s", "X_Jumpgate_Username: %s", "X-Jumpgate_Username: %s",
	"X_JUMPGATE_USERNAME: %s", "X.Jumpgate.Username: %s", "X~Jumpgate~Username: %s", "HTTP_X_JUMPGATE_USERNAME: %s", "X-Jumpgate-Username : %s",
	"X-Jumpgate-Username: a\r\nX-Jumpgate-Username: %s", "X-Jumpgate-Username: %[1]s\r\nx_jumpgate-username: %[1]s",
	"X-Jumpgate-Username:\r\n %s", "X-Other: a\r\n X-Jumpgate-Username: %s", "X-Other: a\nX-Jumpgate-Username: %s",
	"Connection: X-Jumpgate-Username\r\nX-Jumpgate-Username: %s", "X-Jumpgate-Username: %s\r\nConnection: close, x-jumpgate-username",
	"Connection: Host, User-Agent, Cookie, X-Forwarded-For\r\nX-Jumpgate-Username: %s",
	"X-Jumpgate-Username\x00: %s", "\x00X-Jumpgate-Username: %s", "X-Jumpgate-Username\t: %s", "X-Jumpgate-\xff_Username: %s",
}

// TestNoIdentityHeaderOfAClientReachesMoodle sends them as they are, to each
// address where the Moodle behind would believe them.
func TestNoIdentityHeaderOfAClientReachesMoodle(t *testing.T) {
	h := newHeaderForum(t, headerSetting{})
	h.arrives(newVisitor(t), 0, "ada")
	victim := h.account(0, "ada")
	var believed atomic.Pointer[string]
	through := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for _, headers := range []http.Header{r.Header, r.Trailer} {
				for name, values := range headers {
					if strings.Contains(strings.ToLower(name), "jumpgate") || name != "X-Other" && strings.Contains(strings.Join(values, " "), victim) {
						found := fmt.Sprintf("%s %s: %q: %q", r.Method, r.URL, name, values)
						believed.Store(&found)
					}
				}
			}
			next.ServeHTTP(w, r)
		})
	}
	h.through.Store(&through)
	form := "username=" + url.QueryEscape(victim) + "&password=x"
	for _, request := range []string{
		"GET /auth/shibboleth/index.php HTTP/1.1\r\n", "GET /auth/shibboleth/index.php?target=/ HTTP/1.1\r\n", "GET /auth/shibboleth/ HTTP/1.1\r\n",
		"GET //auth/../auth/shibboleth/index.php HTTP/1.1\r\n", "GET /my/ HTTP/1.1\r\n",
		"GET /auth/mnet/land.php?token=" + strings.Repeat("x", 40) + "&wantsurl=/&idp=" + h.homes[0] + " HTTP/1.1\r\n",
		"POST /auth/shibboleth/index.php HTTP/1.1\r\nContent-Length: 0\r\n",
		"POST /login/index.php HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: " + fmt.Sprint(len(form)) + "\r\n",
	} {
		for _, header := range identityHeaders {
			body := ""
			if strings.HasPrefix(request, "POST /login") {
				body = form
			}
			header = fmt.Sprintf(header, victim)
			answer := h.send(request + "Host: " + strings.TrimPrefix(h.forum, "http://") + "\r\n" + header + "\r\n\r\n" + body)
			if found := believed.Swap(nil); found != nil {
				t.Errorf("%q with %q: the Moodle behind sees %s", request, header, *found)
			}
			if strings.Contains(answer, "Lovelace") {
				t.Errorf("%q with %q logs in:\n%s", request, header, answer)
			}
		}
	}
	trailers := "POST /login/index.php HTTP/1.1\r\nHost: " + strings.TrimPrefix(h.forum, "http://") +
		"\r\nTransfer-Encoding: chunked\r\nTrailer: X-Jumpgate-Username\r\n\r\n1\r\na\r\n0\r\nX-Jumpgate-Username: " + victim + "\r\nX_Jumpgate_Username: " + victim + "\r\n\r\n"
	h.send(trailers)
	if found := believed.Load(); found != nil {
		t.Errorf("a trailer: the Moodle behind sees %s", *found)
	}
}

// TestNoClientReachesThePluginThatBelievesHeaders asks for its pages in the
// spellings of the web servers behind: its logout is an open redirect.
func TestNoClientReachesThePluginThatBelievesHeaders(t *testing.T) {
	h := newHeaderForum(t, headerSetting{})
	h.arrives(newVisitor(t), 0, "ada")
	var asked atomic.Pointer[string]
	through := func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked.Store(new(r.Method + " " + r.RequestURI))
			http.Redirect(w, r, "https://evil.example/", http.StatusSeeOther)
		})
	}
	h.through.Store(&through)
	for _, target := range []string{
		"/auth/shibboleth/logout.php?action=logout&return=https://evil.example/", "/auth/shibboleth/logout.php/LogoutNotification.wsdl",
		"/auth/shibboleth/index.php", "/auth/shibboleth/login.php", "/auth/shibboleth/", "/auth/shibboleth",
		"//auth//shibboleth/logout.php", "/auth/./shibboleth/logout.php", "/my/../auth/shibboleth/logout.php", "/auth/%73hibboleth/logout.php",
		"/auth%2Fshibboleth%2flogout.php", "/auth\\shibboleth\\logout.php", "/AUTH/Shibboleth/logout.php", "/auth/shibboleth;x/logout.php", "/auth/shibboleth./logout.php",
	} {
		for _, method := range []string{"GET", "POST"} {
			answer := h.send(method + " " + target + " HTTP/1.1\r\nHost: " + strings.TrimPrefix(h.forum, "http://") + "\r\nContent-Length: 0\r\n\r\n")
			if found := asked.Swap(nil); found != nil || !strings.HasPrefix(answer, "404") {
				t.Errorf("%s %s: the Moodle behind is asked: %t, and the answer is %.80q", method, target, found != nil, answer)
			}
		}
	}
	for _, target := range []string{"/auth/oauth2/login.php", "/mod/shibboleth/view.php", "/auth/shibboleth2/index.php"} {
		h.send("GET " + target + " HTTP/1.1\r\nHost: " + strings.TrimPrefix(h.forum, "http://") + "\r\n\r\n")
		if asked.Swap(nil) == nil {
			t.Errorf("%s is the Moodle's, and it is not asked", target)
		}
	}
}

// send writes a request to the forum's gateway, and returns what comes back
// within a moment.
func (h *headerForum) send(request string) string {
	h.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(h.forum, "http://"))
	if err != nil {
		h.t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		h.t.Fatal(err)
	}
	if _, err := io.WriteString(conn, request); err != nil {
		return "" // refused before it was read
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return ""
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return ""
	}
	return fmt.Sprint(res.Status, res.Header) + string(body)
}

// TestALearnerLandsByHeaderInABrowser shows that a browser keeps the cookie and the
// fragment, and lets the page that asks lead to us and to the home.
func TestALearnerLandsByHeaderInABrowser(t *testing.T) {
	ctx := browser(t, chromedp.UserAgent("Mozilla/5.0 (visitor)"))
	h := newHeaderForum(t, headerSetting{landing: "{by: header, token_file: token}", token: webToken, home: ", auto_add_remote_users: ask"})
	press := func(answer string) chromedp.Action[chromedp.Void] {
		return chromedp.Click(chromedp.CSS(`button[value="` + answer + `"]`))
	}
	err := chromedp.Do(ctx, chromedp.Navigate(h.landing(0, "ada")), press("stay"), chromedp.WaitVisible(chromedp.CSS(".logininfo")))
	at, locationErr := chromedp.Run(ctx, chromedp.Location())
	if err != nil || locationErr != nil || at != h.homes[0]+"/" {
		t.Errorf("who wants no account is at %s, %v, %v", at, err, locationErr)
	}
	for _, visit := range []struct {
		name, link string
		answers    []chromedp.Action[chromedp.Void]
		want       string
	}{
		{"who wants one", h.landing(0, "ada"), []chromedp.Action[chromedp.Void]{press("switch")}, h.account(0, "ada")},
		{"who has one", h.landing(0, "ada"), nil, h.account(0, "ada")},
		{"who changes", h.landing(1, "bob"), []chromedp.Action[chromedp.Void]{press("switch")}, h.account(1, "bob")},
	} {
		at, text := arrive(t, ctx, "p3", append([]chromedp.Action[chromedp.Void]{chromedp.Navigate(visit.link)}, visit.answers...)...)
		if at != h.forum+moodletest.SampleDeepLink || !strings.Contains(text, "Logged in as "+visit.want) {
			t.Errorf("%s: at %s the page says\n%s", visit.name, at, text)
		}
	}
}
